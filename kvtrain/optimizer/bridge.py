# SPDX-License-Identifier: Apache-2.0
"""Between raw state arrays and the nested NDArrays of classes that are written as for MXNet.

Such a class has ``create_state(index, weight)`` and ``update(index, weight, grad, state)`` on
NDArrays and knows nothing of servers; here its methods run on a server's raw arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kvtrain.context import cpu
from kvtrain.ndarray import NDArray

Array = np.ndarray[Any, Any]


def flat(state: Any) -> list[NDArray]:
    """The arrays of a state: None, an array, or any nesting of tuples, lists and None."""
    if state is None:
        return []
    if isinstance(state, tuple | list):
        return [array for part in state for array in flat(part)]
    return [state]


def nesting_of(state: Any) -> Any:
    """What :func:`rebuild` needs: the state with True in place of each array."""
    if isinstance(state, tuple | list):
        return type(state)(nesting_of(part) for part in state)
    return None if state is None else True


def rebuild(nesting: Any, arrays: Iterator[NDArray]) -> Any:
    """The state of this nesting with `arrays` in their order."""
    if isinstance(nesting, tuple | list):
        return type(nesting)(rebuild(part, arrays) for part in nesting)
    return None if nesting is None else next(arrays)


def to_plain(nesting: Any) -> Any:
    """A nesting as JSON can hold it."""
    if isinstance(nesting, tuple | list):
        kind = "tuple" if isinstance(nesting, tuple) else "list"
        return {kind: [to_plain(part) for part in nesting]}
    return nesting


def from_plain(plain: Any) -> Any:
    """The nesting that :func:`to_plain` described."""
    if isinstance(plain, dict):
        ((kind, parts),) = plain.items()
        return {"tuple": tuple, "list": list}[kind](from_plain(part) for part in parts)
    if plain not in (None, True):
        raise ValueError(f"state nesting {plain!r}")
    return plain


def state_arrays(optimizer: Any, weight: Array) -> tuple[Array, ...]:
    """What the class's own create_state() makes for a copy of `weight`."""
    state = optimizer.create_state_multi_precision(0, NDArray(weight.copy(), cpu()))
    optimizer._nesting = (nesting_of(state),)
    return tuple(array._read() for array in flat(state))


def nested(optimizer: Any, weight: Array, arrays: list[NDArray]) -> Any:
    """A state as create_state_multi_precision() nests it, from the record's arrays."""
    if optimizer._own_create_state:
        if optimizer._nesting is None:
            state_arrays(optimizer, weight)
        return rebuild(optimizer._nesting[0], iter(arrays))
    if optimizer._keeps_master(weight):
        pair = (arrays[0], optimizer._pack(arrays[1:]))
        return pair[::-1] if optimizer._master_last else pair
    return optimizer._pack(arrays)


def unnested(optimizer: Any, weight: Array, state: Any) -> list[NDArray]:
    """The record's arrays of a nested state, in their order."""
    pair = optimizer._keeps_master(weight) and not optimizer._own_create_state
    return flat(state[::-1] if pair and optimizer._master_last else state)


def update(
    optimizer: Any, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Any
) -> None:
    """Run the class's own update() on raw arrays, as update number ``hyper.t`` of the key."""
    held = nested(optimizer, weight, [NDArray(array, cpu()) for array in state])
    optimizer._index_update_count = {hyper.key: hyper.t - 1}
    optimizer.num_update = hyper.schedule_at - 1
    kept, optimizer.rescale_grad = optimizer.rescale_grad, hyper.rescale_grad
    try:
        wrapped = NDArray(weight, cpu())
        optimizer.update_multi_precision(hyper.key, wrapped, NDArray(grad.copy(), cpu()), held)
        if wrapped._read() is not weight:
            np.copyto(weight, wrapped._read())
    finally:
        optimizer.rescale_grad = kept

# SPDX-License-Identifier: Apache-2.0
"""``nd.contrib``: loops and choices over arrays. Recorded like any other code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.errors import OperatorError
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.invoke import invoke
from kvtrain.ops.registry import find

__all__ = ["cond", "foreach", "while_loop"]


def _flat(value: Any) -> tuple[list[NDArray], Any]:
    """Arrays of nested lists, and how to nest them again."""
    if isinstance(value, NDArray):
        return [value], None
    if isinstance(value, list | tuple):
        arrays: list[NDArray] = []
        forms = []
        for part in value:
            inner, form = _flat(part)
            forms.append((len(inner), form))
            arrays += inner
        return arrays, forms
    raise OperatorError(f"{type(value).__name__} is neither an NDArray nor a list of them")


def _nested(arrays: list[NDArray], form: Any) -> Any:
    if form is None:
        return arrays[0]
    made, at = [], 0
    for count, inner in form:
        made.append(_nested(arrays[at : at + count], inner))
        at += count
    return made


def _stack(arrays: list[NDArray]) -> NDArray:
    result: NDArray = invoke(find("stack"), arrays, {"axis": 0})
    return result


def foreach(body: Callable[..., Any], data: Any, init_states: Any) -> tuple[Any, Any]:
    """Run `body` on each slice of `data` along axis 0, handing on the states.

    Parameters
    ----------
    body : callable
        ``body(slice, states) -> (outputs, states)``.
    data, init_states : NDArray or (nested) list of NDArray

    Returns
    -------
    outputs of all steps stacked along a new axis 0, and the last states
    """
    arrays, form = _flat(data)
    if not arrays:
        raise OperatorError("foreach: no data")
    _flat(init_states)
    states = init_states
    steps = arrays[0].shape[0]
    if any(a.shape[0] != steps for a in arrays):
        shapes = ", ".join(str(a.shape) for a in arrays)
        raise OperatorError(f"foreach: data of shapes {shapes} differ along axis 0")
    collected: list[list[NDArray]] = []
    shape: Any = None
    for i in range(steps):
        outputs, states = body(_nested([a[i] for a in arrays], form), states)
        flat, shape = _flat(outputs)
        collected.append(flat)
    stacked = [_stack(list(parts)) for parts in zip(*collected, strict=True)]
    return (_nested(stacked, shape) if stacked else []), states


def while_loop(
    cond: Callable[..., Any],
    func: Callable[..., Any],
    loop_vars: Any,
    max_iterations: int | None = None,
) -> tuple[Any, Any]:
    """Run `func` while `cond` holds, at most `max_iterations` times.

    Parameters
    ----------
    cond : callable
        ``cond(*loop_vars)`` gives an array of one element (or a boolean).
    func : callable
        ``func(*loop_vars) -> (step outputs, new loop_vars)``.

    Returns
    -------
    outputs stacked along a new axis 0 of size `max_iterations` (zeros where no step ran), and
    the last loop variables
    """
    if max_iterations is None:
        raise ValueError("max_iterations should be specified")
    limit = int(max_iterations)
    many = isinstance(loop_vars, list | tuple)
    current = list(loop_vars) if many else [loop_vars]
    if not current:
        raise ValueError("loop_vars should contain at least one element")
    collected: list[list[NDArray]] = []
    shape: Any = None
    while len(collected) < limit and bool(cond(*current)):
        outputs, new = func(*current)
        flat, shape = _flat([] if outputs is None else outputs)
        collected.append(flat)
        new = list(new) if isinstance(new, list | tuple) else [new]
        if len(new) != len(current):
            raise ValueError(f"func gave {len(new)} loop_vars of {len(current)}")
        current = new
    stacked = []
    for parts in zip(*collected, strict=True):
        whole = _stack(list(parts))
        if len(collected) < limit:
            rest = (limit - len(collected), *whole.shape[1:])
            zeros = NDArray(np.zeros(rest, whole.dtype), whole._ctx)
            whole = invoke(find("Concat"), [whole, zeros], {"dim": 0})
        stacked.append(whole)
    return (_nested(stacked, shape) if stacked else []), (current if many else current[0])


def cond(pred: Any, then_func: Callable[[], Any], else_func: Callable[[], Any]) -> Any:
    """``then_func()`` if `pred` (an array of one element) is not 0, else ``else_func()``."""
    if isinstance(pred, NDArray) and pred.size != 1:
        raise ValueError(f"pred has shape {pred.shape}; one element is needed")
    return then_func() if bool(pred) else else_func()

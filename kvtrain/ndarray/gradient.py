# SPDX-License-Identifier: Apache-2.0
"""Backward passes on NDArrays: heads in, gradients into the variables."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.autograd.tape import Leaf, Walk, state
from kvtrain.errors import AutogradError
from kvtrain.kernels import xp
from kvtrain.kernels.stored import Csr, Rows, dense
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.stored.array import raw_of


def as_list(value: Any) -> list[Any]:
    """A list or tuple as a list, anything else as a list of one."""
    return list(value) if isinstance(value, list | tuple) else [value]


class Scope:
    """A ``with`` that sets the flags and puts the old ones back. None: left alone."""

    __slots__ = ("_new", "_old")

    def __init__(self, recording: bool | None, training: bool | None) -> None:
        self._new = (recording, training)
        self._old: list[tuple[bool, bool]] = []

    def __enter__(self) -> None:
        self._old.append((state.recording, state.training))
        recording, training = self._new
        if recording is not None:
            state.recording = recording
        if training is not None:
            state.training = training

    def __exit__(self, *exc: Any) -> None:
        state.recording, state.training = self._old.pop()


def graph_heads(heads: Any, head_grads: Any, lifted: bool) -> list[tuple[Any, Any]]:
    heads = as_list(heads)
    grads = [None] * len(heads) if head_grads is None else as_list(head_grads)
    if len(grads) != len(heads):
        raise AutogradError(f"{len(grads)} head gradients for {len(heads)} heads")
    pairs = []
    for head, grad in zip(heads, grads, strict=True):
        if head._entry is None:
            raise AutogradError(
                "cannot differentiate an array that is not in a computational graph: compute it "
                "inside autograd.record() from arrays that have attach_grad()"
            )
        raw = np.ones_like(head._read()) if grad is None else grad._read()
        if raw.shape != head.shape:
            raise AutogradError(f"head gradient of shape {raw.shape} for a head of {head.shape}")
        if lifted:
            raw = NDArray(raw, head._ctx) if grad is None else grad
        pairs.append((head._entry, raw))
    return pairs


def backward(
    heads: Any, head_grads: Any = None, retain_graph: bool = False, train_mode: bool = True
) -> None:
    """Gradients of `heads` into the variables they depend on.

    Parameters
    ----------
    heads : NDArray or list of NDArray
        What to differentiate.
    head_grads : NDArray, list or None
        Gradients of the heads; None: ones.
    retain_graph : bool
        Keep the graph for another backward.
    train_mode : bool
        Whether the backward pass runs in training mode.
    """
    walk = Walk(xp)
    pairs = graph_heads(heads, head_grads, False)
    size = sum([raw.size for _, raw in pairs])

    wanted = False

    def done(leaf: Leaf, grad: Any) -> None:
        nonlocal wanted
        wanted = wanted or leaf.req != "null"
        _deliver(leaf, grad)
        if leaf.ready is not None:
            leaf.ready(size)

    with Scope(False, train_mode), np.errstate(all="ignore"):
        walk.run(pairs, retain_graph=retain_graph, done=None if retain_graph else done)
    for leaf, grad in walk.leaves.items():
        wanted = wanted or leaf.req != "null"
        _deliver(leaf, grad)
    if not wanted:
        raise AutogradError(
            "backward: every variable that the heads depend on has grad_req='null'; "
            "attach_grad('write') or 'add' to one of them"
        )


def _deliver(leaf: Leaf, grad: Any) -> None:
    array = leaf.array()
    if leaf.req == "null" or array is None or array._grad is None or array._entry is not leaf:
        return
    array._fresh_grad = True
    target = array._grad
    grad = np.zeros(target.shape, target.dtype) if grad is None else grad
    if leaf.req == "add" and target._sparse:
        target._receive(raw_of(target) + grad)
    elif leaf.req == "add":
        raw = target._write()
        np.add(raw, dense(grad), out=raw, casting="unsafe")
    elif target._sparse or isinstance(grad, Rows | Csr):
        target._receive(grad)
    else:
        np.copyto(target._overwrite(), grad, casting="unsafe")


def _backward(
    self: NDArray, out_grad: Any = None, retain_graph: bool = False, train_mode: bool = True
) -> None:
    """Gradients of this array into the variables it depends on; see autograd.backward."""
    backward([self], None if out_grad is None else [out_grad], retain_graph, train_mode)


def install() -> None:
    """Give NDArray its method ``backward``."""
    setattr(NDArray, "backward", _backward)  # noqa: B010

# SPDX-License-Identifier: Apache-2.0
"""The single door to operators: unwrap, run, wrap, record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kvtrain.autograd.tape import Node, state
from kvtrain.context import Context, current_context
from kvtrain.errors import KVTrainError, OperatorError
from kvtrain.kernels import xp
from kvtrain.kernels.quiet import hush, restore
from kvtrain.ndarray.array import NDArray
from kvtrain.ops.registry import Op

Array = np.ndarray[Any, Any]
ndarray = np.ndarray
new = NDArray.__new__


def _own(out: Any, raws: Sequence[Any]) -> Array:
    """`out` as an array that shares no memory with the inputs."""
    if type(out) is not np.ndarray:
        out = np.asarray(out)
    if out.base is None:
        for raw in raws:
            if out is raw:
                return np.array(out, order="C")
        if out.flags.writeable:
            return out
    for raw in raws:
        if np.may_share_memory(out, raw):
            return np.array(out, order="C")
    return out


def invoke(
    op: Op,
    inputs: Sequence[NDArray],
    attrs: dict[str, Any],
    out: Any = None,
    ctx: Context | None = None,
) -> Any:
    """Run `op`; returns an NDArray, or a list of them for several outputs.

    Raises
    ------
    OperatorError
        The operator cannot take these inputs; names it, their shapes and its attributes.
    """
    raws = [a._raw if a._storage is None else a._read() for a in inputs]
    if op.modal:
        attrs = {**attrs, "training": state.training}
    before = hush()
    try:
        result = op.forward(xp, *raws, **attrs) if attrs else op.forward(xp, *raws)
    except KVTrainError:
        raise
    except (ValueError, TypeError, IndexError, KeyError) as error:
        shapes = ", ".join(str(raw.shape) for raw in raws)
        raise OperatorError(
            f"{op.name.strip('_')}: {error} (inputs of shape {shapes}; attributes {attrs})"
        ) from error
    finally:
        restore(before)
    if ctx is None:
        ctx = inputs[0]._ctx if inputs else current_context()
    if type(result) is tuple:
        owned = tuple([_own(r, raws) for r in result])
        node = _record(op, inputs, raws, owned, attrs) if state.recording else None
        if out is not None:
            return _into(out, owned, node)
        arrays = [NDArray(raw, ctx) for raw in owned]
        if node is not None:
            for slot, made in enumerate(arrays):
                made._entry = (node, slot)
        return arrays
    raw = result
    if type(raw) is not ndarray or raw.base is not None:
        raw = _own(result, raws)
    else:
        for given in raws:
            if given is raw:
                raw = raw.copy()
    node = _record(op, inputs, raws, raw, attrs) if state.recording else None
    if out is not None:
        return _into(out, (raw,), node)
    # what NDArray.__init__ does, without the call
    array = new(NDArray)
    array._raw = raw
    array._ctx = ctx
    array._storage = array._grad = None
    array._entry = None if node is None else (node, 0)
    return array


def _record(
    op: Op, inputs: Sequence[NDArray], raws: list[Array], kept: Any, attrs: dict[str, Any]
) -> Node | None:
    """A node of the tape, if any input is in the graph."""
    if op.vjp is None and op.public:
        return None
    parents = tuple([a._entry for a in inputs])
    for entry in parents:
        if entry is not None:
            return Node(op, parents, raws, kept, attrs)
    return None


def _into(out: Any, owned: Sequence[Array], node: Node | None) -> Any:
    """Write results into the arrays given as ``out=``."""
    targets = out if isinstance(out, list | tuple) else [out]
    for slot, (target, raw) in enumerate(zip(targets, owned, strict=False)):
        if target.shape != raw.shape:
            raise OperatorError(f"out has shape {target.shape}, the result has {raw.shape}")
        np.copyto(target._write_in_graph(), raw, casting="unsafe")
        if node is not None:
            target._entry = (node, slot)
    return out

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
from kvtrain.kernels.stored import Csr, Rows
from kvtrain.ndarray.array import NDArray, SparseOperand
from kvtrain.ndarray.stored.array import raw_of, wrap
from kvtrain.ndarray.stored.rules import find_rule
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
    try:
        raws = [a._raw if a._storage is None else a._operand() for a in inputs]
    except SparseOperand:
        return _invoke_sparse(op, inputs, attrs, out, ctx)
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
            f"{op.name.strip('_')}: {str(error).removeprefix(op.name + ': ')} "
            f"(inputs of shape {shapes}; attributes {attrs})"
        ) from error
    finally:
        restore(before)
    if ctx is None:
        ctx = inputs[0]._ctx if inputs else current_context()
    if type(result) is tuple:
        owned = tuple([_own(r, raws) for r in result])
        node = _record(op, inputs, raws, owned, attrs) if state.recording else None
        shown = owned if op.visible is None else owned[: op.visible(attrs)]
        if out is not None:
            return _into(out, shown, node)
        arrays = [NDArray(raw, ctx) for raw in shown]
        if node is not None:
            for slot, made in enumerate(arrays):
                made._entry = (node, slot)
        return arrays[0] if op.visible is not None and len(arrays) == 1 else arrays
    raw = result
    if type(raw) is not ndarray or raw.base is not None:
        if isinstance(raw, Rows | Csr):
            return _finish(op, inputs, raws, raw, attrs, out, ctx)
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


def _invoke_sparse(
    op: Op, inputs: Sequence[NDArray], attrs: dict[str, Any], out: Any, ctx: Context | None
) -> Any:
    """Run the operator's sparse rule, or the operator on dense copies where it has none."""
    found = find_rule(op)
    if found is not None:
        forward, recorded = found
        raws = [raw_of(a) for a in inputs]
        before = hush()
        try:
            result = forward(xp, *raws, **attrs)
        except (ValueError, TypeError, IndexError) as error:
            shapes = ", ".join(f"{a.stype} {a.shape}" for a in inputs)
            raise OperatorError(
                f"{op.name.strip('_')}: {error} (inputs {shapes}; attributes {attrs})"
            ) from error
        finally:
            restore(before)
        if result is not NotImplemented:
            return _finish(recorded, inputs, raws, result, attrs, out, ctx or inputs[0]._ctx)
    copies = []
    for array in inputs:
        if array._sparse:
            entry = array._entry
            array = NDArray(array._read(), array._ctx)
            array._entry = entry
        copies.append(array)
    return invoke(op, copies, attrs, out, ctx)


def _finish(
    op: Op, inputs: Sequence[NDArray], raws: list[Any], raw: Any, attrs: Any, out: Any, ctx: Any
) -> Any:
    """Record and wrap a result that may be stored sparsely."""
    node = _record(op, inputs, raws, raw, attrs) if state.recording else None
    if out is not None:
        return _into(out, (raw,), node)
    array = wrap(raw, ctx)
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
        target._assign(raw)
        if node is not None:
            target._entry = (node, slot)
    return out

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
from kvtrain.ndarray.array import NDArray
from kvtrain.ops.registry import Op

Array = np.ndarray[Any, Any]


def _own(out: Any, raws: Sequence[Any]) -> Array:
    """`out` as an array that shares no memory with the inputs."""
    if type(out) is not np.ndarray:
        out = np.asarray(out)
    if out.base is not None or not out.flags.writeable:
        for raw in raws:
            if np.may_share_memory(out, raw):
                return np.array(out, order="C")
    else:
        for raw in raws:
            if out is raw:
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
    raws = [a._read() for a in inputs]
    if op.modal:
        attrs = {**attrs, "training": state.training}
    try:
        with np.errstate(all="ignore"):
            result = op.forward(xp, *raws, **attrs)
    except KVTrainError:
        raise
    except (ValueError, TypeError, IndexError, KeyError) as error:
        shapes = ", ".join(str(raw.shape) for raw in raws)
        raise OperatorError(
            f"{op.name.strip('_')}: {error} (inputs of shape {shapes}; attributes {attrs})"
        ) from error
    many = isinstance(result, tuple)
    owned = tuple(_own(r, raws) for r in result) if many else (_own(result, raws),)
    if ctx is None:
        ctx = inputs[0]._ctx if inputs else current_context()
    node = None
    if state.recording and (op.vjp is not None or not op.public):
        parents = tuple([a._entry for a in inputs])
        for entry in parents:
            if entry is not None:
                node = Node(op, parents, raws, owned if many else owned[0], attrs)
                break
    if out is not None:
        return _into(out, owned, node)
    arrays = []
    for slot, raw in enumerate(owned):
        array = NDArray(raw, ctx)
        if node is not None:
            array._entry = (node, slot)
        arrays.append(array)
    return arrays if many else arrays[0]


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

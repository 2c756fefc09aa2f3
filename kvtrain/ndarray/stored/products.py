# SPDX-License-Identifier: Apache-2.0
"""Sparse rules of reductions, products and look-ups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.kernels.stored import Csr, Rows, cast_storage, dense
from kvtrain.ndarray.stored.rules import rule
from kvtrain.ops.broadcast import axes_of
from kvtrain.ops.registry import find

# ---- reductions ----------------------------------------------------------------------------


def _reduced(data: Any, axes: tuple[int, ...], keepdims: bool, values: Any) -> Any:
    """Sum of `values`, which stand where `data` stores its own, over some axes; dense."""
    kind = values.dtype
    if not isinstance(data, Csr) or len(axes) != 1:
        total = values.sum(dtype=kind)
        shape = (1,) * len(data.shape) if keepdims else (1,)
        return np.asarray(total, kind).reshape(shape)
    axis = axes[0]
    where = data.indices if axis == 0 else data.rows()
    out = np.bincount(where, weights=values, minlength=data.shape[1 - axis]).astype(kind)
    return np.expand_dims(out, axis) if keepdims else out


def _sums(data: Any, axis: Any, keepdims: bool, exclude: bool, values: Any) -> Any:
    axes = axes_of(axis, len(data.shape), exclude)
    if isinstance(data, Csr):
        return _reduced(data, axes, keepdims, values) if axes else NotImplemented
    if len(axes) == len(data.shape):
        return _reduced(data, axes, keepdims, values)
    if 0 in axes:
        rest = values.sum(axis=axes, keepdims=keepdims, dtype=values.dtype)
        return rest
    out = values.sum(axis=axes, keepdims=keepdims, dtype=values.dtype)
    return Rows(data.ids, out, (data.shape[0], *out.shape[1:])).dense()


def _held(data: Any) -> tuple[Any, Any]:
    held = data.canonical()
    return held, held.values if isinstance(held, Rows) else held.data


@rule("sum")
def _sum(xp: Any, data: Any, *, axis: Any, keepdims: bool, exclude: bool) -> Any:
    held, values = _held(data)
    return _sums(held, axis, keepdims, exclude, values)


@rule("mean")
def _mean(xp: Any, data: Any, *, axis: Any, keepdims: bool, exclude: bool) -> Any:
    held, values = _held(data)
    total = _sums(held, axis, keepdims, exclude, values)
    if total is NotImplemented or values.dtype.kind != "f":
        return NotImplemented
    count = int(np.prod([data.shape[a] for a in axes_of(axis, len(data.shape), exclude)]))
    return total / values.dtype.type(count)


@rule("norm")
def _norm(xp: Any, data: Any, *, ord: int, axis: Any, keepdims: bool, **rest: Any) -> Any:
    if ord not in (1, 2) or any(value is not None for value in rest.values()):
        return NotImplemented
    held, values = _held(data)
    powers = np.abs(values) if ord == 1 else values * values
    total = _sums(held, axis, keepdims, False, powers)
    return total if total is NotImplemented or ord == 1 else np.sqrt(total)


@rule("_square_sum")
def _square_sum(xp: Any, data: Any, *, axis: Any, keepdims: bool, exclude: bool) -> Any:
    if not isinstance(data, Rows):
        return NotImplemented
    held, values = _held(data)
    axes = axes_of(axis, len(data.shape), exclude)
    if axes == (1,) and keepdims and len(data.shape) == 2:
        squares = (values * values).sum(axis=1, keepdims=True, dtype=values.dtype)
        return Rows(held.ids, squares, (data.shape[0], 1))
    return _sums(held, axis, keepdims, exclude, values * values)


# ---- products ------------------------------------------------------------------------------


def _product(xp: Any, data: Csr, other: Any, transpose: bool) -> Any:
    """A matrix, or its transpose as :class:`Rows`, times a dense one."""
    held = data.canonical()
    if transpose:
        return xp.csr_transposed_dot(held.data, held.indices, held.rows(), other, held.shape[1])
    return xp.csr_dot(held.data, held.indices, held.indptr, other)


def _dot_vjp(
    xp: Any,
    g: Any,
    out: Any,
    lhs: Any,
    rhs: Any,
    *,
    transpose_a: bool,
    transpose_b: bool,
    forward_stype: Any,
) -> tuple[Any, ...]:
    slopes = find("dot").vjp
    assert slopes is not None
    attrs = {"transpose_a": transpose_a, "transpose_b": transpose_b, "forward_stype": None}
    if isinstance(lhs, Csr) and isinstance(g, np.ndarray) and not transpose_b:
        # of the sparse matrix itself MXNet gives no gradient but by way of dense copies
        def left() -> Any:
            return slopes(xp, g, out, dense(lhs), dense(rhs), **attrs)[0]()

        return left, lambda: _product(xp, lhs, g, not transpose_a)
    return slopes(xp, g, dense(out), dense(lhs), dense(rhs), **attrs)


@rule("dot", vjp=_dot_vjp)
def _dot(
    xp: Any, lhs: Any, rhs: Any, *, transpose_a: bool, transpose_b: bool, forward_stype: Any
) -> Any:
    if lhs.dtype != rhs.dtype:
        raise ValueError(f"dtypes {lhs.dtype} and {rhs.dtype} differ; convert one with astype()")
    if lhs.ndim != 2 or rhs.ndim != 2 or lhs.dtype.kind != "f":
        return NotImplemented
    inner = lhs.shape[0] if transpose_a else lhs.shape[1]
    if inner != (rhs.shape[1] if transpose_b else rhs.shape[0]):
        raise ValueError(
            f"shapes {lhs.shape} and {rhs.shape} with transpose_a={transpose_a}, "
            f"transpose_b={transpose_b} do not fit"
        )
    if isinstance(lhs, Csr) and not isinstance(rhs, Csr):
        if transpose_b:
            rhs = np.ascontiguousarray(dense(rhs).T)
        elif isinstance(rhs, Rows) and not transpose_a:
            rhs, lhs = _gathered(lhs, rhs)
        result = _product(xp, lhs, dense(rhs), transpose_a)
        if forward_stype is None:
            return result
    elif isinstance(lhs, np.ndarray) and isinstance(rhs, Csr):
        # (rhs^T lhs^T)^T
        left = np.ascontiguousarray(lhs if transpose_a else lhs.T)
        result = np.ascontiguousarray(dense(_product(xp, rhs, left, not transpose_b)).T)
        forward_stype = forward_stype or ("default" if transpose_a else "csr")
    else:
        return NotImplemented
    return cast_storage(dense(result) if result.ndim else result, forward_stype)


def _gathered(lhs: Csr, rhs: Rows) -> tuple[Any, Csr]:
    """The stored rows of `rhs` as a dense table, and `lhs` with columns renumbered to it."""
    held, table = lhs.canonical(), rhs.canonical()
    places = np.searchsorted(table.ids, held.indices)
    found = np.zeros(held.indices.size, bool)
    if table.ids.size:
        places = np.minimum(places, table.ids.size - 1)
        found = table.ids[places] == held.indices
    counts = np.bincount(held.rows()[found], minlength=held.shape[0])
    indptr = np.zeros(held.shape[0] + 1, np.int64)
    np.cumsum(counts, out=indptr[1:])
    shape = (held.shape[0], table.ids.size)
    return table.values, Csr(held.data[found], places[found], indptr, shape)


# ---- look-ups and joins --------------------------------------------------------------------


def _embedding_vjp(name: str) -> Callable[..., Any]:
    slope = find(name).vjp
    assert slope is not None

    def vjp(xp: Any, g: Any, out: Any, data: Any, weight: Any, **attrs: Any) -> tuple[Any, ...]:
        # the table may be large: only its shape is needed
        if isinstance(weight, Rows):
            weight = np.broadcast_to(np.zeros((), weight.dtype), weight.shape)
        found: tuple[Any, ...] = slope(xp, g, out, dense(data), weight, **attrs)
        return found

    return vjp


@rule("Embedding", vjp=_embedding_vjp("Embedding"))
@rule("_contrib_SparseEmbedding", vjp=_embedding_vjp("_contrib_SparseEmbedding"))
def _embedding(xp: Any, data: Any, weight: Any, **attrs: Any) -> Any:
    if not isinstance(weight, Rows) or not isinstance(data, np.ndarray):
        return NotImplemented
    rows = np.clip(data.astype(np.int64), 0, weight.shape[0] - 1)
    taken = weight.take(rows.reshape(-1)).values
    return taken.reshape(*data.shape, *weight.shape[1:])


@rule("take")
def _take(xp: Any, a: Any, indices: Any, *, axis: int, mode: str) -> Any:
    if not isinstance(a, Csr) or axis != 0 or not isinstance(indices, np.ndarray):
        return NotImplemented
    rows = indices.reshape(-1).astype(np.int64)
    if indices.ndim != 1 or mode not in ("clip", "wrap") or not a.shape[0]:
        return NotImplemented
    rows = np.clip(rows, 0, a.shape[0] - 1) if mode == "clip" else rows % a.shape[0]
    held = a.canonical()
    counts = np.diff(held.indptr)[rows]
    indptr = np.zeros(rows.size + 1, np.int64)
    np.cumsum(counts, out=indptr[1:])
    at = np.repeat(held.indptr[rows] - indptr[:-1], counts) + np.arange(indptr[-1])
    return Csr(held.data[at], held.indices[at], indptr, (rows.size, a.shape[1]))


@rule("Concat")
def _concat(xp: Any, *arrays: Any, dim: int) -> Any:
    if dim != 0 or not all(isinstance(a, Csr) for a in arrays):
        return NotImplemented
    if len({a.shape[1] for a in arrays}) != 1 or len({a.dtype for a in arrays}) != 1:
        return NotImplemented
    ends = np.cumsum([0, *(int(a.indptr[-1]) for a in arrays)])
    starts = [a.indptr[:-1] + end for a, end in zip(arrays, ends, strict=False)]
    return Csr(
        np.concatenate([a.data for a in arrays]),
        np.concatenate([a.indices for a in arrays]),
        np.concatenate([*starts, ends[-1:]]),
        (sum(a.shape[0] for a in arrays), arrays[0].shape[1]),
    )


@rule("_contrib_getnnz")
def _getnnz(xp: Any, data: Any, *, axis: Any) -> Any:
    if not isinstance(data, Csr):
        raise ValueError("takes a csr array")
    if axis is None:
        return np.array([data.data.size], np.int64)
    if axis != 1:
        raise ValueError(f"axis={axis}; None and 1 are supported")
    return np.diff(data.indptr)

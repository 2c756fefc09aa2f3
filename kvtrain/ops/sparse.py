# SPDX-License-Identifier: Apache-2.0
"""Operators that MXNet has for sparse arrays; their forms on dense ones, and gradients.

What they do to sparse arrays is in ``kvtrain.ndarray.stored``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.attribute import Shape
from kvtrain.ops.broadcast import axes_of
from kvtrain.ops.registry import find, op


@op("cast_storage", vjp=lambda xp, g, out, a, *, stype: (g,), methods=("cast_storage",))
def _cast_storage(xp: Any, data: Any, /, *, stype: str) -> Any:
    """The same values in storage ``'default'``, ``'row_sparse'`` or ``'csr'``."""
    return xp.cast_storage(data, stype=stype)


def _retain_vjp(xp: Any, g: Any, out: Any, data: Any, indices: Any) -> tuple[Any, ...]:
    rows = np.asarray(indices.asnumpy() if hasattr(indices, "asnumpy") else indices)
    mask = np.zeros((data.shape[0],) + (1,) * (len(data.shape) - 1), np.dtype(data.dtype))
    mask[rows.reshape(-1).astype(np.int64)] = 1
    return g * np.broadcast_to(mask, tuple(data.shape)), None


@op("_sparse_retain", vjp=_retain_vjp, methods=("_sparse_retain",), public=False)
def _sparse_retain(xp: Any, data: Any, indices: Any, /) -> Any:
    """Only the rows `indices` of a row_sparse array; those not stored come as zeros."""
    raise ValueError("takes a row_sparse array; convert with tostype('row_sparse')")


def _square_sum_vjp(
    xp: Any, g: Any, out: Any, a: Any, *, axis: Any, keepdims: bool, exclude: bool
) -> tuple[Any, ...]:
    axes = axes_of(axis, len(a.shape), exclude)
    kept = tuple(1 if i in axes else n for i, n in enumerate(a.shape))
    return (xp.reshape(g, kept) * a * 2,)


@op("_square_sum", vjp=_square_sum_vjp, public=False)
def _square_sum(
    xp: Any, data: Any, /, *, axis: Shape = None, keepdims: bool = False, exclude: bool = False
) -> Any:
    """Sum of squares over `axis`."""
    axes = axes_of(axis, data.ndim, exclude)
    out = np.asarray(xp.sum(data * data, axis=axes, keepdims=keepdims), data.dtype)
    return out.reshape((1,)) if out.ndim == 0 else out


def _same_as(name: str, wanted: str, doc: str) -> None:
    """Register `name` as operator `wanted`, which differs only for sparse arrays."""
    known = find(wanted)

    def two(xp: Any, lhs: Any, rhs: Any, /) -> Any:
        return known.forward(xp, lhs, rhs)

    def scalar(xp: Any, data: Any, /, *, scalar: float) -> Any:
        return known.forward(xp, data, scalar=scalar)

    op(name, vjp=known.vjp, public=False, doc=doc)(two if len(known.inputs) == 2 else scalar)


_same_as("_scatter_elemwise_div", "divide", "Quotient; of row_sparse arrays the stored rows only.")
_same_as("_scatter_plus_scalar", "_add_scalar", "Sum; of sparse arrays the stored values only.")
_same_as(
    "_scatter_minus_scalar",
    "_subtract_scalar",
    "Difference; of sparse arrays the stored values only.",
)


@op("_contrib_getnnz", vjp=None, public=False)
def _getnnz(xp: Any, data: Any, /, *, axis: Shape = None) -> Any:
    """Number of stored elements of a csr array, of the whole or (axis=1) of each row."""
    raise ValueError("takes a csr array; convert with tostype('csr')")


def _sparse_embedding_vjp(
    xp: Any, g: Any, out: Any, data: Any, weight: Any, *, deterministic: bool, **attrs: Any
) -> tuple[Any, ...]:
    slope = find("Embedding").vjp
    assert slope is not None
    found: tuple[Any, ...] = slope(xp, g, out, data, weight, sparse_grad=True, **attrs)
    return found


@op("_contrib_SparseEmbedding", vjp=_sparse_embedding_vjp, public=False)
def _sparse_embedding(
    xp: Any,
    data: Any,
    weight: Any,
    /,
    *,
    input_dim: int = 0,
    output_dim: int = 0,
    dtype: str = "float32",
    deterministic: bool = False,
) -> Any:
    """Rows of `weight` at the integers in `data`; its gradient is row_sparse."""
    return find("Embedding").forward(xp, data, weight)

# SPDX-License-Identifier: Apache-2.0
"""Sparse rules of operators that move values: copies, conversions, slices, chosen rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.kernels.stored import Csr, Rows
from kvtrain.ndarray.stored.rules import rule


@rule("cast_storage")
def _cast_storage(xp: Any, data: Any, *, stype: str) -> Any:
    out = xp.cast_storage(data, stype=stype)
    return out.copy() if out is data else out


@rule("identity", "BlockGrad", "make_loss")
def _copy(xp: Any, data: Any) -> Any:
    return data.copy()


@rule("zeros_like")
def _zeros_like(xp: Any, data: Any) -> Any:
    return type(data).zeros(data.shape, data.dtype)


@rule("_sparse_retain")
def _retain(xp: Any, data: Any, indices: Any) -> Any:
    if not isinstance(data, Rows) or not isinstance(indices, np.ndarray):
        raise ValueError("takes a row_sparse array and dense indices")
    ids = indices.reshape(-1).astype(np.int64)
    if ids.size and (ids.min() < 0 or ids.max() >= data.shape[0]):
        raise ValueError(
            f"row {ids.min() if ids.min() < 0 else ids.max()} of an array of {data.shape[0]} rows"
        )
    return data.take(ids)


def _bounds(begin: Any, end: Any, step: Any, shape: tuple[int, ...]) -> Any:
    """(low, high) of each dimension of a matrix; None: a step other than 1."""
    begins = (begin,) if isinstance(begin, int) or begin is None else tuple(begin)
    ends = (end,) if isinstance(end, int) or end is None else tuple(end)
    steps = tuple(step) if step else (None,) * len(begins)
    if any(s not in (None, 1) for s in steps) or not len(begins) == len(ends) <= 2:
        return None
    found = []
    for axis, size in enumerate(shape):
        part = slice(begins[axis], ends[axis]) if axis < len(begins) else slice(None)
        low, high, _ = part.indices(size)
        found.append((low, max(low, high)))
    return found


@rule("slice")
def _slice(xp: Any, data: Any, *, begin: Any, end: Any, step: Any) -> Any:
    bounds = _bounds(begin, end, step, data.shape) if isinstance(data, Csr) else None
    if bounds is None:
        return NotImplemented
    (low, high), (left, right) = bounds
    part = data.canonical().part(low, high)
    if (left, right) == (0, data.shape[1]):
        return part
    kept = (part.indices >= left) & (part.indices < right)
    counts = np.bincount(part.rows()[kept], minlength=high - low)
    indptr = np.zeros(high - low + 1, np.int64)
    np.cumsum(counts, out=indptr[1:])
    return Csr(part.data[kept], part.indices[kept] - left, indptr, (high - low, right - left))

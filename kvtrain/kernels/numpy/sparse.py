# SPDX-License-Identifier: Apache-2.0
"""Products with sparse matrices, and gradients that are some rows of a table."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.kernels.stored import Rows

Array = np.ndarray[Any, Any]
#: elements of one intermediate block
BLOCK = 256 * 1024


def _segments(weights: Array, columns: Array, starts: Array, other: Array, out: Array) -> None:
    """``out[i] = sum of weights[k] * other[columns[k]]`` for k from starts[i] to the next.

    No segment is empty. Products are added in their order.
    """
    width = other.shape[1]
    bounds = np.append(starts, weights.size)
    low = 0
    while low < starts.size:
        room = bounds[low] + max(BLOCK // max(width, 1), 1)
        high = max(low + 1, int(np.searchsorted(bounds, room, side="right")) - 1)
        a, b = bounds[low], bounds[high]
        part = np.take(other, columns[a:b], axis=0, mode="clip")
        part *= weights[a:b, None]
        np.add.reduceat(part, bounds[low:high] - a, axis=0, out=out[low:high])
        low = high


def csr_dot(data: Array, indices: Array, indptr: Array, other: Array) -> Array:
    """A CSR matrix (m, k) times a dense one (k, n); columns are in range."""
    out = np.zeros((indptr.size - 1, other.shape[1]), other.dtype)
    filled = np.flatnonzero(indptr[1:] > indptr[:-1])
    if filled.size:
        held = (
            out if filled.size == out.shape[0] else np.empty((filled.size, out.shape[1]), out.dtype)
        )
        _segments(data, indices, indptr[filled], other, held)
        if held is not out:
            out[filled] = held
    return out


def csr_transposed_dot(data: Array, indices: Array, rows: Array, other: Array, count: int) -> Rows:
    """The transpose of a CSR matrix (m, k) times a dense one (m, n), as rows of (k, n).

    Parameters
    ----------
    rows : array of int64
        Row of each element.
    count : int
        k.
    """
    shape = (count, other.shape[1])
    if not data.size:
        return Rows.zeros(shape, other.dtype)
    order = np.argsort(indices, kind="stable")
    columns = indices[order]
    starts = np.flatnonzero(np.r_[True, columns[1:] != columns[:-1]])
    out = np.empty((starts.size, shape[1]), other.dtype)
    _segments(data[order], rows[order], starts, other, out)
    return Rows(columns[starts], out, shape)


def embedding_rows(grad: Array, rows: Array, *, count: int) -> Rows:
    """Sum of `grad` (n, width) over equal row numbers (n,), as rows of (count, width)."""
    return Rows(rows.astype(np.int64), grad, (count, grad.shape[-1])).canonical()

# SPDX-License-Identifier: Apache-2.0
"""Gradients of look-ups: rows added where they were read, without sorting."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.kernels.numba.compiled import loop
from kvtrain.kernels.numpy import indexing as twin

Array = np.ndarray[Any, Any]
__all__ = ["embedding_grad"]


@loop
def _add_rows(grad, rows, seen, out):  # type: ignore[no-untyped-def]
    for i in range(rows.size):
        row = rows[i]
        if seen[row]:
            for j in range(out.shape[1]):
                out[row, j] += grad[i, j]
        else:  # put, not added to zero: -0.0 is kept
            seen[row] = True
            for j in range(out.shape[1]):
                out[row, j] = grad[i, j]


def embedding_grad(grad: Array, rows: Array, *, count: int) -> Array:
    """Sum of `grad` (..., width) over equal row numbers (...), which are in range; returns
    (count, width). Rows are added in their order of appearance."""
    width = grad.shape[-1]
    flat = rows.reshape(-1)
    fits = grad.dtype in (np.float32, np.float64) and grad.flags.c_contiguous
    if not fits or not flat.size or flat.min() < 0 or flat.max() >= count:
        return twin.embedding_grad(grad, rows, count=count)
    out = np.zeros((count, width), grad.dtype)
    values = grad.reshape(-1, width)
    _add_rows(values, np.ascontiguousarray(flat, np.int64), np.zeros(count, np.bool_), out)
    return out

# SPDX-License-Identifier: Apache-2.0
"""Gradients of look-ups: rows added where they were read."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def embedding_grad(grad: Array, rows: Array, *, count: int) -> Array:
    """Sum of `grad` (..., width) over equal row numbers (...); returns (count, width).

    Rows are added in their order of appearance, so the bits are fixed.
    """
    width = grad.shape[-1]
    flat = rows.reshape(-1)
    values = grad.reshape(-1, width)
    out = np.zeros((count, width), grad.dtype)
    order = np.argsort(flat, kind="stable")
    sorted_rows = flat[order]
    if flat.size:
        starts = np.flatnonzero(np.r_[True, sorted_rows[1:] != sorted_rows[:-1]])
        out[sorted_rows[starts]] = np.add.reduceat(values[order], starts, axis=0)
    return out


def pick_grad(grad: Array, places: Array, *, size: int, axis: int) -> Array:
    """Gradient of picking one element along `axis` per place; `grad` without that axis."""
    shape = list(grad.shape)
    shape.insert(axis, size)
    out = np.zeros(shape, grad.dtype)
    np.put_along_axis(out, np.expand_dims(places, axis), np.expand_dims(grad, axis), axis)
    return out

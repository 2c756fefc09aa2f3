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


def pick(
    data: Array, places: Array, *, axis: int, keepdims: bool = False, mode: str = "clip"
) -> Array:
    """One element of `data` along `axis` per place; `places` are in range and lack that axis."""
    out = np.take_along_axis(data, np.expand_dims(places, axis), axis)
    return out if keepdims else out.squeeze(axis)


def slice_axis(data: Array, *, axis: int, begin: int, end: int | None) -> Array:
    """``data[..., begin:end, ...]`` along one axis; a view."""
    size = data.shape[axis]
    last = size if end is None else end + size if end < 0 else end
    first = begin + size if begin < 0 else begin
    if not 0 <= first <= last <= size:
        raise ValueError(f"begin={begin}, end={end} outside an axis of {size}")
    where = [slice(None)] * data.ndim
    where[axis] = slice(begin, end)
    return data[tuple(where)]


def index_grad(grad: Array, *, shape: tuple[int, ...], key: Any) -> Array:
    """Zeros of `shape` with `grad` added at `key` (basic or advanced NumPy indexing)."""
    out = np.zeros(shape, grad.dtype)
    parts = key if isinstance(key, tuple) else (key,)
    if any(isinstance(part, np.ndarray | list) for part in parts):
        np.add.at(out, key, grad)
    else:
        out[key] = grad.reshape(np.shape(out[key]))  # one element is read as shape (1,)
    return out


def depth_to_space(data: Array, *, block_size: int) -> Array:
    """Channels moved into blocks of the image; (n, c, h, w)."""
    n, c, h, w = data.shape
    b = block_size
    parts = data.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, c // b**2, h * b, w * b)


def space_to_depth(data: Array, *, block_size: int) -> Array:
    """Blocks of the image moved into channels; (n, c, h, w)."""
    n, c, h, w = data.shape
    b = block_size
    parts = data.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4)
    return parts.reshape(n, c * b**2, h // b, w // b)

# SPDX-License-Identifier: Apache-2.0
"""Gradients of pooling of images, without padded copies; forward NumPy is as fast."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.kernels.numba.compiled import loop
from kvtrain.kernels.numpy.pooling import _counts
from kvtrain.kernels.numpy.pooling import pool_grad as twin_grad

Array = np.ndarray[Any, Any]
Sizes = tuple[int, ...]
__all__ = ["pool_grad"]


def _takes(*arrays: Array) -> bool:
    first = arrays[0]
    if first.ndim != 4 or first.dtype not in (np.float32, np.float64) or not first.size:
        return False
    return all(a.dtype == first.dtype and a.flags.c_contiguous for a in arrays)


@loop
def _columns(at, wide, stride, pad, count):  # type: ignore[no-untyped-def]
    """Outputs whose windows have their column `at` inside the image: first, last + 1."""
    first = 0
    if at < pad:
        first = (pad - at + stride - 1) // stride
    reach = wide - 1 + pad - at
    last = reach // stride + 1 if reach >= 0 else 0
    return min(first, count), min(last, count)


# Arrays come flat, and places are unsigned: a negative index would need a test each time, and a
# slice a reference count. `geometry` is planes, image (h, w), output (h, w), kernel, stride, pad.


@loop
def _max_grad(grad, data, out, result, geometry):  # type: ignore[no-untyped-def]
    planes, high, wide, rows, count, kh, kw, sh, sw, ph, pw = geometry
    step, zero = np.uint64(sw), grad.dtype.type(0)
    free = np.empty(count, np.bool_)
    for p in range(planes):
        for y in range(rows):
            at = np.uint64((p * rows + y) * count)
            free[:] = True
            top = y * sh - ph
            for i in range(max(top, 0), min(top + kh, high)):
                for j in range(kw):
                    first, last = _columns(j, wide, sw, pw, count)
                    start = np.uint64((p * high + i) * wide + first * sw + j - pw)
                    for x in range(last - first):
                        here = np.uint64(first + x)
                        place = start + np.uint64(x) * step
                        hit = free[here] & (data[place] == out[at + here])
                        result[place] += grad[at + here] if hit else zero
                        free[here] ^= hit


@loop
def _spread(grad, result, geometry):  # type: ignore[no-untyped-def]
    planes, high, wide, rows, count, kh, kw, sh, sw, ph, pw = geometry
    step = np.uint64(sw)
    for p in range(planes):
        for y in range(rows):
            at = np.uint64((p * rows + y) * count)
            top = y * sh - ph
            for i in range(max(top, 0), min(top + kh, high)):
                for j in range(kw):
                    first, last = _columns(j, wide, sw, pw, count)
                    start = np.uint64((p * high + i) * wide + first * sw + j - pw)
                    from_ = at + np.uint64(first)
                    for x in range(last - first):
                        result[start + np.uint64(x) * step] += grad[from_ + np.uint64(x)]


def _geometry(data: Array, shape: Sizes, kernel: Sizes, stride: Sizes, pad: Sizes) -> Sizes:
    planes = data.shape[0] * data.shape[1]
    sizes = (planes, *data.shape[2:], *shape, *kernel, *stride, *pad)
    return tuple(int(n) for n in sizes)


def pool_grad(
    grad: Array,
    data: Array,
    out: Array,
    *,
    kernel: Sizes,
    stride: Sizes,
    pad: Sizes,
    kind: str,
    convention: str = "valid",
    include_pad: bool = True,
) -> Array:
    """Gradient of pool by its data; of equal maxima the first in a window gets it."""
    if not _takes(data, out) or grad.dtype != data.dtype or kind not in ("max", "avg", "sum"):
        return twin_grad(
            grad,
            data,
            out,
            kernel=kernel,
            stride=stride,
            pad=pad,
            kind=kind,
            convention=convention,
            include_pad=include_pad,
        )
    if kind == "avg":
        counts = _counts(data.shape[2:], kernel, stride, pad, grad.shape[2:], include_pad)
        grad = grad / counts.astype(grad.dtype)
    grad = np.ascontiguousarray(grad)
    result = np.zeros(data.shape, grad.dtype)
    geometry = _geometry(data, grad.shape[2:], kernel, stride, pad)
    flat = [a.reshape(-1) for a in (grad, data, out, result)]
    if kind == "max":
        _max_grad(flat[0], flat[1], flat[2], flat[3], geometry)
    else:
        _spread(flat[0], flat[3], geometry)
    return result

# SPDX-License-Identifier: Apache-2.0
"""2-D max and average pooling. NCHW; any strides."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Pair = tuple[int, int]


def _geometry(size: Pair, kernel: Pair, stride: Pair, pad: Pair, full: bool) -> tuple[Pair, Pair]:
    """Output size, and the padding needed at the far end ("full" rounds up)."""
    out: list[int] = []
    far: list[int] = []
    for s, k, t, p in zip(size, kernel, stride, pad, strict=True):
        span = s + 2 * p - k
        o = (-(-span // t) if full else span // t) + 1
        out.append(o)
        far.append(max(p, (o - 1) * t + k - s - p))
    return (out[0], out[1]), (far[0], far[1])


def _padded(data: Array, pad: Pair, far: Pair, fill: Any) -> Array:
    if pad == (0, 0) and far == (0, 0):
        return data
    width = ((0, 0), (0, 0), (pad[0], far[0]), (pad[1], far[1]))
    return np.pad(data, width, constant_values=fill)


def _lowest(dtype: np.dtype[Any]) -> Any:
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _counts(size: Pair, kernel: Pair, stride: Pair, pad: Pair, out: Pair, include: bool) -> Array:
    """How many elements each window averages over: the padding counts if `include`."""
    axes = []
    for s, k, t, p, o in zip(size, kernel, stride, pad, out, strict=True):
        start = np.arange(o) * t - p
        end = np.minimum(start + k, s + p)
        if not include:
            start, end = np.maximum(start, 0), np.minimum(end, s)
        axes.append(end - start)
    return np.outer(axes[0], axes[1])


def pool2d(
    data: Array,
    *,
    kernel: Pair,
    stride: Pair,
    pad: Pair,
    kind: str,
    full: bool = False,
    include_pad: bool = True,
) -> Array:
    """Pool (n, c, h, w) by `kind` "max", "avg" or "sum"; returns (n, c, oh, ow)."""
    size = (data.shape[2], data.shape[3])
    (oh, ow), far = _geometry(size, kernel, stride, pad, full)
    fill = _lowest(data.dtype) if kind == "max" else 0
    source = _padded(data, pad, far, fill)
    out: Array | None = None
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            part = source[
                :,
                :,
                i : i + stride[0] * (oh - 1) + 1 : stride[0],
                j : j + stride[1] * (ow - 1) + 1 : stride[1],
            ]
            if out is None:
                out = np.array(part)
            elif kind == "max":
                np.maximum(out, part, out=out)
            else:
                np.add(out, part, out=out)
    assert out is not None
    if kind == "avg":
        counts = _counts(size, kernel, stride, pad, (oh, ow), include_pad)
        np.divide(out, counts.astype(data.dtype), out=out)
    return out


def pool2d_grad(
    grad: Array,
    data: Array,
    out: Array,
    *,
    kernel: Pair,
    stride: Pair,
    pad: Pair,
    kind: str,
    full: bool = False,
    include_pad: bool = True,
) -> Array:
    """Gradient of pool2d by its data; of equal maxima the first in a window gets it."""
    size = (data.shape[2], data.shape[3])
    (oh, ow), far = _geometry(size, kernel, stride, pad, full)
    shape = (*data.shape[:2], size[0] + pad[0] + far[0], size[1] + pad[1] + far[1])
    result = np.zeros(shape, grad.dtype)
    if kind == "max":
        source = _padded(data, pad, far, _lowest(data.dtype))
        taken = np.zeros(out.shape, bool)
    elif kind == "avg":
        counts = _counts(size, kernel, stride, pad, (oh, ow), include_pad)
        grad = grad / counts.astype(grad.dtype)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            where = (
                slice(None),
                slice(None),
                slice(i, i + stride[0] * (oh - 1) + 1, stride[0]),
                slice(j, j + stride[1] * (ow - 1) + 1, stride[1]),
            )
            if kind == "max":
                hit = source[where] == out
                hit &= ~taken
                taken |= hit
                result[where] += grad * hit
            else:
                result[where] += grad
    return np.ascontiguousarray(result[:, :, pad[0] : pad[0] + size[0], pad[1] : pad[1] + size[1]])

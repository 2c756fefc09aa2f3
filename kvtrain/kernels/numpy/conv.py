# SPDX-License-Identifier: Apache-2.0
"""2-D convolution (cross-correlation) by im2col and matrix products. NCHW; any strides.

The columns are built for blocks of images, so that they stay small whatever the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Pair = tuple[int, int]
#: bytes of one block of columns
COLUMNS = 4 << 20


def _windows(data: Array, kernel: Pair, stride: Pair, dilate: Pair, pad: Pair) -> Array:
    """A read-only view (n, c, kh, kw, oh, ow) of the padded images."""
    if pad != (0, 0):
        data = np.pad(data, ((0, 0), (0, 0), (pad[0], pad[0]), (pad[1], pad[1])))
    n, c, h, w = data.shape
    (kh, kw), (sh, sw), (dh, dw) = kernel, stride, dilate
    oh = (h - dh * (kh - 1) - 1) // sh + 1
    ow = (w - dw * (kw - 1) - 1) // sw + 1
    bn, bc, bh, bw = data.strides
    return np.lib.stride_tricks.as_strided(
        data,
        (n, c, kh, kw, oh, ow),
        (bn, bc, bh * dh, bw * dw, bh * sh, bw * sw),
        writeable=False,
    )


def output_size(size: int, kernel: int, stride: int, dilate: int, pad: int) -> int:
    """Length of an output axis."""
    return (size + 2 * pad - dilate * (kernel - 1) - 1) // stride + 1


def _image_blocks(n: int, bytes_each: int) -> Iterator[slice]:
    step = max(1, COLUMNS // max(1, bytes_each))
    for low in range(0, n, step):
        yield slice(low, min(low + step, n))


def conv2d(
    data: Array, weight: Array, *, stride: Pair, pad: Pair, dilate: Pair, groups: int = 1
) -> Array:
    """Convolve (n, c, h, w) with (f, c / groups, kh, kw); returns (n, f, oh, ow)."""
    n = data.shape[0]
    f, cg, kh, kw = weight.shape
    windows = _windows(data, (kh, kw), stride, dilate, pad)
    oh, ow = windows.shape[4:]
    out = np.empty((n, f, oh, ow), data.dtype)
    fg = f // groups
    for g in range(groups):
        flat = weight[g * fg : (g + 1) * fg].reshape(fg, -1)
        part = windows[:, g * cg : (g + 1) * cg]
        for images in _image_blocks(n, cg * kh * kw * oh * ow * data.itemsize):
            columns = part[images].transpose(1, 2, 3, 0, 4, 5).reshape(cg * kh * kw, -1)
            result = flat @ columns
            shape = (fg, images.stop - images.start, oh, ow)
            out[images, g * fg : (g + 1) * fg] = result.reshape(shape).transpose(1, 0, 2, 3)
    return out


def conv2d_weight_grad(
    grad: Array,
    data: Array,
    *,
    kernel: Pair,
    stride: Pair,
    pad: Pair,
    dilate: Pair,
    groups: int = 1,
) -> Array:
    """Gradient of conv2d by its weight, given the output's gradient (n, f, oh, ow)."""
    n, f, oh, ow = grad.shape
    kh, kw = kernel
    cg = data.shape[1] // groups
    # a window may start where the stride leaves a rest: cut it to the output's size
    windows = _windows(data, kernel, stride, dilate, pad)[..., :oh, :ow]
    fg = f // groups
    out = np.zeros((f, cg * kh * kw), grad.dtype)
    for g in range(groups):
        part = windows[:, g * cg : (g + 1) * cg]
        for images in _image_blocks(n, cg * kh * kw * oh * ow * grad.itemsize):
            columns = part[images].transpose(1, 2, 3, 0, 4, 5).reshape(cg * kh * kw, -1)
            rows = grad[images, g * fg : (g + 1) * fg].transpose(1, 0, 2, 3).reshape(fg, -1)
            out[g * fg : (g + 1) * fg] += rows @ columns.T
    return out.reshape(f, cg, kh, kw)


def conv2d_data_grad(
    grad: Array,
    weight: Array,
    *,
    size: Pair,
    stride: Pair,
    pad: Pair,
    dilate: Pair,
    groups: int = 1,
) -> Array:
    """Gradient of conv2d by its data of spatial `size`; returns (n, c, h, w)."""
    n, f, oh, ow = grad.shape
    _, cg, kh, kw = weight.shape
    (h, w), (sh, sw), (ph, pw), (dh, dw) = size, stride, pad, dilate
    fg = f // groups
    padded = np.zeros((n, cg * groups, h + 2 * ph, w + 2 * pw), grad.dtype)
    for g in range(groups):
        flat = weight[g * fg : (g + 1) * fg].reshape(fg, -1)
        for images in _image_blocks(n, cg * kh * kw * oh * ow * grad.itemsize):
            rows = grad[images, g * fg : (g + 1) * fg].transpose(1, 0, 2, 3).reshape(fg, -1)
            count = images.stop - images.start
            columns = (flat.T @ rows).reshape(cg, kh, kw, count, oh, ow)
            target = padded[images, g * cg : (g + 1) * cg].transpose(1, 0, 2, 3)
            for i in range(kh):
                for j in range(kw):
                    top, left = i * dh, j * dw
                    target[:, :, top : top + sh * oh : sh, left : left + sw * ow : sw] += columns[
                        :, i, j
                    ]
    return np.ascontiguousarray(padded[:, :, ph : ph + h, pw : pw + w])

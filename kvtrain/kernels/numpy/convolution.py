# SPDX-License-Identifier: Apache-2.0
"""Convolution of any number of spatial dimensions by columns and matrix products, in blocks.

Data is (n, c, *spatial), weights (f, c / groups, *kernel). Columns of a few images at a time
are gathered into one block (so that they fit the cache) and multiplied at once. With one
channel per group (depthwise) shifted products are added instead; with many channels and taps
columns are gathered with the channels last.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from kvtrain.kernels.numpy.channels_last import (
    conv_last,
    conv_last_data_grad,
    conv_last_weight_grad,
    worth_it,
)

Array = np.ndarray[Any, Any]
Sizes = tuple[int, ...]
#: bytes of one block of columns
COLUMNS = 4 << 20


def _at(key: tuple[Any, ...], leading: int = 2) -> Any:
    """An index that leaves the first dimensions alone."""
    return (slice(None),) * leading + key


def windows(data: Array, kernel: Sizes, stride: Sizes, dilate: Sizes, pad: Sizes) -> Array:
    """A read-only view (n, c, *kernel, *output) of the padded images."""
    if any(pad):
        data = np.pad(data, ((0, 0), (0, 0), *((p, p) for p in pad)))
    geometry = zip(data.shape[2:], kernel, stride, dilate, strict=True)
    output = tuple((size - d * (k - 1) - 1) // s + 1 for size, k, s, d in geometry)
    steps = data.strides[2:]
    return np.lib.stride_tricks.as_strided(
        data,
        (*data.shape[:2], *kernel, *output),
        (
            *data.strides[:2],
            *(b * d for b, d in zip(steps, dilate, strict=True)),
            *(b * s for b, s in zip(steps, stride, strict=True)),
        ),
        writeable=False,
    )


def _length(size: int, kernel: int, stride: int, dilate: int, pad: int) -> int:
    """Length of an output axis."""
    return (size + 2 * pad - dilate * (kernel - 1) - 1) // stride + 1


def _image_blocks(n: int, bytes_each: int) -> Iterator[slice]:
    step = max(1, COLUMNS // max(1, bytes_each))
    for low in range(0, n, step):
        yield slice(low, min(low + step, n))


def _columns(part: Array, spatial: int) -> Array:
    """(b, c, *kernel, *output) as the matrix (c * kernel, b * output)."""
    rows = tuple(range(1, 2 + spatial))
    order = (*rows, 0, *range(2 + spatial, part.ndim))
    return part.transpose(order).reshape(prod(part.shape[i] for i in rows), -1)


def _channels_first(part: Array) -> Array:
    """(b, f, *output) as the matrix (f, b * output)."""
    return part.swapaxes(0, 1).reshape(part.shape[1], -1)


def _shifts(
    kernel: Sizes, stride: Sizes, dilate: Sizes, output: Sizes
) -> Iterator[tuple[Sizes, tuple[Any, ...]]]:
    """Each kernel position and the slice of the padded image that it meets."""
    for at in np.ndindex(*kernel):
        geometry = zip(at, stride, dilate, output, strict=True)
        yield at, tuple(slice(i * d, i * d + s * (o - 1) + 1, s) for i, s, d, o in geometry)


def conv(
    data: Array, weight: Array, *, stride: Sizes, pad: Sizes, dilate: Sizes, groups: int = 1
) -> Array:
    """Convolve (n, c, *spatial) with (f, c / groups, *kernel); returns (n, f, *output)."""
    if worth_it(weight.shape, groups):
        return conv_last(data, weight, stride, pad, dilate)
    n, spatial = data.shape[0], data.ndim - 2
    f, cg = weight.shape[:2]
    view = windows(data, weight.shape[2:], stride, dilate, pad)
    output = view.shape[2 + spatial :]
    out = np.empty((n, f, *output), data.dtype)
    fg = f // groups
    if groups > 1 and cg == 1:
        result = out.reshape(n, groups, fg, *output)
        result[...] = 0
        factors = weight.reshape(groups, fg, *weight.shape[2:])
        for at in np.ndindex(*weight.shape[2:]):
            w = factors[_at(at)].reshape(groups, fg, *(1,) * spatial)
            result += view[_at(at)][:, :, None] * w
        return out
    each = cg * prod(weight.shape[2:]) * prod(output) * data.itemsize
    for g in range(groups):
        flat = weight[g * fg : (g + 1) * fg].reshape(fg, -1)
        part = view[:, g * cg : (g + 1) * cg]
        for images in _image_blocks(n, each):
            result = flat @ _columns(part[images], spatial)
            shape = (fg, images.stop - images.start, *output)
            out[images, g * fg : (g + 1) * fg] = result.reshape(shape).swapaxes(0, 1)
    return out


def conv_weight_grad(
    grad: Array,
    data: Array,
    *,
    kernel: Sizes,
    stride: Sizes,
    pad: Sizes,
    dilate: Sizes,
    groups: int = 1,
) -> Array:
    """Gradient of conv by its weight, given the output's gradient (n, f, *output)."""
    if worth_it((grad.shape[1], data.shape[1], *kernel), groups):
        return conv_last_weight_grad(grad, data, kernel, stride, pad, dilate)
    n, f = grad.shape[:2]
    output, spatial = grad.shape[2:], grad.ndim - 2
    cg, fg = data.shape[1] // groups, f // groups
    # a window may start where the stride leaves a rest: cut it to the output's size
    view = windows(data, kernel, stride, dilate, pad)
    view = view[_at(tuple(slice(0, o) for o in output), 2 + spatial)]
    if groups > 1 and cg == 1:
        out = np.empty((groups, fg, *kernel), grad.dtype)
        heads = grad.reshape(n, groups, fg, *output)
        axes = (0, *range(3, 3 + spatial))
        for at in np.ndindex(*kernel):
            seen = view[_at(at)][:, :, None]
            out[_at(at)] = (heads * seen).sum(axis=axes)
        return out.reshape(f, 1, *kernel)
    out = np.zeros((f, cg * prod(kernel)), grad.dtype)
    each = cg * prod(kernel) * prod(output) * grad.itemsize
    for g in range(groups):
        part = view[:, g * cg : (g + 1) * cg]
        for images in _image_blocks(n, each):
            columns = _columns(part[images], spatial)
            rows = _channels_first(grad[images, g * fg : (g + 1) * fg])
            out[g * fg : (g + 1) * fg] += rows @ columns.T
    return out.reshape(f, cg, *kernel)


def conv_data_grad(
    grad: Array,
    weight: Array,
    *,
    size: Sizes,
    stride: Sizes,
    pad: Sizes,
    dilate: Sizes,
    groups: int = 1,
) -> Array:
    """Gradient of conv by its data of spatial `size`; returns (n, c, *size)."""
    if worth_it(weight.shape, groups):
        return conv_last_data_grad(grad, weight, size, stride, pad, dilate)
    n, output = grad.shape[0], grad.shape[2:]
    f, cg = weight.shape[:2]
    kernel, spatial = weight.shape[2:], grad.ndim - 2
    fg = f // groups
    sizes = tuple(s + 2 * p for s, p in zip(size, pad, strict=True))
    padded = np.zeros((n, cg * groups, *sizes), grad.dtype)
    if groups > 1 and cg == 1:
        heads = grad.reshape(n, groups, fg, *output)
        factors = weight.reshape(groups, fg, *kernel)
        for at, where in _shifts(kernel, stride, dilate, output):
            w = factors[_at(at)].reshape(groups, fg, *(1,) * spatial)
            padded[_at(where)] += (heads * w).sum(axis=2)
    else:
        each = cg * prod(kernel) * prod(output) * grad.itemsize
        for g in range(groups):
            flat = weight[g * fg : (g + 1) * fg].reshape(fg, -1)
            for images in _image_blocks(n, each):
                rows = _channels_first(grad[images, g * fg : (g + 1) * fg])
                count = images.stop - images.start
                columns = (flat.T @ rows).reshape(cg, *kernel, count, *output)
                target = padded[images, g * cg : (g + 1) * cg].swapaxes(0, 1)
                for at, where in _shifts(kernel, stride, dilate, output):
                    target[_at(where)] += columns[_at(at, 1)]
    inner = tuple(slice(p, p + s) for s, p in zip(size, pad, strict=True))
    return np.ascontiguousarray(padded[_at(inner)])


def im2col(data: Array, *, kernel: Sizes, stride: Sizes, dilate: Sizes, pad: Sizes) -> Array:
    """Windows of (n, c, *spatial) as columns: (n, c * kernel, output)."""
    view = windows(data, kernel, stride, dilate, pad)
    count = data.shape[1] * prod(kernel)
    return view.reshape(data.shape[0], count, -1)


def col2im(
    data: Array,
    *,
    output_size: Sizes,
    kernel: Sizes,
    stride: Sizes,
    dilate: Sizes,
    pad: Sizes,
) -> Array:
    """Columns (n, c * kernel, positions) added where im2col read them: (n, c, *output_size)."""
    channels = data.shape[1] // prod(kernel)
    geometry = zip(output_size, kernel, stride, dilate, pad, strict=True)
    places = tuple(_length(*g) for g in geometry)
    columns = data.reshape(data.shape[0], channels, *kernel, *places)
    sizes = tuple(s + 2 * p for s, p in zip(output_size, pad, strict=True))
    padded = np.zeros((data.shape[0], channels, *sizes), data.dtype)
    for at, where in _shifts(kernel, stride, dilate, places):
        padded[_at(where)] += columns[_at(at)]
    inner = tuple(slice(p, p + s) for s, p in zip(output_size, pad, strict=True))
    return np.ascontiguousarray(padded[_at(inner)])

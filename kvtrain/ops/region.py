# SPDX-License-Identifier: Apache-2.0
"""Regions of images: pooling of boxes, comparison of displaced patches, crops."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.attribute import Shape
from kvtrain.ops.broadcast import sizes
from kvtrain.ops.derive import derived, run, values
from kvtrain.ops.registry import op


def _half_away(a: Any) -> Any:
    """C's round()."""
    return np.sign(a) * np.floor(np.abs(a) + 0.5)


def _roi_places(data: Any, rois: Any, pooled: tuple[int, ...], scale: float) -> Any:
    """Flat index into (n, c, h, w) of each bin's maximum, -1 for an empty bin."""
    n, c, h, w = data.shape
    out = np.full((len(rois), c, *pooled), -1, np.int64)
    for i, roi in enumerate(rois):
        image = int(roi[0])
        if not 0 <= image < n:
            raise ValueError(f"rois names image {image} of {n}")
        x1, y1, x2, y2 = (int(v) for v in _half_away(roi[1:5] * data.dtype.type(scale)))
        tall = np.float32(max(y2 - y1 + 1, 1)) / np.float32(pooled[0])
        wide = np.float32(max(x2 - x1 + 1, 1)) / np.float32(pooled[1])
        for row in range(pooled[0]):
            top = min(max(int(np.floor(row * tall)) + y1, 0), h)
            bottom = min(max(int(np.ceil((row + 1) * tall)) + y1, 0), h)
            for column in range(pooled[1]):
                left = min(max(int(np.floor(column * wide)) + x1, 0), w)
                right = min(max(int(np.ceil((column + 1) * wide)) + x1, 0), w)
                if bottom <= top or right <= left:
                    continue
                part = data[image, :, top:bottom, left:right].reshape(c, -1)
                best = part.argmax(axis=1)
                y, x = top + best // (right - left), left + best % (right - left)
                out[i, :, row, column] = ((image * c + np.arange(c)) * h + y) * w + x
    return out


def _roi_formula(xp: Any, data: Any, rois: Any, *, pooled_size: Any, spatial_scale: float) -> Any:
    pooled = sizes(pooled_size, 1, 2, "pooled_size")
    places = _roi_places(values(data), values(rois), pooled, spatial_scale)
    flat = xp.reshape(data, (-1,))
    seen = run(xp, "_index", flat, key=np.maximum(places, 0).reshape(-1))
    return xp.reshape(seen, places.shape) * (places >= 0).astype(np.dtype(data.dtype).name)


@op("ROIPooling", vjp=derived(_roi_formula, 0))
def _roi_pooling(
    xp: Any, data: Any, rois: Any, /, *, pooled_size: Shape, spatial_scale: float
) -> Any:
    """Maxima over a grid of bins of each region (image, x1, y1, x2, y2)."""
    if data.ndim != 4 or rois.ndim != 2 or rois.shape[1] != 5:
        raise ValueError(f"data {data.shape} and rois {rois.shape}: (n, c, h, w) and (r, 5) needed")
    return _roi_formula(xp, data, rois, pooled_size=pooled_size, spatial_scale=spatial_scale)


def _padded(xp: Any, data: Any, pad: int) -> Any:
    width = (0, 0, 0, 0, pad, pad, pad, pad)
    return run(xp, "Pad", data, mode="constant", pad_width=width, constant_value=0.0)


def _correlation_formula(
    xp: Any,
    first: Any,
    second: Any,
    *,
    kernel_size: int,
    max_displacement: int,
    stride1: int,
    stride2: int,
    pad_size: int,
    is_multiply: bool,
) -> Any:
    radius = kernel_size // 2
    border = max_displacement + radius
    a, b = _padded(xp, first, pad_size), _padded(xp, second, pad_size)
    _, c, h, w = a.shape
    oh, ow = -(-(h - 2 * border) // stride1), -(-(w - 2 * border) // stride1)
    if oh < 1 or ow < 1:
        raise ValueError(f"max_displacement={max_displacement} leaves nothing of {first.shape}")
    steps = max_displacement // stride2
    tall, wide = (oh - 1) * stride1 + kernel_size, (ow - 1) * stride1 + kernel_size
    maps = []
    for dy in range(-steps, steps + 1):
        for dx in range(-steps, steps + 1):
            top, left = max_displacement + dy * stride2, max_displacement + dx * stride2
            mine = _cut(xp, a, max_displacement, max_displacement, tall, wide)
            other = _cut(xp, b, top, left, tall, wide)
            compared = mine * other if is_multiply else xp.abs(mine - other)
            summed = xp.sum(compared, axis=1, keepdims=True)
            window = {"kernel": (kernel_size,) * 2, "stride": (stride1,) * 2, "pad": (0, 0)}
            maps.append(run(xp, "Pooling", summed, pool_type="sum", **window))
    out = maps[0] if len(maps) == 1 else xp.concatenate(maps, axis=1)
    return out / (kernel_size * kernel_size * c)


def _cut(xp: Any, a: Any, top: int, left: int, tall: int, wide: int) -> Any:
    rows = xp.slice_axis(a, axis=2, begin=top, end=top + tall)
    return xp.slice_axis(rows, axis=3, begin=left, end=left + wide)


@op("Correlation", vjp=derived(_correlation_formula))
def _correlation(
    xp: Any,
    data1: Any,
    data2: Any,
    /,
    *,
    kernel_size: int = 1,
    max_displacement: int = 1,
    stride1: int = 1,
    stride2: int = 1,
    pad_size: int = 0,
    is_multiply: bool = True,
) -> Any:
    """Patches of one image compared with displaced ones of another (Dosovitskiy et al., 2015)."""
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size={kernel_size} must be odd")
    if data1.ndim != 4 or data1.shape != data2.shape:
        raise ValueError(f"data1 {data1.shape} and data2 {data2.shape} must be images of one shape")
    return _correlation_formula(
        xp,
        data1,
        data2,
        kernel_size=kernel_size,
        max_displacement=max_displacement,
        stride1=stride1,
        stride2=stride2,
        pad_size=pad_size,
        is_multiply=is_multiply,
    )


def _crop_formula(xp: Any, *data: Any, offset: Any, h_w: Any, center_crop: bool) -> Any:
    images = data[0]
    if len(data) > 1:
        h, w = data[1].shape[2:]
    else:
        h, w = sizes(h_w, 0, 2, "h_w")
    top, left = sizes(offset, 0, 2, "offset")
    if center_crop:
        top, left = (images.shape[2] - h) // 2, (images.shape[3] - w) // 2
    return _cut(xp, images, top, left, h, w)


@op("Crop", vjp=derived(_crop_formula, 0))
def _crop(
    xp: Any, /, *data: Any, offset: Shape = (0, 0), h_w: Shape = (0, 0), center_crop: bool = False
) -> Any:
    """A part of images: `h_w` large, or as large as a second array."""
    out = _crop_formula(xp, *data, offset=offset, h_w=h_w, center_crop=center_crop)
    wanted = tuple(data[1].shape[2:]) if len(data) > 1 else sizes(h_w, 0, 2, "h_w")
    if tuple(out.shape[2:]) != wanted or min(wanted) < 1:
        raise ValueError(f"offset={offset}, h_w={wanted} do not fit {data[0].shape}")
    return out

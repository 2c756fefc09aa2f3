# SPDX-License-Identifier: Apache-2.0
"""Averages of bilinear samples over the bins of regions (He et al., 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.attribute import Shape
from kvtrain.ops.broadcast import sizes
from kvtrain.ops.derive import derived, run, values
from kvtrain.ops.registry import op

Array = np.ndarray[Any, Any]


def _points(start: float, size: float, bins: int, ratio: int) -> Array:
    """(bins, samples): places of the samples along one axis."""
    each = ratio if ratio > 0 else max(int(np.ceil(size / bins)), 1)
    steps = (np.arange(each) + 0.5) * (size / bins / each)
    return start + np.arange(bins)[:, None] * (size / bins) + steps


def _corner(place: Array, limit: int) -> tuple[Array, Array, Array, Array]:
    """Lower and upper pixel, the part of the upper one, and whether the place counts."""
    inside = (place >= -1.0) & (place <= limit)
    at = np.maximum(place, 0.0)
    low = np.minimum(np.floor(at).astype(np.int64), limit - 1)
    high = np.minimum(low + 1, limit - 1)
    part = np.where(low >= limit - 1, 0.0, at - low)
    return low, high, part, inside


def _matrix(roi: Array, shape: tuple[int, ...], pooled: tuple[int, ...], how: Any) -> Any:
    """Weights (ph, h) and (pw, w): the samples of a region are a product of two averages."""
    scale, ratio, aligned = how
    shift = 0.5 if aligned else 0.0
    x1, y1, x2, y2 = (float(v) * scale - shift for v in roi[1:5])
    width, height = x2 - x1, y2 - y1
    if not aligned:
        width, height = max(width, 1.0), max(height, 1.0)
    parts = []
    for start, size, bins, limit in (
        (y1, height, pooled[0], shape[2]),
        (x1, width, pooled[1], shape[3]),
    ):
        places = _points(start, size, bins, ratio)
        low, high, part, inside = _corner(places, limit)
        matrix = np.zeros((bins, limit))
        rows = np.broadcast_to(np.arange(bins)[:, None], places.shape)
        np.add.at(matrix, (rows, low), np.where(inside, 1 - part, 0))
        np.add.at(matrix, (rows, high), np.where(inside, part, 0))
        parts.append(matrix / places.shape[1])
    return parts


def _align_formula(
    xp: Any,
    data: Any,
    rois: Any,
    *,
    pooled_size: Any,
    spatial_scale: float,
    sample_ratio: int,
    position_sensitive: bool,
    aligned: bool,
) -> Any:
    pooled = sizes(pooled_size, 1, 2, "pooled_size")
    dtype = np.dtype(data.dtype).name
    made = []
    for roi in values(rois):
        image = int(roi[0])
        rows, columns = _matrix(
            roi, tuple(data.shape), pooled, (spatial_scale, sample_ratio, aligned)
        )
        if image < 0:
            rows, columns, image = rows * 0, columns * 0, 0
        one = xp.slice_axis(data, axis=0, begin=image, end=image + 1)
        wide = xp.dot(one, np.ascontiguousarray(columns.T.astype(dtype)))
        turned = xp.dot(xp.swapaxes(wide, 2, 3), np.ascontiguousarray(rows.T.astype(dtype)))
        made.append(xp.swapaxes(turned, 2, 3))
    out = made[0] if len(made) == 1 else xp.concatenate(made, axis=0)
    if not position_sensitive:
        return out
    count, channels = out.shape[:2]
    ph, pw = pooled
    grid = xp.reshape(out, (count, channels // (ph * pw), ph, pw, ph, pw))
    y, x = np.meshgrid(np.arange(ph), np.arange(pw), indexing="ij")
    return run(xp, "_index", grid, key=(slice(None), slice(None), y, x, y, x))


@op("_contrib_ROIAlign", vjp=derived(_align_formula, 0))
def _roi_align(
    xp: Any,
    data: Any,
    rois: Any,
    /,
    *,
    pooled_size: Shape,
    spatial_scale: float,
    sample_ratio: int = -1,
    position_sensitive: bool = False,
    aligned: bool = False,
) -> Any:
    """Averages of bilinear samples over a grid of bins of each region (image, x1, y1, x2, y2)."""
    if data.ndim != 4 or rois.ndim != 2 or rois.shape[1] != 5:
        raise ValueError(f"data {data.shape} and rois {rois.shape}: (n, c, h, w) and (r, 5) needed")
    return _align_formula(
        xp,
        data,
        rois,
        pooled_size=pooled_size,
        spatial_scale=spatial_scale,
        sample_ratio=sample_ratio,
        position_sensitive=position_sensitive,
        aligned=aligned,
    )

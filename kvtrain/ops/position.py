# SPDX-License-Identifier: Apache-2.0
"""Pooling of regions by position (R-FCN, Dai et al., 2016) and of turned regions.

Channel ``(c * group + i) * group + j`` of the data scores class c at place (i, j) of a region.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.attribute import Shape
from kvtrain.ops.broadcast import sizes
from kvtrain.ops.derive import derived, run, values
from kvtrain.ops.registry import op
from kvtrain.ops.spatial import along_both, sample_at


def _half_away(a: Any) -> Any:
    """C's round()."""
    return np.sign(a) * np.floor(np.abs(a) + 0.5)


def _check(data: Any, rois: Any, columns: int, channels: int | None = None) -> None:
    if len(data.shape) != 4 or len(rois.shape) != 2 or rois.shape[1] != columns:
        raise ValueError(
            f"data {tuple(data.shape)} and rois {tuple(rois.shape)}: (n, c, h, w) and "
            f"(r, {columns}) are needed"
        )
    if channels is not None and data.shape[1] != channels:
        raise ValueError(
            f"data has {data.shape[1]} channels; output_dim * group_size**2 = {channels} are needed"
        )
    images = values(rois)[:, 0]
    if images.size and (images.min() < 0 or images.max() >= data.shape[0]):
        raise ValueError(
            f"rois name images {images.min():g} to {images.max():g} of {data.shape[0]}"
        )


def _means(low: float, step: float, bins: int, size: int, dtype: Any) -> Any:
    """(bins, size): weights of the mean of each bin, 0 for an empty one."""
    matrix = np.zeros((bins, size), dtype)
    for i in range(bins):
        first = min(max(int(np.floor(i * step + low)), 0), size)
        last = min(max(int(np.ceil((i + 1) * step + low)), 0), size)
        if last > first:
            matrix[i, first:last] = 1 / (last - first)
    return matrix


def _channels(output_dim: int, group: int, pooled: int) -> Any:
    """Flat index into (channels, pooled, pooled) of what each class takes at each place."""
    place = np.clip(np.arange(pooled) * group // pooled, 0, group - 1)
    classes = np.arange(output_dim)[:, None, None]
    channel = (classes * group + place[None, :, None]) * group + place[None, None, :]
    spots = np.arange(pooled * pooled).reshape(1, pooled, pooled)
    return (channel * pooled * pooled + spots).reshape(-1)


def _by_position(xp: Any, scores: Any, index: Any, shape: tuple[int, ...]) -> Any:
    flat = xp.reshape(scores, (-1,))
    return xp.reshape(run(xp, "_index", flat, key=index), shape)


def _image(xp: Any, data: Any, roi: Any) -> Any:
    return xp.slice_axis(data, axis=0, begin=int(roi[0]), end=int(roi[0]) + 1)


def _position_formula(
    xp: Any,
    data: Any,
    rois: Any,
    *,
    spatial_scale: float,
    output_dim: int,
    pooled_size: int,
    group_size: int,
) -> Any:
    group = group_size or pooled_size
    dtype = np.dtype(data.dtype)
    index = _channels(output_dim, group, pooled_size)
    scale = np.float32(spatial_scale)
    made = []
    for roi in values(rois).astype(np.float32):
        x1, y1 = _half_away(roi[1:3]) * scale
        x2, y2 = (_half_away(roi[3:5]) + np.float32(1)) * scale
        wide, tall = (max(n, np.float32(0.1)) / np.float32(pooled_size) for n in (x2 - x1, y2 - y1))
        rows = _means(y1, tall, pooled_size, data.shape[2], dtype)
        columns = _means(x1, wide, pooled_size, data.shape[3], dtype)
        scores = along_both(xp, _image(xp, data, roi), rows, columns)
        made.append(_by_position(xp, scores, index, (output_dim, pooled_size, pooled_size)))
    return xp.stack(made, axis=0)


@op("_contrib_PSROIPooling", vjp=derived(_position_formula, 0))
def _position_pooling(
    xp: Any,
    data: Any,
    rois: Any,
    /,
    *,
    spatial_scale: float,
    output_dim: int,
    pooled_size: int,
    group_size: int = 0,
) -> Any:
    """Means over a grid of bins of each region (image, x1, y1, x2, y2), a channel per place."""
    group = group_size or pooled_size
    _check(data, rois, 5, output_dim * group * group)
    return _position_formula(
        xp,
        data,
        rois,
        spatial_scale=spatial_scale,
        output_dim=output_dim,
        pooled_size=pooled_size,
        group_size=group_size,
    )


def _blocks(xp: Any, a: Any, p: int, s: int) -> Any:
    """(p, p) as (1, p * s, p * s): each element for its s * s samples."""
    wide = xp.broadcast_to(xp.reshape(a, (p, 1, p, 1)), (p, s, p, s))
    return xp.reshape(wide, (1, p * s, p * s))


def _bent_formula(
    xp: Any,
    data: Any,
    rois: Any,
    *trans: Any,
    spatial_scale: float,
    output_dim: int,
    group_size: int,
    pooled_size: int,
    part_size: int,
    sample_per_part: int,
    trans_std: float,
    no_trans: bool,
) -> Any:
    p, s = pooled_size, sample_per_part
    h, w = data.shape[2:]
    dtype = np.dtype(data.dtype)
    moved = bool(trans) and not no_trans
    classes = trans[0].shape[1] // 2 if moved else 1
    part = np.arange(p) * (part_size or p) // p
    index = _channels(output_dim, group_size, p).reshape(classes, -1)
    made = []
    for i, roi in enumerate(values(rois).astype(np.float64)):
        x1, y1 = _half_away(roi[1:3]) * spatial_scale - 0.5
        x2, y2 = (_half_away(roi[3:5]) + 1) * spatial_scale - 0.5
        wide, tall = max(x2 - x1, 0.1), max(y2 - y1, 0.1)
        steps = np.repeat(np.arange(p) / p, s) + np.tile(np.arange(s), p) / (p * s)
        ys, xs = np.meshgrid(steps * tall + y1, steps * wide + x1, indexing="ij")
        image = _image(xp, data, roi)
        for k in range(classes):
            x, y = (xp.array(a[None].astype(dtype)) for a in (xs, ys))
            if moved:
                places = (part[:, None], part[None, :])
                shift = [
                    run(xp, "_index", trans[0], key=(i, 2 * k + axis, *places)) for axis in (0, 1)
                ]
                spread = [_blocks(xp, a, p, s) for a in shift]
                x = x + spread[0] * float(trans_std * wide)
                y = y + spread[1] * float(trans_std * tall)
            seen_x, seen_y = values(x), values(y)
            inside = (seen_x >= -0.5) & (seen_x <= w - 0.5) & (seen_y >= -0.5) & (seen_y <= h - 0.5)
            x = xp.minimum(xp.maximum(x, 0), w - 1)
            y = xp.minimum(xp.maximum(y, 0), h - 1)
            sampled = sample_at(xp, image, x, y)
            c = sampled.shape[1]
            keep = np.ascontiguousarray(
                np.broadcast_to(inside[:, None].astype(dtype), tuple(sampled.shape))
            )
            total = xp.sum(xp.reshape(sampled * keep, (c, p, s, p, s)), axis=(2, 4))
            count = np.maximum(inside.reshape(p, s, p, s).sum(axis=(1, 3)), 1).astype(dtype)
            mean = total * np.ascontiguousarray(np.broadcast_to(1 / count, (c, p, p)).astype(dtype))
            made.append(_by_position(xp, mean, index[k], (output_dim // classes, p, p)))
    whole = xp.stack(made, axis=0)
    return xp.reshape(whole, (rois.shape[0], output_dim, p, p))


@op(
    "_contrib_DeformablePSROIPooling",
    vjp=lambda xp, g, out, data, rois, *trans, **attrs: _bent_vjp(
        xp, g, out, data, rois, *trans, **attrs
    ),
    optional=("trans",),
)
def _bent_pooling(
    xp: Any,
    data: Any,
    rois: Any,
    /,
    *trans: Any,
    spatial_scale: float,
    output_dim: int,
    group_size: int,
    pooled_size: int,
    part_size: int = 0,
    sample_per_part: int = 1,
    trans_std: float = 0.0,
    no_trans: bool = False,
) -> Any:
    """PSROIPooling whose bins are moved by `trans` (r, 2 * classes, part_size, part_size).

    Deformable convolutional networks (Dai et al., 2017). With samples instead of whole pixels.
    """
    _check(data, rois, 5, output_dim * group_size * group_size)
    if not trans and not no_trans:
        raise ValueError("trans is missing; pass it or no_trans=True")
    return _bent_formula(
        xp,
        data,
        rois,
        *trans,
        spatial_scale=spatial_scale,
        output_dim=output_dim,
        group_size=group_size,
        pooled_size=pooled_size,
        part_size=part_size,
        sample_per_part=sample_per_part,
        trans_std=trans_std,
        no_trans=no_trans,
    )


def _bent_vjp(
    xp: Any, g: Any, out: Any, data: Any, rois: Any, *trans: Any, **attrs: Any
) -> tuple[Any, ...]:
    wanted = (0, 2) if trans and not attrs["no_trans"] else (0,)
    return derived(_bent_formula, *wanted)(xp, g, out, data, rois, *trans, **attrs)


@op("_contrib_RROIAlign", vjp=None)
def _turned_align(
    xp: Any,
    data: Any,
    rois: Any,
    /,
    *,
    pooled_size: Shape,
    spatial_scale: float,
    sampling_ratio: int = -1,
) -> Any:
    """Averages of bilinear samples over turned regions (image, x, y, width, height, degrees)."""
    _check(data, rois, 6)
    ph, pw = sizes(pooled_size, 1, 2, "pooled_size")
    h, w = data.shape[2:]
    made = []
    for roi in values(rois).astype(np.float64):
        cx, cy = roi[1:3] * spatial_scale
        wide, tall = (max(n, 1.0) for n in roi[3:5] * spatial_scale)
        turn = np.deg2rad(roi[5])
        gy = sampling_ratio if sampling_ratio > 0 else int(np.ceil(tall / ph))
        gx = sampling_ratio if sampling_ratio > 0 else int(np.ceil(wide / pw))
        ys = (np.arange(ph * gy) + 0.5) * (tall / (ph * gy)) - tall / 2
        xs = (np.arange(pw * gx) + 0.5) * (wide / (pw * gx)) - wide / 2
        dy, dx = np.meshgrid(ys, xs, indexing="ij")
        x = dx * np.cos(turn) + dy * np.sin(turn) + cx
        y = dy * np.cos(turn) - dx * np.sin(turn) + cy
        inside = (x >= -1) & (x <= w) & (y >= -1) & (y <= h)
        places = [np.clip(a, 0, n - 1)[None].astype(data.dtype) for a, n in ((x, w), (y, h))]
        seen = sample_at(xp, _image(xp, data, roi), *places) * inside.astype(data.dtype)
        made.append(seen.reshape(data.shape[1], ph, gy, pw, gx).mean(axis=(2, 4)))
    return np.stack(made).astype(data.dtype)

# SPDX-License-Identifier: Apache-2.0
"""Convolution whose windows are bent by learned offsets (Dai et al., 2017; Zhu et al., 2019)."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.attribute import Shape
from kvtrain.ops.broadcast import sizes
from kvtrain.ops.derive import derived, values
from kvtrain.ops.registry import op
from kvtrain.ops.spatial import sample_at


def _part(xp: Any, a: Any, axis: int, low: int, high: int) -> Any:
    return xp.slice_axis(a, axis=axis, begin=low, end=high)


def _formula(
    xp: Any,
    data: Any,
    offset: Any,
    weight: Any,
    *rest: Any,
    kernel: Any,
    stride: Any,
    dilate: Any,
    pad: Any,
    num_group: int,
    num_deformable_group: int,
    no_bias: bool,
    modulated: bool,
    **tuning: Any,
) -> Any:
    n, c, h, w = data.shape
    taps, steps = sizes(kernel, 1, 2, "kernel"), sizes(stride, 1, 2, "stride")
    spread, pads = sizes(dilate, 1, 2, "dilate"), sizes(pad, 0, 2, "pad")
    oh, ow = offset.shape[2:]
    left = list(rest)
    mask = left.pop(0) if modulated else None
    count = taps[0] * taps[1]
    dtype = np.dtype(data.dtype).name
    ys, xs = np.meshgrid(
        np.arange(oh) * steps[0] - pads[0], np.arange(ow) * steps[1] - pads[1], indexing="ij"
    )
    width = c // num_deformable_group
    columns = []
    for g in range(num_deformable_group):
        images = _part(xp, data, 1, g * width, (g + 1) * width)
        seen = []
        for k, (i, j) in enumerate(np.ndindex(*taps)):
            at = 2 * (g * count + k)
            dy = xp.reshape(_part(xp, offset, 1, at, at + 1), (n, oh, ow))
            dx = xp.reshape(_part(xp, offset, 1, at + 1, at + 2), (n, oh, ow))
            base_y, base_x = (
                np.ascontiguousarray(np.broadcast_to(b.astype(dtype), (n, oh, ow)))
                for b in (ys + i * spread[0], xs + j * spread[1])
            )
            x, y = dx + base_x, dy + base_y
            seen_x, seen_y = values(x), values(y)
            inside = (seen_x >= 0) & (seen_x < w) & (seen_y >= 0) & (seen_y < h)
            # past the last pixel its value holds, as far as the image goes
            sampled = sample_at(xp, images, xp.minimum(x, w - 1), xp.minimum(y, h - 1))
            keep = np.broadcast_to(inside.astype(dtype)[:, None], (n, width, oh, ow))
            sampled = sampled * np.ascontiguousarray(keep)
            if mask is not None:
                one = _part(xp, mask, 1, g * count + k, g * count + k + 1)
                sampled = sampled * xp.broadcast_to(one, (n, width, oh, ow))
            seen.append(sampled)
        columns.append(xp.stack(seen, axis=2))
    whole = columns[0] if len(columns) == 1 else xp.concatenate(columns, axis=1)
    # (c, kernel, n, places)
    flat = xp.reshape(xp.transpose(whole, axes=(1, 2, 0, 3, 4)), (c * count, n * oh * ow))
    filters, inner = weight.shape[0] // num_group, c // num_group * count
    outs = []
    for g in range(num_group):
        rows = xp.reshape(_part(xp, weight, 0, g * filters, (g + 1) * filters), (filters, inner))
        outs.append(xp.dot(rows, _part(xp, flat, 0, g * inner, (g + 1) * inner)))
    out = outs[0] if num_group == 1 else xp.concatenate(outs, axis=0)
    out = xp.transpose(xp.reshape(out, (weight.shape[0], n, oh, ow)), axes=(1, 0, 2, 3))
    if left and not no_bias:
        out = out + xp.reshape(left[0], (1, -1, 1, 1))
    return out


def _check(data: Any, offset: Any, weight: Any, attrs: dict[str, Any]) -> None:
    taps, groups = sizes(attrs["kernel"], 1, 2, "kernel"), attrs["num_deformable_group"]
    channels = 2 * taps[0] * taps[1] * groups
    size = []
    for axis in (0, 1):
        reach = sizes(attrs["dilate"], 1, 2, "dilate")[axis] * (taps[axis] - 1) + 1
        room = data.shape[2 + axis] + 2 * sizes(attrs["pad"], 0, 2, "pad")[axis] - reach
        size.append(room // sizes(attrs["stride"], 1, 2, "stride")[axis] + 1)
    wanted = (data.shape[0], channels, *size)
    if tuple(offset.shape) != wanted:
        raise ValueError(f"offset has shape {tuple(offset.shape)}; {wanted} is needed")
    shape = (attrs["num_filter"], data.shape[1] // attrs["num_group"], *taps)
    if tuple(weight.shape) != shape:
        raise ValueError(f"weight has shape {tuple(weight.shape)}; {shape} is needed")


def _plain_formula(xp: Any, *arrays: Any, **attrs: Any) -> Any:
    return _formula(xp, *arrays, modulated=False, **attrs)


@op("_contrib_DeformableConvolution", vjp=derived(_plain_formula))
def _deformable(
    xp: Any,
    data: Any,
    offset: Any,
    weight: Any,
    /,
    *bias: Any,
    kernel: Shape,
    stride: Shape = (),
    dilate: Shape = (),
    pad: Shape = (),
    num_filter: int,
    num_group: int = 1,
    num_deformable_group: int = 1,
    workspace: int = 1024,
    no_bias: bool = False,
    layout: str | None = None,
) -> Any:
    """Convolution of (n, c, h, w) whose taps are moved by `offset` (n, 2 * taps, oh, ow)."""
    attrs = {
        "kernel": kernel,
        "stride": stride,
        "dilate": dilate,
        "pad": pad,
        "num_filter": num_filter,
        "num_group": num_group,
        "num_deformable_group": num_deformable_group,
        "no_bias": no_bias,
    }
    _check(data, offset, weight, attrs)
    return _plain_formula(xp, data, offset, weight, *bias, **attrs)


def _modulated_formula(xp: Any, data: Any, offset: Any, mask: Any, *rest: Any, **attrs: Any) -> Any:
    weight, *bias = rest
    return _formula(xp, data, offset, weight, mask, *bias, modulated=True, **attrs)


@op("_contrib_ModulatedDeformableConvolution", vjp=derived(_modulated_formula))
def _modulated(
    xp: Any,
    data: Any,
    offset: Any,
    mask: Any,
    weight: Any,
    /,
    *bias: Any,
    kernel: Shape,
    stride: Shape = (),
    dilate: Shape = (),
    pad: Shape = (),
    num_filter: int,
    num_group: int = 1,
    num_deformable_group: int = 1,
    workspace: int = 1024,
    no_bias: bool = False,
    im2col_step: int = 64,
    layout: str | None = None,
) -> Any:
    """Deformable convolution whose taps are also weighted by `mask` (n, taps, oh, ow)."""
    attrs = {
        "kernel": kernel,
        "stride": stride,
        "dilate": dilate,
        "pad": pad,
        "num_filter": num_filter,
        "num_group": num_group,
        "num_deformable_group": num_deformable_group,
        "no_bias": no_bias,
    }
    _check(data, offset, weight, attrs)
    return _modulated_formula(xp, data, offset, mask, weight, *bias, **attrs)

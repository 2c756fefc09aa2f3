# SPDX-License-Identifier: Apache-2.0
"""Operators on images (n, c, h, w): enlarging, sampling on grids, pooling of regions."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.attribute import Shape
from kvtrain.ops.broadcast import sizes
from kvtrain.ops.derive import derived, run, values
from kvtrain.ops.registry import op


def _images(data: Any, name: str = "data") -> None:
    if len(data.shape) != 4:
        raise ValueError(f"{name} has shape {tuple(data.shape)}; (n, c, h, w) is needed")


# ---- enlarging -----------------------------------------------------------------------------


def _nearest(xp: Any, data: Any, scale: int) -> Any:
    wide = run(xp, "repeat", data, repeats=scale, axis=3)
    return run(xp, "repeat", wide, repeats=scale, axis=2)


def _upsampling_formula(
    xp: Any,
    *data: Any,
    scale: int,
    sample_type: str,
    multi_input_mode: str,
    num_filter: int = 0,
    workspace: int = 512,
) -> Any:
    if sample_type == "bilinear":
        size = 2 * scale - scale % 2
        pad = int(np.ceil((scale - 1) / 2))
        return run(
            xp,
            "Deconvolution",
            *data,
            kernel=(size, size),
            stride=(scale, scale),
            pad=(pad, pad),
            num_filter=data[0].shape[1],
            num_group=data[0].shape[1],
            no_bias=True,
        )
    height = data[0].shape[2] * scale
    parts = [_nearest(xp, d, height // d.shape[2]) for d in data]
    if multi_input_mode == "sum":
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total
    return parts[0] if len(parts) == 1 else xp.concatenate(parts, axis=1)


@op("UpSampling", vjp=derived(_upsampling_formula))
def _upsampling(
    xp: Any,
    /,
    *data: Any,
    scale: int,
    num_filter: int = 0,
    sample_type: str,
    multi_input_mode: str = "concat",
    workspace: int = 512,
) -> Any:
    """Images enlarged `scale` times: nearest neighbour, or bilinear with (data, weight)."""
    for part in data:
        _images(part)
    if sample_type not in ("nearest", "bilinear"):
        raise ValueError(f"sample_type={sample_type!r}; known: nearest, bilinear")
    if multi_input_mode not in ("concat", "sum"):
        raise ValueError(f"multi_input_mode={multi_input_mode!r}; known: concat, sum")
    if sample_type == "bilinear" and len(data) != 2:
        raise ValueError("bilinear needs (data, weight)")
    if any(data[0].shape[2] * scale % d.shape[2] for d in data) and sample_type == "nearest":
        raise ValueError("the heights of the inputs do not divide the output's")
    return _upsampling_formula(
        xp, *data, scale=scale, sample_type=sample_type, multi_input_mode=multi_input_mode
    )


def along_both(xp: Any, data: Any, rows: Any, columns: Any) -> Any:
    """``rows . image . columns^T`` for every image, with constant matrices."""
    wide = xp.dot(data, np.ascontiguousarray(columns.T))
    turned = xp.dot(xp.swapaxes(wide, 2, 3), np.ascontiguousarray(rows.T))
    return xp.swapaxes(turned, 2, 3)


def _linear_matrix(size: int, out: int, corners: bool, dtype: Any) -> Any:
    """(out, size): weights of linear interpolation."""
    if corners:
        places = np.arange(out) * ((size - 1) / (out - 1) if out > 1 else 0.0)
    else:
        places = np.maximum((np.arange(out) + 0.5) * (size / out) - 0.5, 0)
    first = np.minimum(np.floor(places).astype(np.int64), size - 1)
    second = np.minimum(first + 1, size - 1)
    part = (places - first).astype(dtype)
    matrix = np.zeros((out, size), dtype)
    np.add.at(matrix, (np.arange(out), first), 1 - part)
    np.add.at(matrix, (np.arange(out), second), part)
    return matrix


def _resized(
    shape: tuple[int, ...],
    like: Any,
    height: int,
    width: int,
    scale_height: float | None,
    scale_width: float | None,
    mode: str,
) -> tuple[int, int]:
    h, w = shape[2:]
    if mode == "size":
        return (
            height if scale_height is None else int(h * scale_height),
            width if scale_width is None else int(w * scale_width),
        )
    if mode == "odd_scale":
        if scale_height is None or scale_width is None:
            raise ValueError("mode odd_scale needs scale_height and scale_width")
        return tuple(  # type: ignore[return-value]
            int(n * s) if n % 2 == 0 else int((n - 1) * s) + 1
            for n, s in ((h, scale_height), (w, scale_width))
        )
    if mode == "like":
        return (like.shape[2], like.shape[3])
    step = {
        "to_even_down": lambda n: n - n % 2,
        "to_even_up": lambda n: n + n % 2,
        "to_odd_down": lambda n: n - 1 + n % 2,
        "to_odd_up": lambda n: n + 1 - n % 2,
    }.get(mode)
    if step is None:
        known = "size, like, odd_scale, to_even_down, to_even_up, to_odd_down, to_odd_up"
        raise ValueError(f"mode={mode!r}; known: {known}")
    return step(h), step(w)


def _resize_formula(
    xp: Any, data: Any, *like: Any, mode: str, align_corners: bool, **given: Any
) -> Any:
    h, w = _resized(data.shape, like[0] if like else None, mode=mode, **given)
    dtype = np.dtype(data.dtype).name
    rows = _linear_matrix(data.shape[2], h, align_corners, dtype)
    columns = _linear_matrix(data.shape[3], w, align_corners, dtype)
    return along_both(xp, data, rows, columns)


@op("_contrib_BilinearResize2D", vjp=derived(_resize_formula, 0), optional=("like",))
def _bilinear_resize(
    xp: Any,
    data: Any,
    /,
    *like: Any,
    height: int = 1,
    width: int = 1,
    scale_height: float | None = None,
    scale_width: float | None = None,
    mode: str = "size",
    align_corners: bool = True,
) -> Any:
    """Images in another size by bilinear interpolation."""
    _images(data)
    return _resize_formula(
        xp,
        data,
        *like,
        height=height,
        width=width,
        scale_height=scale_height,
        scale_width=scale_width,
        mode=mode,
        align_corners=align_corners,
    )


def _average_matrix(size: int, out: int, dtype: Any) -> Any:
    """(out, size): weights of adaptive averages."""
    matrix = np.zeros((out, size), dtype)
    for i in range(out):
        low, high = i * size // out, -(-(i + 1) * size // out)
        matrix[i, low:high] = 1 / (high - low)
    return matrix


def _adaptive_formula(xp: Any, data: Any, *, output_size: Any) -> Any:
    given = (output_size,) if isinstance(output_size, int) else tuple(output_size)
    h, w = sizes(given * 2 if len(given) == 1 else given, 1, 2, "output_size")
    dtype = np.dtype(data.dtype).name
    rows = _average_matrix(data.shape[2], h, dtype)
    return along_both(xp, data, rows, _average_matrix(data.shape[3], w, dtype))


@op("_contrib_AdaptiveAvgPooling2D", vjp=derived(_adaptive_formula))
def _adaptive_avg_pooling(xp: Any, data: Any, /, *, output_size: Shape = ()) -> Any:
    """Averages over windows chosen so that the output has `output_size` (h, w)."""
    _images(data)
    return _adaptive_formula(xp, data, output_size=output_size)


# ---- grids ---------------------------------------------------------------------------------


def _base_grid(h: int, w: int, dtype: Any) -> Any:
    """(3, h * w): x, y in [-1, 1] and 1."""
    ys, xs = np.meshgrid(
        -1 + np.arange(h) * (2 / (h - 1) if h > 1 else 0),
        -1 + np.arange(w) * (2 / (w - 1) if w > 1 else 0),
        indexing="ij",
    )
    return np.stack([xs.reshape(-1), ys.reshape(-1), np.ones(h * w)]).astype(dtype)


def _grid_formula(xp: Any, data: Any, *, transform_type: str, target_shape: Any) -> Any:
    dtype = np.dtype(data.dtype).name
    n = data.shape[0]
    if transform_type == "affine":
        h, w = target_shape
        flat = xp.dot(xp.reshape(data, (n * 2, 3)), _base_grid(h, w, dtype))
        return xp.reshape(flat, (n, 2, h, w))
    h, w = data.shape[2:]
    ys, xs = np.meshgrid(np.arange(h), np.arange(w), indexing="ij")
    base = np.broadcast_to(np.stack([xs, ys]).astype(dtype), tuple(data.shape))
    half = np.array([max(w - 1, 1) / 2, max(h - 1, 1) / 2], dtype).reshape(1, 2, 1, 1)
    return (data + np.ascontiguousarray(base)) / half - 1


@op("GridGenerator", vjp=derived(_grid_formula))
def _grid_generator(
    xp: Any, data: Any, /, *, transform_type: str, target_shape: Shape = (0, 0)
) -> Any:
    """A sampling grid (n, 2, h, w) from affine matrices (n, 6) or an optical flow (n, 2, h, w)."""
    if transform_type == "affine":
        shape = sizes(target_shape, 0, 2, "target_shape")
        if min(shape) <= 0 or data.ndim != 2 or data.shape[1] != 6:
            raise ValueError(f"affine needs target_shape and data (n, 6), not {data.shape}")
    elif transform_type == "warp":
        if data.ndim != 4 or data.shape[1] != 2:
            raise ValueError(f"warp needs data (n, 2, h, w), not {data.shape}")
    else:
        raise ValueError(f"transform_type={transform_type!r}; known: affine, warp")
    return _grid_formula(xp, data, transform_type=transform_type, target_shape=target_shape)


def sample_at(xp: Any, data: Any, xs: Any, ys: Any) -> Any:
    """Bilinear samples of (n, c, h, w) at pixel places (n, oh, ow); 0 outside."""
    n, c, h, w = data.shape
    ox, oy = values(xs), values(ys)
    left, top = np.floor(ox), np.floor(oy)
    fx, fy = xs - left.astype(ox.dtype), ys - top.astype(oy.dtype)
    oh, ow = ox.shape[1:]
    flat = xp.reshape(xp.transpose(data, axes=(1, 0, 2, 3)), (c, n * h * w))
    images = np.arange(n).reshape(-1, 1, 1) * (h * w)
    total: Any = None
    for dy in (0, 1):
        for dx in (0, 1):
            px, py = (left + dx).astype(np.int64), (top + dy).astype(np.int64)
            inside = (px >= 0) & (px < w) & (py >= 0) & (py < h)
            places = images + np.where(inside, py * w + px, 0)
            seen = xp.reshape(
                run(xp, "_index", flat, key=(slice(None), places.reshape(-1))), (c, n, oh, ow)
            )
            weight = (fx if dx else 1 - fx) * (fy if dy else 1 - fy)
            weight = weight * inside.astype(ox.dtype)
            part = seen * xp.broadcast_to(xp.reshape(weight, (1, n, oh, ow)), (c, n, oh, ow))
            total = part if total is None else total + part
    return xp.transpose(total, axes=(1, 0, 2, 3))


def _sampler_formula(xp: Any, data: Any, grid: Any, *, cudnn_off: Any = None) -> Any:
    n, _, h, w = data.shape
    shape = (n, *grid.shape[2:])
    xs = (xp.reshape(xp.slice_axis(grid, axis=1, begin=0, end=1), shape) + 1) * ((w - 1) / 2)
    ys = (xp.reshape(xp.slice_axis(grid, axis=1, begin=1, end=2), shape) + 1) * ((h - 1) / 2)
    return sample_at(xp, data, xs, ys)


@op("BilinearSampler", vjp=derived(_sampler_formula))
def _bilinear_sampler(xp: Any, data: Any, grid: Any, /, *, cudnn_off: bool | None = None) -> Any:
    """Images sampled at the places (n, 2: x and y in [-1, 1], h, w) of a grid; 0 outside."""
    _images(data)
    if grid.ndim != 4 or grid.shape[0] != data.shape[0] or grid.shape[1] != 2:
        raise ValueError(f"grid has shape {grid.shape}; ({data.shape[0]}, 2, h, w) is needed")
    return _sampler_formula(xp, data, grid)


def _transformer_formula(xp: Any, data: Any, loc: Any, *, target_shape: Any, **rest: Any) -> Any:
    shape = sizes(target_shape, 0, 2, "target_shape")
    shape = tuple(data.shape[2:]) if min(shape) <= 0 else shape
    grid = _grid_formula(xp, loc, transform_type="affine", target_shape=shape)
    return _sampler_formula(xp, data, grid)


@op("SpatialTransformer", vjp=derived(_transformer_formula))
def _spatial_transformer(
    xp: Any,
    data: Any,
    loc: Any,
    /,
    *,
    target_shape: Shape = (0, 0),
    transform_type: str = "affine",
    sampler_type: str = "bilinear",
    cudnn_off: bool | None = None,
) -> Any:
    """Images under the affine transformations `loc` (n, 6) (Jaderberg et al., 2015)."""
    _images(data)
    if transform_type != "affine" or sampler_type != "bilinear":
        raise ValueError(f"transform_type={transform_type!r}, sampler_type={sampler_type!r}")
    return _transformer_formula(xp, data, loc, target_shape=target_shape)

# SPDX-License-Identifier: Apache-2.0
"""Images as arrays (h, w, c) or batches (n, h, w, c): what ``nd.image`` does without chance."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.attribute import Numbers, Shape
from kvtrain.ops.broadcast import sizes
from kvtrain.ops.derive import derived
from kvtrain.ops.registry import op

#: what red, green and blue count for brightness
GRAY = (0.299, 0.587, 0.114)
_EIGENVALUES = np.array([55.46, 4.794, 1.148])
_EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)


def _check(data: Any) -> None:
    if data.ndim not in (3, 4):
        raise ValueError(f"data has shape {data.shape}; (h, w, c) or (n, h, w, c) is needed")


def saturated(values: Any, dtype: Any) -> Any:
    """`values` in `dtype`: integers are cut to their range."""
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        values = np.clip(values, limits.min, limits.max)
    return values.astype(kind)


@op("_image_to_tensor", vjp=None)
def _to_tensor(xp: Any, data: Any, /) -> Any:
    """(h, w, c) in [0, 255] as float32 (c, h, w) in [0, 1]; batches too."""
    _check(data)
    moved = np.moveaxis(data, -1, -3).astype(np.float32)
    return np.ascontiguousarray(moved / np.float32(255))


def _channels(values: Any, data: Any, what: str) -> Any:
    """One number, or one per channel, broadcast along (c, h, w)."""
    given = np.atleast_1d(np.asarray(values, np.float32))
    if given.size not in (1, data.shape[-3]):
        raise ValueError(f"{what}={values} does not fit {data.shape[-3]} channels")
    return given.reshape(-1, 1, 1)


def _normalize_vjp(xp: Any, g: Any, out: Any, a: Any, *, mean: Any, std: Any) -> tuple[Any, ...]:
    deviation = _channels(std, a, "std")
    wide = np.ascontiguousarray(np.broadcast_to(deviation, tuple(a.shape)))
    return (g / wide.astype(np.dtype(a.dtype)),)


@op("_image_normalize", vjp=_normalize_vjp)
def _normalize(xp: Any, data: Any, /, *, mean: Numbers = (0.0,), std: Numbers = (1.0,)) -> Any:
    """``(data - mean) / std`` per channel of (c, h, w) or (n, c, h, w)."""
    _check(data)
    if data.dtype.kind != "f":
        raise ValueError(f"data has dtype {data.dtype}; a floating point one is needed")
    out = (data - _channels(mean, data, "mean")) / _channels(std, data, "std")
    return out.astype(data.dtype, copy=False)


def _crop_formula(xp: Any, data: Any, *, x: int, y: int, width: int, height: int) -> Any:
    rows, columns = len(data.shape) - 3, len(data.shape) - 2
    tall = xp.slice_axis(data, axis=rows, begin=y, end=y + height)
    return xp.slice_axis(tall, axis=columns, begin=x, end=x + width)


@op("_image_crop", vjp=derived(_crop_formula))
def _crop(xp: Any, data: Any, /, *, x: int, y: int, width: int, height: int) -> Any:
    """The part `width` by `height` whose corner is at column `x` and row `y`."""
    _check(data)
    return _crop_formula(xp, data, x=x, y=y, width=width, height=height)


@op(
    "_image_flip_left_right",
    vjp=lambda xp, g, out, a: (xp.flip(g, axis=len(a.shape) - 2),),
)
def _flip_left_right(xp: Any, data: Any, /) -> Any:
    """Mirrored at the vertical axis."""
    _check(data)
    return np.ascontiguousarray(np.flip(data, data.ndim - 2))


@op(
    "_image_flip_top_bottom",
    vjp=lambda xp, g, out, a: (xp.flip(g, axis=len(a.shape) - 3),),
)
def _flip_top_bottom(xp: Any, data: Any, /) -> Any:
    """Mirrored at the horizontal axis."""
    _check(data)
    return np.ascontiguousarray(np.flip(data, data.ndim - 3))


def _weights(size: int, out: int, nearest: bool) -> Any:
    """(out, size): what each pixel takes from the old ones; pixels' centres are matched."""
    matrix = np.zeros((out, size))
    if nearest:
        places = np.minimum(np.floor(np.arange(out) * (size / out)).astype(np.int64), size - 1)
        matrix[np.arange(out), places] = 1
        return matrix
    centre = np.clip((np.arange(out) + 0.5) * (size / out) - 0.5, 0, size - 1)
    first = np.floor(centre).astype(np.int64)
    second = np.minimum(first + 1, size - 1)
    np.add.at(matrix, (np.arange(out), first), 1 - (centre - first))
    np.add.at(matrix, (np.arange(out), second), centre - first)
    return matrix


@op("_image_resize", vjp=None)
def _resize(
    xp: Any, data: Any, /, *, size: Shape = (), keep_ratio: bool = False, interp: int = 1
) -> Any:
    """In another size (width, height), or one number; interp 0 nearest, else bilinear."""
    _check(data)
    h, w = data.shape[-3:-1]
    given = (size,) if isinstance(size, int) else tuple(size)
    if len(given) == 1:
        if keep_ratio:
            short = given[0]
            given = (int(short * w / h), short) if h < w else (short, int(short * h / w))
        else:
            given = (given[0], given[0])
    width, height = sizes(given, 1, 2, "size")
    if min(width, height) <= 0:
        raise ValueError(f"size={size} must be positive")
    rows, columns = _weights(h, height, interp == 0), _weights(w, width, interp == 0)
    tall = np.tensordot(data.astype(np.float64), columns, axes=(data.ndim - 2, 1))
    wide = np.tensordot(tall, rows, axes=(data.ndim - 3, 1))
    # (..., c, w, h) to (..., h, w, c)
    out = np.swapaxes(wide, -1, -3)
    if data.dtype.kind in "iu":
        out = np.floor(out + 0.5)
    return np.ascontiguousarray(saturated(out, data.dtype))


@op("_image_adjust_lighting", vjp=None)
def _adjust_lighting(xp: Any, data: Any, /, *, alpha: Numbers) -> Any:
    """Noise along the principal components of colours (Krizhevsky et al., 2012)."""
    _check(data)
    shift = _EIGENVECTORS @ (np.asarray(alpha, np.float64) * _EIGENVALUES)
    if data.shape[-1] != 3:
        return data.copy()
    return saturated(data.astype(np.float64) + shift, data.dtype)


def gray(data: Any) -> Any:
    """Brightness of (..., 3), the last dimension kept."""
    weights = np.asarray(GRAY)
    return (data.astype(np.float64) * weights).sum(axis=-1, keepdims=True)


@op("_image_scaled", vjp=None, public=False)
def _scaled(xp: Any, data: Any, /, *, kind: str, factor: float) -> Any:
    """Brightness, contrast or saturation times `factor`."""
    _check(data)
    wide = data.astype(np.float64)
    if kind == "brightness":
        return saturated(wide * factor, data.dtype)
    colour = data.shape[-1] == 3
    if kind == "contrast":
        light = gray(data) if colour else wide
        mean = light.mean(axis=(-3, -2, -1), keepdims=True)
        return saturated(wide * factor + (1 - factor) * mean, data.dtype)
    if not colour:
        return data.copy()
    return saturated(wide * factor + (1 - factor) * gray(data), data.dtype)


@op("_image_hue", vjp=None, public=False)
def _hue(xp: Any, data: Any, /, *, shift: float) -> Any:
    """The hue of (..., 3) turned by `shift` full circles, lightness and saturation kept."""
    _check(data)
    if data.shape[-1] != 3:
        return data.copy()
    # hue, lightness, saturation and back in single precision, as the C library's images have it
    wide = data.astype(np.float32) / np.float32(255)
    r, g, b = (wide[..., i] for i in range(3))
    high, low = wide.max(axis=-1), wide.min(axis=-1)
    span, both = high - low, high + low
    light = both * np.float32(0.5)
    coloured = span > np.finfo(np.float32).eps
    safe = np.where(coloured, span, np.float32(1))
    share = np.where(coloured, span / np.where(light < 0.5, both, 2 - both), np.float32(0))
    step = np.float32(60) / safe
    angle = np.where(
        high == r, (g - b) * step, np.where(high == g, (b - r) * step + 120, (r - g) * step + 240)
    )
    angle = np.where(coloured, np.where(angle < 0, angle + 360, angle), 0).astype(np.float32)
    angle = ((angle + np.float32(shift * 360)) * np.float32(6 / 360)) % np.float32(6)
    sector = np.floor(angle).astype(np.int64) % 6
    part = angle - np.floor(angle)
    top = np.where(light <= 0.5, light * (1 + share), light + share - light * share)
    bottom = 2 * light - top
    table = np.stack(
        [top, bottom, bottom + (top - bottom) * (1 - part), bottom + (top - bottom) * part], -1
    )
    # for each sixth of the circle what red, green and blue are
    order = np.array([[0, 3, 1], [2, 0, 1], [1, 0, 3], [1, 2, 0], [3, 1, 0], [0, 1, 2]])
    out = np.take_along_axis(table, order[sector], axis=-1)
    out = np.where((share > 0)[..., None], out, light[..., None])
    return saturated(out * 255, data.dtype)

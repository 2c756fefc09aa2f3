# SPDX-License-Identifier: Apache-2.0
"""Resizing, cropping, turning and normalising images, (height, width, channels)."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np

from kvtrain.errors import OperatorError
from kvtrain.image import resample
from kvtrain.ndarray import NDArray


def _wrap(raw: Any, like: NDArray) -> NDArray:
    return NDArray(np.ascontiguousarray(raw), like.context)


def imresize(src: NDArray, w: int, h: int, interp: int = 1) -> NDArray:
    """Resize to width `w` and height `h`; `interp`: see :func:`resample.resize`."""
    return _wrap(resample.resize(src._read(), w, h, interp), src)


def resize_short(src: NDArray, size: int, interp: int = 2) -> NDArray:
    """Resize so that the shorter side is `size`."""
    h, w = src.shape[:2]
    if h > w:
        return imresize(src, size, size * h // w, interp)
    return imresize(src, size * w // h, size, interp)


def scale_down(src_size: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """`size` (w, h) made smaller, in proportion, to fit into `src_size`."""
    w, h = map(float, size)
    source_w, source_h = src_size
    if source_h < h:
        w, h = w * source_h / h, source_h
    if source_w < w:
        w, h = source_w, h * source_w / w
    return int(w), int(h)


def fixed_crop(
    src: NDArray,
    x0: int,
    y0: int,
    w: int,
    h: int,
    size: tuple[int, int] | None = None,
    interp: int = 2,
) -> NDArray:
    """The part of size (w, h) at (x0, y0), resized to `size` (w, h)."""
    if x0 < 0 or y0 < 0 or w < 1 or h < 1 or y0 + h > src.shape[0] or x0 + w > src.shape[1]:
        raise OperatorError(
            f"crop: x0={x0}, y0={y0}, w={w}, h={h} does not fit an image of shape {src.shape}"
        )
    out = _wrap(src._read()[y0 : y0 + h, x0 : x0 + w], src)
    if size is not None and (w, h) != tuple(size):
        out = imresize(out, size[0], size[1], interp)
    return out


def center_crop(
    src: NDArray, size: tuple[int, int], interp: int = 2
) -> tuple[NDArray, tuple[int, int, int, int]]:
    """The middle, of `size` (w, h), and its place (x0, y0, w, h); smaller images grow."""
    h, w = src.shape[:2]
    new_w, new_h = scale_down((w, h), size)
    x0, y0 = (w - new_w) // 2, (h - new_h) // 2
    return fixed_crop(src, x0, y0, new_w, new_h, size, interp), (x0, y0, new_w, new_h)


def random_crop(
    src: NDArray, size: tuple[int, int], interp: int = 2
) -> tuple[NDArray, tuple[int, int, int, int]]:
    """A part of `size` (w, h) anywhere, and its place."""
    h, w = src.shape[:2]
    new_w, new_h = scale_down((w, h), size)
    x0, y0 = random.randint(0, w - new_w), random.randint(0, h - new_h)
    return fixed_crop(src, x0, y0, new_w, new_h, size, interp), (x0, y0, new_w, new_h)


def random_size_crop(
    src: NDArray,
    size: tuple[int, int],
    area: Any,
    ratio: tuple[float, float],
    interp: int = 2,
    **kwargs: Any,
) -> tuple[NDArray, tuple[int, int, int, int]]:
    """A part of random area (share of the whole) and aspect ratio, resized to `size`."""
    h, w = src.shape[:2]
    area = kwargs.get("min_area", area)
    low, high = (area, 1.0) if isinstance(area, int | float) else area
    for _ in range(10):
        target = random.uniform(low, high) * h * w
        aspect = math.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1])))
        new_w, new_h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < new_w <= w and 0 < new_h <= h:
            x0, y0 = random.randint(0, w - new_w), random.randint(0, h - new_h)
            return fixed_crop(src, x0, y0, new_w, new_h, size, interp), (x0, y0, new_w, new_h)
    return center_crop(src, size, interp)


def color_normalize(src: NDArray, mean: Any, std: Any = None) -> NDArray:
    """``(src - mean) / std``."""
    out = src if mean is None else src - mean
    return out if std is None else out / std


def imrotate(
    src: NDArray, rotation_degrees: Any, zoom_in: bool = False, zoom_out: bool = False
) -> NDArray:
    """Turn (c, h, w) or (n, c, h, w) of float32 about the centre; outside there is 0.

    Parameters
    ----------
    rotation_degrees : float or NDArray (n,)
    zoom_in : bool
        Enlarge until no outside is seen.
    zoom_out : bool
        Shrink until all of the image is seen.
    """
    raw = src._read()
    if raw.dtype != np.float32:
        raise OperatorError(f"imrotate: only float32 images can be turned, not {raw.dtype}")
    if raw.ndim not in (3, 4):
        raise OperatorError(f"imrotate: shape {raw.shape}; (c, h, w) or (n, c, h, w) is needed")
    angle = rotation_degrees
    if isinstance(angle, NDArray):
        angle = angle.asnumpy()
    batch = raw if raw.ndim == 4 else raw[None]
    out = resample.rotate(batch, angle, zoom_in, zoom_out)
    return _wrap(out if raw.ndim == 4 else out[0], src)


def random_rotate(
    src: NDArray, angle_limits: tuple[float, float], zoom_in: bool = False, zoom_out: bool = False
) -> NDArray:
    """Turn by angles drawn between the limits, one for each image."""
    count = src.shape[0] if src.ndim == 4 else 1
    angles = np.random.uniform(*angle_limits, size=count)
    return imrotate(src, NDArray(angles, src.context), zoom_in, zoom_out)


def copyMakeBorder(
    src: NDArray,
    top: int,
    bot: int,
    left: int,
    right: int,
    type: int = 0,
    value: float = 0.0,
    values: Any = (),
) -> NDArray:
    """Add a border.

    Parameters
    ----------
    type : int
        0 constant, 1 the edge's pixels, 2 reflection with the edge, 3 wrapped, 4 reflection
        without the edge.
    value, values : float, tuple of float
        Of a constant border; one for each channel.
    """
    modes = {1: "edge", 2: "symmetric", 3: "wrap", 4: "reflect"}
    pads = ((top, bot), (left, right), (0, 0))
    raw = src._read()
    if type != 0:
        if type not in modes:
            raise OperatorError(f"copyMakeBorder: type={type}; known: 0 to 4")
        mode: Any = modes[type]
        return _wrap(np.pad(raw, pads, mode=mode), src)
    out = np.empty((raw.shape[0] + top + bot, raw.shape[1] + left + right, raw.shape[2]), raw.dtype)
    out[:] = values or value
    out[top : top + raw.shape[0], left : left + raw.shape[1]] = raw
    return _wrap(out, src)

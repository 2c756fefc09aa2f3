# SPDX-License-Identifier: Apache-2.0
"""Resizing and turning of raw images, by the rules of OpenCV and MXNet."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from kvtrain.errors import OperatorError

Array = np.ndarray[Any, Any]
#: number -> name of the ways to interpolate
INTERPOLATION = {0: "nearest", 1: "bilinear", 2: "bicubic", 3: "area", 4: "lanczos"}


def _taps(kind: str) -> tuple[int, Any]:
    """Number of samples on each side, and weights from distances."""
    if kind == "bicubic":
        a = -0.75

        def cubic(d: Array) -> Array:
            near = ((a + 2) * d - (a + 3)) * d * d + 1
            far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
            return np.where(d <= 1, near, np.where(d < 2, far, 0.0))

        return 2, cubic

    def lanczos(d: Array) -> Array:
        return np.where(d < 4, np.sinc(d) * np.sinc(d / 4), 0.0)

    return 4, lanczos


def _area(source: int, target: int) -> Any:
    """Shares of source pixels in each target pixel; `target` is not larger."""
    edges = np.arange(target + 1) * (source / target)
    cells = np.arange(source)
    low = np.maximum(edges[:-1, None], cells)
    high = np.minimum(edges[1:, None], cells + 1)
    shares = np.maximum(high - low, 0.0)
    total: Array = shares.sum(axis=1, keepdims=True)
    return shares / total


@lru_cache(maxsize=64)
def _weights(source: int, target: int, kind: str, shrinks: bool) -> Array:
    """(target, source): what each target pixel takes of each source pixel."""
    if source == target:
        return np.eye(target)
    scale = source / target
    rows = np.arange(target)
    found = np.zeros((target, source))
    if kind == "nearest":
        found[rows, np.minimum((rows * scale).astype(int), source - 1)] = 1
        return found
    if kind == "area" and shrinks:
        return _area(source, target)
    if kind == "area":
        low = np.floor(rows * scale).astype(int)
        part = (rows + 1) - (low + 1) / scale
        part = np.where(part <= 0, 0.0, part - np.floor(part))
    else:
        at = (rows + 0.5) * scale - 0.5
        low = np.floor(at).astype(int)
        part = at - low
    if kind in ("bilinear", "area"):
        taps = [(low, 1 - part), (low + 1, part)]
    else:
        side, weigh = _taps(kind)
        offsets = range(1 - side, side + 1)
        taps = [(low + k, weigh(np.abs(part - k))) for k in offsets]
        total = sum(w for _, w in taps)
        taps = [(i, w / total) for i, w in taps]
    for index, weight in taps:
        np.add.at(found, (rows, np.clip(index, 0, source - 1)), weight)
    return found


def resize(image: Array, width: int, height: int, interpolation: int = 1) -> Array:
    """(..., h, w, c) to (..., height, width, c).

    Parameters
    ----------
    interpolation : int
        0 nearest, 1 bilinear, 2 bicubic, 3 area, 4 Lanczos; 9: area to shrink, bicubic to
        grow, bilinear for both at once.

    Raises
    ------
    OperatorError
        A size is not positive, or the interpolation is not known.
    """
    if width < 1 or height < 1:
        raise OperatorError(f"resize: width={width}, height={height} must be positive")
    h, w = image.shape[-3:-1]
    if interpolation == 9:
        grows = (height > h) + (width > w)
        interpolation = (3, 1, 2)[grows]
    if interpolation not in INTERPOLATION:
        known = ", ".join(f"{k} {v}" for k, v in INTERPOLATION.items())
        raise OperatorError(f"resize: interpolation={interpolation}; known: {known}, 9 automatic")
    kind = INTERPOLATION[interpolation]
    shrinks = height <= h and width <= w
    rows = _weights(h, height, kind, shrinks)
    columns = _weights(w, width, kind, shrinks)
    c = image.shape[-1]
    flat = image.reshape(*image.shape[:-2], w * c).astype(np.float64)
    tall = np.matmul(rows, flat).reshape(*image.shape[:-3], height, w, c)
    return saturate(np.matmul(columns, tall), image.dtype)


def saturate(values: Array, dtype: Any) -> Array:
    """`values` in `dtype`; integers are rounded and kept within their range."""
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        info = np.iinfo(kind)
        values = np.clip(np.floor(values + 0.5), info.min, info.max)
    return values.astype(kind)


def rotate(image: Array, degrees: Any, zoom_in: bool = False, zoom_out: bool = False) -> Array:
    """Turn (n, c, h, w) about the centre; outside there is 0.

    Parameters
    ----------
    degrees : float or (n,)
        Angle of each image.
    zoom_in : bool
        Enlarge until no outside is seen.
    zoom_out : bool
        Shrink until all of the image is seen.
    """
    if zoom_in and zoom_out:
        raise OperatorError("rotate: zoom_in and zoom_out exclude each other")
    n, _, h, w = image.shape
    angles = np.broadcast_to(np.asarray(degrees, np.float64) * (math.pi / 180), (n,))
    rows = np.arange(h)[:, None] - (h - 1) / 2
    columns = np.arange(w)[None, :] - (w - 1) / 2
    out = np.zeros_like(image)
    for i, angle in enumerate(angles):
        cos, sin = math.cos(angle), math.sin(angle)
        x, y = columns * cos - rows * sin, columns * sin + rows * cos
        if zoom_in or zoom_out:
            reach_x = abs(w * cos) + abs(h * sin)
            reach_y = abs(w * sin) + abs(h * cos)
            factor = max(reach_x / w, reach_y / h)
            factor = factor if zoom_out else min(w / reach_x, h / reach_y)
            x, y = x * factor, y * factor
        out[i] = _sample(image[i], y + (h - 1) / 2, x + (w - 1) / 2)
    return out


def _sample(image: Array, y: Array, x: Array) -> Array:
    """Bilinear values of (c, h, w) at fractional places."""
    _, h, w = image.shape
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    total = np.zeros((image.shape[0], *y.shape), np.float64)
    for dy in (0, 1):
        for dx in (0, 1):
            row, column = top + dy, left + dx
            weight = (1 - np.abs(y - row)) * (1 - np.abs(x - column))
            inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
            values = image[:, np.clip(row, 0, h - 1), np.clip(column, 0, w - 1)]
            total += values * (weight * inside)
    return total.astype(image.dtype)

# SPDX-License-Identifier: Apache-2.0
"""Transforms that move pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain import image
from kvtrain.errors import ConfigError
from kvtrain.gluon.block import Block, HybridBlock
from kvtrain.image import resample
from kvtrain.ndarray import NDArray


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _need_image(x: NDArray, who: str) -> None:
    if x.ndim not in (3, 4):
        raise ConfigError(f"{who}: shape {x.shape}; (h, w, c) or (n, h, w, c) is needed")


class Resize(HybridBlock):
    """(h, w, c) or (n, h, w, c) in another size.

    Parameters
    ----------
    size : int or pair of int
        (width, height), or both.
    keep_ratio : bool
        One number is the size of the shorter side.
    interpolation : int
        0 nearest, 1 bilinear, 2 bicubic, 3 area, 4 Lanczos.
    """

    def __init__(self, size: Any, keep_ratio: bool = False, interpolation: int = 1) -> None:
        super().__init__()
        self._size = size
        self._keep = keep_ratio
        self._interpolation = interpolation

    def hybrid_forward(self, F: Any, x: NDArray) -> Any:
        """See the class."""
        _need_image(x, "Resize")
        width, height = _pair(self._size)
        if self._keep and isinstance(self._size, int):
            h, w = x.shape[-3:-1]
            if h > w:
                height = self._size * h // w
            else:
                width = self._size * w // h
        return NDArray(resample.resize(x._read(), width, height, self._interpolation), x.context)


class CropResize(HybridBlock):
    """The part of size (width, height) at (x, y), resized to `size` (w, h) if it is given."""

    def __init__(
        self,
        x: int,
        y: int,
        width: int,
        height: int,
        size: Any = None,
        interpolation: int | None = None,
    ) -> None:
        super().__init__()
        self._place = (x, y, width, height)
        self._size = size
        self._interpolation = 1 if interpolation is None else interpolation

    def hybrid_forward(self, F: Any, data: NDArray) -> Any:
        """See the class."""
        _need_image(data, "CropResize")
        x, y, w, h = self._place
        height, width = data.shape[-3:-1]
        if x < 0 or y < 0 or w < 1 or h < 1 or x + w > width or y + h > height:
            raise ConfigError(
                f"CropResize: x={x}, y={y}, width={w}, height={h} does not fit shape {data.shape}"
            )
        raw = data._read()[..., y : y + h, x : x + w, :]
        if self._size is not None:
            raw = resample.resize(raw, *_pair(self._size), self._interpolation)
        return NDArray(np.array(raw, order="C"), data.context)


class CenterCrop(Block):
    """The middle, of `size` (w, h); smaller images grow."""

    def __init__(self, size: Any, interpolation: int = 1) -> None:
        super().__init__()
        self._args = (_pair(size), interpolation)

    def forward(self, x: NDArray) -> NDArray:
        """See the class."""
        return image.center_crop(x, *self._args)[0]


class RandomCrop(Block):
    """A part of `size` (w, h) anywhere, after adding a border of `pad` pixels of 0."""

    def __init__(self, size: Any, pad: int | None = None, interpolation: int = 1) -> None:
        super().__init__()
        self._args = (_pair(size), interpolation)
        self._pad = pad

    def forward(self, x: NDArray) -> NDArray:
        """See the class."""
        if self._pad:
            x = image.copyMakeBorder(x, *(self._pad,) * 4)
        return image.random_crop(x, *self._args)[0]


class RandomResizedCrop(Block):
    """A part of random area and aspect ratio, resized to `size` (w, h).

    Parameters
    ----------
    size : int or pair of int
    scale : pair of float
        Limits of the part's share of the area.
    ratio : pair of float
        Limits of width / height.
    interpolation : int
    """

    def __init__(
        self,
        size: Any,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3.0 / 4.0, 4.0 / 3.0),
        interpolation: int = 1,
    ) -> None:
        super().__init__()
        self._args = (_pair(size), scale, ratio, interpolation)

    def forward(self, x: NDArray) -> NDArray:
        """See the class."""
        return image.random_size_crop(x, *self._args)[0]


class _Flip(HybridBlock):
    _change = ""

    def hybrid_forward(self, F: Any, x: NDArray) -> Any:
        """Half of the time reversed."""
        _need_image(x, type(self).__name__)
        return getattr(F.image, self._change)(x)


class RandomFlipLeftRight(_Flip):
    """Left and right change places half of the time."""

    _change = "random_flip_left_right"


class RandomFlipTopBottom(_Flip):
    """Top and bottom change places half of the time."""

    _change = "random_flip_top_bottom"


class Rotate(Block):
    """Turn float32 images, (c, h, w) or (n, c, h, w); see ``mx.image.imrotate``."""

    def __init__(
        self, rotation_degrees: Any, zoom_in: bool = False, zoom_out: bool = False
    ) -> None:
        super().__init__()
        self._args = (rotation_degrees, zoom_in, zoom_out)

    def forward(self, x: NDArray) -> NDArray:
        """See the class."""
        return image.imrotate(x, *self._args)


class RandomRotation(Block):
    """Turn float32 images by an angle between two limits.

    Parameters
    ----------
    angle_limits : pair of float
        Degrees.
    zoom_in, zoom_out : bool
        See ``mx.image.imrotate``.
    rotate_with_proba : float
        How often.
    """

    def __init__(
        self,
        angle_limits: tuple[float, float],
        zoom_in: bool = False,
        zoom_out: bool = False,
        rotate_with_proba: float = 1.0,
    ) -> None:
        super().__init__()
        low, high = angle_limits
        if low >= high:
            raise ConfigError(f"RandomRotation: angle_limits={angle_limits}: low < high is needed")
        if not 0 <= rotate_with_proba <= 1:
            raise ConfigError(
                f"RandomRotation: rotate_with_proba={rotate_with_proba} is not in 0 to 1"
            )
        self._args = (angle_limits, zoom_in, zoom_out)
        self._probability = rotate_with_proba

    def forward(self, x: NDArray) -> NDArray:
        """See the class."""
        if np.random.random() > self._probability:
            return x
        return image.random_rotate(x, *self._args)

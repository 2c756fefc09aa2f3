# SPDX-License-Identifier: Apache-2.0
"""Transforms that change colours; the dtype stays, integers are kept within their range."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.errors import ConfigError
from kvtrain.gluon.block import HybridBlock
from kvtrain.image.resample import saturate
from kvtrain.ndarray import NDArray

Array = np.ndarray[Any, Any]
GREY = np.array([0.299, 0.587, 0.114])
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
_FROM_YIQ = np.array([[1.0, 0.956, 0.621], [1.0, -0.272, -0.647], [1.0, -1.107, 1.705]])
#: principal components of ImageNet's colours (Krizhevsky et al., 2012)
_VALUES = np.array([55.46, 4.794, 1.148])
_VECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)


def brightness(x: Array, factor: float) -> Array:
    """All values times `factor`."""
    return x * factor


def contrast(x: Array, factor: float) -> Array:
    """Distances to the mean of the image's grey times `factor`."""
    mean = (x @ GREY).mean() if x.shape[-1] == 3 else x.mean()
    return x * factor + mean * (1 - factor)


def saturation(x: Array, factor: float) -> Array:
    """Distances to each pixel's grey times `factor`."""
    return x * factor + (x @ GREY)[..., None] * (1 - factor) if x.shape[-1] == 3 else x


def hue(x: Array, turn: float) -> Array:
    """Colours turned about the grey axis by ``turn * pi``."""
    if x.shape[-1] != 3:
        return x
    cos, sin = np.cos(turn * np.pi), np.sin(turn * np.pi)
    middle = np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
    return x @ (_FROM_YIQ @ middle @ _TO_YIQ).T


class _Jitter(HybridBlock):
    """One change by a random factor between 1 - amount and 1 + amount."""

    _change: Callable[[Array, float], Array]
    _centre = 1.0

    def __init__(self, amount: float) -> None:
        super().__init__()
        if amount < 0:
            raise ConfigError(f"{type(self).__name__}: {amount} must not be negative")
        self._amount = amount

    def hybrid_forward(self, F: Any, x: NDArray) -> Any:
        """See the class."""
        low = self._centre - self._amount
        factor = random.uniform(max(0.0, low) if self._centre else low, self._centre + self._amount)
        changed = type(self)._change(x._read().astype(np.float64), factor)
        return NDArray(saturate(changed, x.dtype), x.context)


class RandomBrightness(_Jitter):
    """Values times a factor between ``1 - brightness`` and ``1 + brightness``."""

    _change = staticmethod(brightness)

    def __init__(self, brightness: float) -> None:
        super().__init__(brightness)


class RandomContrast(_Jitter):
    """Distances to the mean grey times a factor between ``1 - contrast`` and ``1 + contrast``."""

    _change = staticmethod(contrast)

    def __init__(self, contrast: float) -> None:
        super().__init__(contrast)


class RandomSaturation(_Jitter):
    """Distances to grey times a factor between ``1 - saturation`` and ``1 + saturation``."""

    _change = staticmethod(saturation)

    def __init__(self, saturation: float) -> None:
        super().__init__(saturation)


class RandomHue(_Jitter):
    """Colours turned by up to `hue` of half a circle either way."""

    _change = staticmethod(hue)
    _centre = 0.0

    def __init__(self, hue: float) -> None:
        super().__init__(hue)


class RandomColorJitter(HybridBlock):
    """Brightness, contrast, saturation and hue, in random order; 0 leaves one out."""

    def __init__(
        self, brightness: float = 0, contrast: float = 0, saturation: float = 0, hue: float = 0
    ) -> None:
        super().__init__()
        kinds = (
            (RandomBrightness, brightness),
            (RandomContrast, contrast),
            (RandomSaturation, saturation),
            (RandomHue, hue),
        )
        self._jitters = tuple(kind(amount) for kind, amount in kinds if amount > 0)

    def hybrid_forward(self, F: Any, x: NDArray) -> Any:
        """See the class."""
        for jitter in random.sample(self._jitters, len(self._jitters)):
            x = jitter(x)
        return x


class RandomLighting(HybridBlock):
    """Noise along the principal components of ImageNet's colours.

    Parameters
    ----------
    alpha : float
        Standard deviation of its strength.
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self._alpha = alpha

    def hybrid_forward(self, F: Any, x: NDArray) -> Any:
        """See the class."""
        if x.shape[-1] != 3:
            return x
        strength = np.array([random.gauss(0, self._alpha) for _ in range(3)])
        shift = _VECTORS @ (strength * _VALUES)
        return NDArray(saturate(x._read().astype(np.float64) + shift, x.dtype), x.context)

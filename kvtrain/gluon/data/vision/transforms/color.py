# SPDX-License-Identifier: Apache-2.0
"""Transforms that change colours; the dtype stays, integers are kept within their range.

Random factors come from the stream of ``nd.image``, which ``mx.random.seed`` seeds.
"""

from __future__ import annotations

from typing import Any

from kvtrain.errors import ConfigError
from kvtrain.gluon.block import HybridBlock
from kvtrain.ndarray import NDArray


def _checked(owner: Any, amount: float) -> float:
    if amount < 0:
        raise ConfigError(f"{type(owner).__name__}: {amount} must not be negative")
    return amount


class _Jitter(HybridBlock):
    """One change by a random factor between 1 - amount and 1 + amount."""

    _change = ""

    def __init__(self, amount: float) -> None:
        super().__init__()
        _checked(self, amount)
        self._args = (max(0, 1 - amount), 1 + amount)

    def hybrid_forward(self, F: Any, x: NDArray) -> Any:
        """See the class."""
        return getattr(F.image, self._change)(x, *self._args)


class RandomBrightness(_Jitter):
    """Values times a factor between ``1 - brightness`` and ``1 + brightness``."""

    _change = "random_brightness"

    def __init__(self, brightness: float) -> None:
        super().__init__(brightness)


class RandomContrast(_Jitter):
    """Distances to the mean grey times a factor between ``1 - contrast`` and ``1 + contrast``."""

    _change = "random_contrast"

    def __init__(self, contrast: float) -> None:
        super().__init__(contrast)


class RandomSaturation(_Jitter):
    """Distances to grey times a factor between ``1 - saturation`` and ``1 + saturation``."""

    _change = "random_saturation"

    def __init__(self, saturation: float) -> None:
        super().__init__(saturation)


class RandomHue(_Jitter):
    """Colours turned by up to `hue` of the circle either way."""

    _change = "random_hue"

    def __init__(self, hue: float) -> None:
        super().__init__(hue)


class RandomColorJitter(HybridBlock):
    """Brightness, contrast, saturation and hue, in random order; 0 leaves one out."""

    def __init__(
        self, brightness: float = 0, contrast: float = 0, saturation: float = 0, hue: float = 0
    ) -> None:
        super().__init__()
        self._args = tuple(_checked(self, a) for a in (brightness, contrast, saturation, hue))

    def hybrid_forward(self, F: Any, x: NDArray) -> Any:
        """See the class."""
        return F.image.random_color_jitter(x, *self._args)


class RandomLighting(HybridBlock):
    """Noise along the principal components of ImageNet's colours (Krizhevsky et al., 2012).

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
        return F.image.random_lighting(x, self._alpha)

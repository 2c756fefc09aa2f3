# SPDX-License-Identifier: Apache-2.0
"""Initializers of single weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kvtrain.errors import ConfigError
from kvtrain.initializer.base import Initializer, initializers, register
from kvtrain.ndarray import NDArray, random


@register
class Zero(Initializer):
    """Zeros."""

    def _init_weight(self, name: str, arr: NDArray) -> None:
        arr[:] = 0.0

    _init_default = _init_weight


@register
class One(Initializer):
    """Ones."""

    def _init_weight(self, name: str, arr: NDArray) -> None:
        arr[:] = 1.0

    _init_default = _init_weight


initializers.register(Zero, "zeros")
initializers.register(One, "ones")


@register
class Constant(Initializer):
    """One value, or the values of an array.

    Parameters
    ----------
    value : float, list, NumPy array or NDArray
    """

    def __init__(self, value: Any = 0.0) -> None:
        plain = value.asnumpy().tolist() if isinstance(value, NDArray) else value
        if isinstance(plain, np.ndarray | np.generic):
            plain = plain.tolist()
        super().__init__(value=plain)
        self.value = value

    def _init_weight(self, name: str, arr: NDArray) -> None:
        arr[:] = self.value

    _init_default = _init_weight


@register
class Uniform(Initializer):
    """Uniform in ``[-scale, scale)``."""

    def __init__(self, scale: float = 0.07) -> None:
        super().__init__(scale=scale)
        self.scale = scale

    def _init_weight(self, name: str, arr: NDArray) -> None:
        random.uniform(-self.scale, self.scale, arr.shape, out=arr)


@register
class Normal(Initializer):
    """Normal with mean 0 and standard deviation `sigma`."""

    def __init__(self, sigma: float = 0.01) -> None:
        super().__init__(sigma=sigma)
        self.sigma = sigma

    def _init_weight(self, name: str, arr: NDArray) -> None:
        random.normal(0, self.sigma, arr.shape, out=arr)


@register
class Xavier(Initializer):
    """Variance kept from layer to layer (Glorot and Bengio, 2010).

    Parameters
    ----------
    rnd_type : {'uniform', 'gaussian'}
    factor_type : {'avg', 'in', 'out'}
        By which number of connections the scale is divided.
    magnitude : float
        ``scale = sqrt(magnitude / factor)``.
    """

    def __init__(
        self, rnd_type: str = "uniform", factor_type: str = "avg", magnitude: float = 3
    ) -> None:
        super().__init__(rnd_type=rnd_type, factor_type=factor_type, magnitude=magnitude)
        if rnd_type not in ("uniform", "gaussian"):
            raise ConfigError(f"Xavier: rnd_type={rnd_type!r}; known: uniform, gaussian")
        if factor_type not in ("avg", "in", "out"):
            raise ConfigError(f"Xavier: factor_type={factor_type!r}; known: avg, in, out")
        self.rnd_type = rnd_type
        self.factor_type = factor_type
        self.magnitude = float(magnitude)

    def _init_weight(self, name: str, arr: NDArray) -> None:
        shape = arr.shape
        if len(shape) < 2:
            raise ConfigError(
                f"Xavier cannot initialise {name!r} of shape {shape}: two dimensions are needed"
            )
        window = float(np.prod(shape[2:]))
        fan_in, fan_out = shape[1] * window, shape[0] * window
        factor = {"avg": (fan_in + fan_out) / 2.0, "in": fan_in, "out": fan_out}[self.factor_type]
        scale = math.sqrt(self.magnitude / factor)
        if self.rnd_type == "uniform":
            random.uniform(-scale, scale, arr.shape, out=arr)
        else:
            random.normal(0, scale, arr.shape, out=arr)


@register
class MSRAPrelu(Xavier):
    """For rectifiers with slope (He et al., 2015): ``magnitude = 2 / (1 + slope**2)``."""

    def __init__(self, factor_type: str = "avg", slope: float = 0.25) -> None:
        super().__init__("gaussian", factor_type, 2.0 / (1 + slope**2))
        self._kwargs = {"factor_type": factor_type, "slope": slope}


@register
class Orthogonal(Initializer):
    """Orthogonal rows or columns (Saxe et al., 2013), times `scale`."""

    def __init__(self, scale: float = 1.414, rand_type: str = "uniform") -> None:
        super().__init__(scale=scale, rand_type=rand_type)
        self.scale = scale
        self.rand_type = rand_type

    def _init_weight(self, name: str, arr: NDArray) -> None:
        rows, columns = arr.shape[0], int(np.prod(arr.shape[1:]))
        if self.rand_type == "uniform":
            raw = random.uniform(-1.0, 1.0, (rows, columns)).asnumpy()
        else:
            raw = random.normal(0.0, 1.0, (rows, columns)).asnumpy()
        u, _, v = np.linalg.svd(raw, full_matrices=False)
        best = u if u.shape == raw.shape else v
        arr[:] = (self.scale * best).reshape(arr.shape)


@register
class Bilinear(Initializer):
    """Weights of bilinear up-sampling."""

    def _init_weight(self, name: str, arr: NDArray) -> None:
        self._init_bilinear(name, arr)

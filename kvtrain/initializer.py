# SPDX-License-Identifier: Apache-2.0
"""``mx.init``: first values of parameters, chosen by what a parameter's name ends in."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np

from kvtrain.errors import ConfigError
from kvtrain.ndarray import NDArray, random
from kvtrain.registry import Registry

initializers: Registry[type[Initializer]] = Registry("initializer")


def register(klass: type[Initializer]) -> type[Initializer]:
    """``@mx.init.register``: make a class known by its name, in any case."""
    return initializers.register(klass, klass.__name__)


def create(initializer: Any, **kwargs: Any) -> Initializer:
    """An initializer from a name, the JSON text of :meth:`Initializer.dumps`, or itself."""
    if isinstance(initializer, Initializer):
        return initializer
    if isinstance(initializer, str) and initializer.startswith("["):
        name, config = json.loads(initializer)
        made: Initializer = initializers.get(name)(**config)
        return made
    made = initializers.get(initializer)(**kwargs)
    return made


class InitDesc(str):
    """Name of what is initialised, with attributes.

    Parameters
    ----------
    name : str
        The parameter's name.
    attrs : dict of str to str
        ``attrs["__init__"]`` names an initializer that goes before the global one.
    """

    attrs: dict[str, str]
    global_init: Any

    def __new__(
        cls, name: str, attrs: dict[str, str] | None = None, global_init: Any = None
    ) -> InitDesc:
        made = super().__new__(cls, name)
        made.attrs = attrs or {}
        made.global_init = global_init
        return made


class Initializer:
    """Base of all initializers: ``init(InitDesc(name), array)`` fills `array`.

    Names that end in ``weight`` go to :meth:`_init_weight`; bias, beta and running means get
    0, gamma and running variances 1.
    """

    def __init__(self, **kwargs: Any) -> None:
        self._kwargs = kwargs

    def dumps(self) -> str:
        """Name and arguments as JSON text."""
        return json.dumps([type(self).__name__.lower(), self._kwargs])

    def __call__(self, desc: Any, arr: NDArray) -> None:
        """Fill `arr`."""
        if not isinstance(desc, InitDesc):
            desc = InitDesc(str(desc))
        chosen = desc.attrs.get("__init__", "")
        if chosen:
            create(chosen)._init_weight(desc, arr)
        elif desc.endswith("weight"):
            self._init_weight(desc, arr)
        elif desc.endswith("bias"):
            self._init_bias(desc, arr)
        elif desc.endswith(("gamma", "running_var", "moving_var", "moving_inv_var")):
            _fill(arr, 1.0)
        elif desc.endswith(("beta", "running_mean", "moving_mean", "moving_avg", "min", "max")):
            _fill(arr, 0.0)
        else:
            self._init_default(desc, arr)

    def _init_weight(self, name: str, arr: NDArray) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define _init_weight(name, arr)")

    def _init_bias(self, name: str, arr: NDArray) -> None:
        _fill(arr, 0.0)

    def _init_default(self, name: str, arr: NDArray) -> None:
        raise ConfigError(
            f"no rule for the first value of {name!r}: the name ends in none of weight, bias, "
            "gamma, beta, running_mean, running_var; give the parameter its own init="
        )

    def __eq__(self, other: object) -> bool:
        return (
            type(self) is type(other)
            and isinstance(other, Initializer)
            and self._kwargs == other._kwargs
        )

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        inside = ", ".join(f"{k}={v!r}" for k, v in self._kwargs.items())
        return f"{type(self).__name__}({inside})"


def _fill(arr: NDArray, value: Any) -> None:
    arr[:] = value


def _random(arr: NDArray, draw: Any, *args: float) -> None:
    """Draw in float32, as MXNet does, into an array of any floating dtype."""
    values = draw(*args, shape=arr.shape, ctx=arr.context)
    arr._write()[...] = values._read()


@register
class Zero(Initializer):
    """Zeros."""

    def _init_weight(self, name: str, arr: NDArray) -> None:
        _fill(arr, 0.0)

    _init_default = _init_weight


@register
class One(Initializer):
    """Ones."""

    def _init_weight(self, name: str, arr: NDArray) -> None:
        _fill(arr, 1.0)

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
        _fill(arr, self.value)

    _init_default = _init_weight


@register
class Uniform(Initializer):
    """Uniform in ``[-scale, scale)``."""

    def __init__(self, scale: float = 0.07) -> None:
        super().__init__(scale=scale)
        self.scale = scale

    def _init_weight(self, name: str, arr: NDArray) -> None:
        _random(arr, random.uniform, -self.scale, self.scale)


@register
class Normal(Initializer):
    """Normal with mean 0 and standard deviation `sigma`."""

    def __init__(self, sigma: float = 0.01) -> None:
        super().__init__(sigma=sigma)
        self.sigma = sigma

    def _init_weight(self, name: str, arr: NDArray) -> None:
        _random(arr, random.normal, 0.0, self.sigma)


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
            _random(arr, random.uniform, -scale, scale)
        else:
            _random(arr, random.normal, 0.0, scale)


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
        _fill(arr, (self.scale * best).reshape(arr.shape))


@register
class Bilinear(Initializer):
    """Weights of bilinear up-sampling."""

    def _init_weight(self, name: str, arr: NDArray) -> None:
        height, width = arr.shape[2:]
        f = math.ceil(width / 2.0)
        c = (2 * f - 1 - f % 2) / (2.0 * f)
        y, x = np.mgrid[:height, :width]
        _fill(arr, np.broadcast_to((1 - abs(x / f - c)) * (1 - abs(y / f - c)), arr.shape))


@register
class LSTMBias(Initializer):
    """Zeros, with the bias of the forget gate (second quarter) at `forget_bias`."""

    def __init__(self, forget_bias: float = 1.0) -> None:
        super().__init__(forget_bias=forget_bias)
        self.forget_bias = forget_bias

    def _init_weight(self, name: str, arr: NDArray) -> None:
        hidden = arr.shape[0] // 4
        raw = np.zeros(arr.shape, arr.dtype)
        raw[hidden : 2 * hidden] = self.forget_bias
        _fill(arr, raw)

    _init_bias = _init_weight
    _init_default = _init_weight


class Mixed:
    """Several initializers, chosen by the first regular expression that a name matches."""

    def __init__(self, patterns: list[str], initializers: list[Initializer]) -> None:
        if len(patterns) != len(initializers):
            raise ConfigError(f"Mixed: {len(patterns)} patterns, {len(initializers)} initializers")
        self.map = list(zip((re.compile(p) for p in patterns), initializers, strict=True))

    def __call__(self, name: str, arr: NDArray) -> None:
        """Fill `arr`."""
        for pattern, initializer in self.map:
            if pattern.match(name):
                initializer(name, arr)
                return
        raise ConfigError(f"Mixed: no pattern matches {name!r}; add '.*' as the last one")

# SPDX-License-Identifier: Apache-2.0
"""What all initializers share: the registry, and rules by a parameter's name."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.errors import ConfigError
from kvtrain.ndarray import NDArray
from kvtrain.registry import Registry

initializers: Registry[type[Initializer]] = Registry("initializer")


def register(klass: type[Initializer]) -> type[Initializer]:
    """``@mx.init.register``: make a class known by its name, in any case."""
    return initializers.override(klass, klass.__name__)


def alias(*names: str) -> Callable[[type[Initializer]], type[Initializer]]:
    """``@mx.init.alias("a", "b")``: more names for a class."""
    return lambda klass: initializers.override(klass, *names)


def create(*args: Any, **kwargs: Any) -> Any:
    """An initializer from a name, the JSON text of :meth:`Initializer.dumps`, or itself."""
    if args and callable(args[0]):
        return args[0]
    return initializers.build(Initializer, *args, **kwargs)


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

    What is done goes by the end of the name: weight, bias (0), gamma (1), beta (0); of a plain
    text also running means (0) and variances (1). A subclass writes
    ``_init_weight(name, arr)`` and, where it wants, ``_init_bias``,
    ``_init_gamma``, ``_init_beta`` and ``_init_default``.
    """

    def __init__(self, **kwargs: Any) -> None:
        self._kwargs = kwargs
        self._verbose = False
        self._print_func: Callable[[NDArray], str] = _typical_size

    def set_verbosity(
        self, verbose: bool = False, print_func: Callable[[NDArray], str] | None = None
    ) -> Initializer:
        """Log what was filled, with ``print_func(array)`` (root mean square by default)."""
        self._verbose = verbose
        self._print_func = print_func or _typical_size
        return self

    def dumps(self) -> str:
        """Name and arguments as JSON text."""
        return json.dumps([type(self).__name__.lower(), self._kwargs])

    def __call__(self, desc: Any, arr: NDArray) -> None:
        """Fill `arr`."""
        if not isinstance(desc, str):
            raise TypeError(f"name must be string, got {desc!r}")
        if not isinstance(arr, NDArray):
            raise TypeError(f"arr must be NDArray, got {type(arr).__name__}")
        if isinstance(desc, InitDesc) and desc.global_init is None:
            desc.global_init = self
        chosen = desc.attrs.get("__init__", "") if isinstance(desc, InitDesc) else ""
        if chosen:
            create(chosen)._init_weight(desc, arr)
            what = chosen
        else:
            what, fill = self._by_name(desc)
            fill(desc, arr)
        if self._verbose:
            logging.info("Initialized %s as %s: %s", desc, what, self._print_func(arr))

    def _by_name(self, desc: str) -> tuple[str, Callable[[Any, NDArray], None]]:
        rules: list[tuple[Any, Callable[[Any, NDArray], None]]] = [
            ("weight", self._init_weight),
            ("bias", self._init_bias),
            ("gamma", self._init_gamma),
            ("beta", self._init_beta),
            ("min", self._init_zero),
            ("max", self._init_one),
        ]
        if not isinstance(desc, InitDesc):  # names that only text is searched for
            means = ("running_mean", "moving_mean", "moving_avg", "moving_inv_var")
            rules += [
                (means, self._init_zero),
                (("running_var", "moving_var"), self._init_one),
            ]
            if desc.startswith("upsampling"):
                return "bilinear", self._init_bilinear
            if desc.startswith("stn_loc") and desc.endswith("weight"):
                return "zero", self._init_zero
            if desc.startswith("stn_loc") and desc.endswith("bias"):
                return "identity", self._init_loc_bias
        for ending, fill in rules:
            if desc.endswith(ending):
                return ending if isinstance(ending, str) else ending[0], fill
        return "default", self._init_default

    def _init_bilinear(self, name: Any, arr: NDArray) -> None:
        if len(arr.shape) != 4:
            raise ConfigError(f"Bilinear: {name!r} has shape {arr.shape}; 4 dimensions are wanted")
        height, width = arr.shape[2:]
        f = math.ceil(width / 2.0)
        c = (2 * f - 1 - f % 2) / (2.0 * f)
        y, x = np.mgrid[:height, :width]
        filled = (1 - abs(x / f - c)) * (1 - abs(y / f - c))
        arr[:] = np.broadcast_to(filled, arr.shape).astype(np.float32)

    def _init_zero(self, name: Any, arr: NDArray) -> None:
        arr[:] = 0.0

    def _init_one(self, name: Any, arr: NDArray) -> None:
        arr[:] = 1.0

    def _init_loc_bias(self, name: Any, arr: NDArray) -> None:
        arr[:] = np.array([1.0, 0, 0, 0, 1.0, 0])

    def _init_bias(self, name: Any, arr: NDArray) -> None:
        arr[:] = 0.0

    def _init_gamma(self, name: Any, arr: NDArray) -> None:
        arr[:] = 1.0

    def _init_beta(self, name: Any, arr: NDArray) -> None:
        arr[:] = 0.0

    def _init_weight(self, name: Any, arr: NDArray) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define _init_weight(name, arr)")

    def _init_default(self, name: Any, arr: NDArray) -> None:
        raise ConfigError(
            f"Unknown initialization pattern for {name}: the name ends in none of weight, bias, "
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


def _typical_size(arr: NDArray) -> str:
    return str(float(np.sqrt(np.mean(np.square(arr.asnumpy(), dtype=np.float64)))))

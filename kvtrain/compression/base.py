# SPDX-License-Identifier: Apache-2.0
"""What a gradient codec is: pure functions between flat float32 arrays and bytes.

A codec has no state; what it loses is kept by :class:`kvtrain.compression.feedback.ErrorFeedback`
around it. The number of bytes depends on the number of values only, so that a receiver can
check a wire before it decodes it.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from kvtrain.errors import ConfigError, RemoteProtocolError
from kvtrain.registry import Registry

Array = np.ndarray[Any, Any]
compressors: Registry[type[Compressor]] = Registry("gradient compression")


class Compressor(ABC):
    """Base of all codecs. A subclass lists its own parameters with defaults in `defaults`.

    Parameters
    ----------
    error_feedback : bool
        Whether the sender adds what was lost to its next gradient.
    """

    #: the name users give
    name: ClassVar[str]
    #: names the codec on the wire; 0 is no codec
    code: ClassVar[int]
    #: parameters and their defaults; the types of the defaults are enforced
    defaults: ClassVar[dict[str, float]] = {}

    def __init__(self, *, error_feedback: bool = True, **parameters: float) -> None:
        self.error_feedback = error_feedback
        self.parameters = {**self.defaults, **parameters}
        self.check()

    def check(self) -> None:  # noqa: B027 - most codecs have nothing to check
        """Raise ConfigError if a parameter cannot be used."""

    @abstractmethod
    def wire_bytes(self, size: int) -> int:
        """Bytes for `size` values."""

    @abstractmethod
    def compress(self, values: Array) -> Array:
        """Encode float32 values (n,) to uint8 (wire_bytes(n),); `values` is not changed."""

    @abstractmethod
    def decompress(self, wire: Array, out: Array) -> None:
        """Decode into `out`, float32 (n,); `wire` has been checked by :meth:`check_wire`."""

    def compress_total(self, total: Array) -> Array:
        """Encode ``residual + gradient`` and leave in `total` what was not sent."""
        wire = self.compress(total)
        sent = np.empty_like(total)
        self.decompress(wire, sent)
        np.subtract(total, sent, out=total)
        return wire

    def check_wire(self, wire: Array, size: int) -> None:
        """Raise RemoteProtocolError if `wire` cannot be the code of `size` values."""
        if wire.dtype != np.uint8 or wire.ndim != 1 or wire.size != self.wire_bytes(size):
            raise RemoteProtocolError(
                f"{self.name} code of {size} values: got {wire.size} of {wire.dtype}, "
                f"expected {self.wire_bytes(size)} bytes"
            )

    def config(self) -> dict[str, Any]:
        """What :func:`create` builds an equal codec from."""
        return {"type": self.name, "error_feedback": self.error_feedback, **self.parameters}

    def describe(self) -> str:
        """The config as text with one spelling, for comparison and the wire."""
        return json.dumps(self.config(), sort_keys=True)

    @classmethod
    def build(cls, given: Mapping[str, Any]) -> Self:
        """From user's parameters: numbers may be given as text, as in MXNet."""
        known = ("error_feedback", *cls.defaults)
        made: dict[str, Any] = {}
        for name, value in given.items():
            if name not in known:
                raise ConfigError(
                    f"gradient compression {cls.name!r} has no parameter {name!r}; "
                    f"known: {', '.join(known)}"
                )
            made[name] = _flag(value) if name == "error_feedback" else _number(name, value)
        return cls(**made)


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if isinstance(value, bool) or not np.isfinite(number):
        raise ConfigError(f"gradient compression: {name}={value!r} is no number")
    return number


def _flag(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "1", "false", "0"):
        return value.lower() in ("true", "1")
    if isinstance(value, bool | int) and value in (0, 1):
        return bool(value)
    raise ConfigError(f"gradient compression: error_feedback={value!r} is neither True nor False")


def register(cls: type[Compressor]) -> type[Compressor]:
    """Make a codec known by its name; its wire code must be free."""
    if cls.code in (0, *(compressors.get(name).code for name in compressors)):
        raise ValueError(f"wire code {cls.code} of {cls.name!r} is taken")
    return compressors.register(cls, cls.name)


def create(parameters: Mapping[str, Any]) -> Compressor | None:
    """The codec that ``set_gradient_compression`` was given; None for type 'none'.

    Raises
    ------
    UnknownName
        There is no such type; lists the known ones.
    ConfigError
        No type, an unknown parameter, or a value that cannot be used.
    """
    if not isinstance(parameters, Mapping):
        raise ConfigError(
            f"gradient compression: expected a dict like {{'type': '2bit'}}, got {parameters!r}"
        )
    rest = dict(parameters)
    if "type" not in rest:
        raise ConfigError(
            f"gradient compression: the dict {dict(parameters)!r} has no 'type'; "
            f"known: none, {', '.join(compressors)}"
        )
    kind = rest.pop("type")
    if kind is None or kind == "none":
        return None
    made: Compressor = compressors.get(str(kind)).build(rest)
    return made


def from_text(text: str) -> Compressor | None:
    """The codec that :meth:`Compressor.describe` described; None for an empty text."""
    if not text:
        return None
    try:
        config = json.loads(text)
    except ValueError:
        raise ConfigError(f"gradient compression: {text!r:.80} is no description") from None
    return create(config)

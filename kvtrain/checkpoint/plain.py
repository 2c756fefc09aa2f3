# SPDX-License-Identifier: Apache-2.0
"""Frozen dataclasses to plain JSON data and back; every value is checked against its type."""

from __future__ import annotations

import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

from kvtrain.errors import FormatError

T = TypeVar("T")
#: most items of one list in a manifest
MAX_ITEMS = 1 << 22
_SCALARS = (int, float, str, bool)


def to_plain(value: Any) -> Any:
    """Lists, dictionaries and scalars."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    return value


def from_plain(cls: type[T], plain: Any, where: str) -> T:
    """A `cls` made of `plain`; unknown fields are ignored, missing ones need a default.

    Raises
    ------
    FormatError
        A field is missing or of another type; says which.
    """
    if not isinstance(plain, dict):
        raise FormatError(f"{where}: expected an object, got {plain!r:.40}")
    hints = typing.get_type_hints(cls)
    found: dict[str, Any] = {}
    for field in fields(cls):  # type: ignore[arg-type]
        place = f"{where}.{field.name}"
        if field.name not in plain:
            if field.default is MISSING and field.default_factory is MISSING:
                raise FormatError(f"{place} is missing")
            continue
        found[field.name] = _value(hints[field.name], plain[field.name], place)
    return cls(**found)


def _value(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        inner = [a for a in arguments if a is not type(None)]
        return None if value is None else _value(inner[0], value, where)
    if origin is tuple:
        if not isinstance(value, list) or len(value) > MAX_ITEMS:
            raise FormatError(f"{where}: expected a list, got {value!r:.40}")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_value(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
        if len(value) != len(arguments):
            raise FormatError(f"{where}: expected {len(arguments)} items, got {len(value)}")
        return tuple(
            _value(a, v, f"{where}[{i}]")
            for i, (a, v) in enumerate(zip(arguments, value, strict=True))
        )
    if origin is dict or kind is dict:
        if not isinstance(value, dict):
            raise FormatError(f"{where}: expected an object, got {value!r:.40}")
        return value
    if kind in _SCALARS:
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind:
            raise FormatError(f"{where}: expected {kind.__name__}, got {value!r:.40}")
        return value
    if isinstance(kind, type) and hasattr(kind, "_fields"):
        names: tuple[str, ...] = kind._fields
        hints = typing.get_type_hints(kind)
        if not isinstance(value, list) or len(value) != len(names):
            raise FormatError(f"{where}: expected {len(names)} numbers, got {value!r:.40}")
        return kind(*(_value(hints[n], v, where) for n, v in zip(names, value, strict=True)))
    if isinstance(kind, type) and is_dataclass(kind):
        return from_plain(kind, value, where)
    raise TypeError(f"{where}: no plain form for {kind!r}")

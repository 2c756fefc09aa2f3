# SPDX-License-Identifier: Apache-2.0
"""Field types to plain data for msgpack and back, checked on the way in.

msgpack packs named tuples and numbers as they are, so what consists of those needs no encoder
at all: a message of hundreds of chunks is packed in C.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from operator import attrgetter, call
from typing import Any

from kvtrain.errors import RemoteProtocolError
from kvtrain.ps.core.messages import Plain

#: most items of any list, deepest nesting of plain data
MAX_ITEMS = 1 << 20
MAX_DEPTH = 8
#: None: the value is packed as it is
Encode = Callable[[Any], Any] | None
Decode = Callable[[Any], Any]
Form = tuple[Encode, Decode]


def bad(what: str) -> RemoteProtocolError:
    """The error of a message that is not well formed."""
    return RemoteProtocolError(f"malformed message: {what}")


def form_of(kind: Any) -> Form:
    """Encoder and decoder of a field's type."""
    if kind is float:
        return None, _float
    if kind in (int, str, bool, bytes):
        return None, _scalar(kind)
    if kind == Plain:
        return None, _whole
    if isinstance(kind, type) and issubclass(kind, enum.IntEnum):
        return None, _member(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return _items(*form_of(arguments[0]))
    if origin in (types.UnionType, typing.Union):
        encode, decode = form_of(next(a for a in arguments if a is not type(None)))
        return (
            None if encode is None else lambda v: None if v is None else encode(v),
            lambda v: None if v is None else decode(v),
        )
    hints = typing.get_type_hints(kind)
    if hasattr(kind, "_fields"):
        forms = [form_of(hints[name]) for name in kind._fields]
        if all(encode is None for encode, _ in forms):
            return None, _named_tuple(kind, [hints[name] for name in kind._fields], forms)
        return _record(kind, list(kind._fields), forms)
    if is_dataclass(kind):
        names = [field.name for field in fields(kind)]
        make: Any = kind
        return _record(make, names, [form_of(hints[name]) for name in names])
    raise TypeError(f"no wire form for {kind!r}")


def getter(names: list[str], encoders: list[Encode]) -> Callable[[Any], Any]:
    """What makes a tuple of an object's attributes, each encoded."""
    if not names:
        return lambda value: ()
    if len(names) == 1:
        one = attrgetter(names[0])
        get: Callable[[Any], Any] = lambda value: (one(value),)  # noqa: E731
    else:
        get = attrgetter(*names)
    if all(encode is None for encode in encoders):
        return get

    def encoded(value: Any) -> Any:
        return [
            part if encode is None else encode(part)
            for part, encode in zip(get(value), encoders, strict=True)
        ]

    return encoded


def _float(value: Any) -> float:
    if type(value) not in (float, int):
        raise bad(f"{value!r:.40} is no number")
    return float(value)


def _scalar(kind: type) -> Decode:
    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise bad(f"{value!r:.40} is no {kind.__name__}")
        return value

    return check


def _member(kind: type[enum.IntEnum]) -> Decode:
    members = {int(member): member for member in kind}

    def member(value: Any) -> Any:
        if type(value) is not int or value not in members:
            raise bad(f"{value!r:.40} is no {kind.__name__}")
        return members[value]

    return member


def _plain(value: Any, depth: int = 0) -> Any:
    """Check a small tree of plain data."""
    if depth > MAX_DEPTH:
        raise bad(f"plain data nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise bad("a key that is no string")
        return {key: _plain(part, depth + 1) for key, part in value.items()}
    if isinstance(value, tuple):
        return [_plain(part, depth + 1) for part in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise bad(f"{type(value).__name__} in plain data")


def _whole(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise bad("plain data that is no dictionary")
    found: dict[str, Any] = _plain(value)
    return found


def _items(encode: Encode, decode: Decode) -> Form:
    def items(value: Any) -> Any:
        if type(value) is not tuple or len(value) > MAX_ITEMS:
            raise bad(f"{value!r:.40} is no list of at most {MAX_ITEMS}")
        return tuple([decode(v) for v in value])

    return None if encode is None else lambda v: [encode(x) for x in v], items


def _named_tuple(make: Any, hints: list[Any], forms: list[Form]) -> Decode:
    count, decoders = len(forms), [decode for _, decode in forms]
    new = tuple.__new__
    if count == 2 and hints == [int, int]:

        def pair(value: Any) -> Any:
            if type(value) is tuple and len(value) == 2:
                first, second = value
                if type(first) is int and type(second) is int:
                    return new(make, value)
            raise bad(f"{value!r:.40} is no {make.__name__}")

        return pair

    def record(value: Any) -> Any:
        if type(value) is not tuple or len(value) != count:
            raise bad(f"{value!r:.40} is no record of {count} fields")
        return new(make, map(call, decoders, value))

    return record


def _record(make: Callable[..., Any], names: list[str], forms: list[Form]) -> Form:
    count, decoders = len(forms), [decode for _, decode in forms]

    def decode(value: Any) -> Any:
        if type(value) is not tuple or len(value) != count:
            raise bad(f"{value!r:.40} is no record of {count} fields")
        return make(*map(call, decoders, value))

    def sensible(value: Any) -> Any:
        made = decode(value)
        problem = made.problem()
        if problem:
            raise bad(problem)
        return made

    encode = getter(names, [encode for encode, _ in forms])
    return encode, sensible if hasattr(make, "problem") else decode

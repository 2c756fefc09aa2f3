# SPDX-License-Identifier: Apache-2.0
"""Some message of every class, from a seed: for round trips and as what a fuzzer changes."""

from __future__ import annotations

import random
import types
import typing
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from kvtrain.ps.core import messages as m
from kvtrain.ps.core.membership import NodeId, Role
from kvtrain.ps.core.shards import DTYPES


def value(kind: Any, rng: random.Random, depth: int = 0) -> Any:
    """Some value of a field's type."""
    if kind is int:
        return rng.choice((0, 1, -1, 2**40, rng.randrange(1000)))
    if kind is float:
        return rng.uniform(-1, 1)
    if kind is str:
        return rng.choice(("", "key", "ключ"))
    if kind is bool:
        return rng.random() < 0.5
    if kind is bytes:
        return b"\0\1"
    if kind == m.Plain:
        return {"a": [1, None, {"b": 2.5}], "c": True}
    if kind is Role:
        return Role.SERVER
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return tuple(value(arguments[0], rng, depth + 1) for _ in range(rng.randrange(3)))
    if origin in (types.UnionType, typing.Union):
        inner = next(a for a in arguments if a is not type(None))
        return None if rng.random() < 0.5 else value(inner, rng, depth + 1)
    hints = typing.get_type_hints(kind)
    names = kind._fields if hasattr(kind, "_fields") else [f.name for f in fields(kind)]
    assert hasattr(kind, "_fields") or is_dataclass(kind)
    for _ in range(1000):
        drawn = {n: _NAMED.get(n, value)(hints[n], rng, depth + 1) for n in names}
        found = kind(**drawn)
        if not (problem := getattr(found, "problem", None)) or not problem():
            return found
    raise AssertionError(f"no {kind.__name__} that makes sense was drawn")


#: fields for which few values make sense
_NAMED: dict[str, Any] = {
    "dtype": lambda kind, rng, depth: rng.choice(DTYPES),
    "shape": lambda kind, rng, depth: tuple(rng.randrange(9) for _ in range(rng.randrange(4))),
}


def message(cls: type[m.Message], seed: int, large: bool = False) -> m.Message:
    """A message of `cls`, the same for the same seed."""
    rng = random.Random(seed)
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for field in fields(cls):
        if hints[field.name] == m.Arrays:
            size = 40_000 if large else 5
            values[field.name] = (
                np.arange(size, dtype="float32"),
                np.arange(3, dtype="int64"),
                np.empty(0, "uint8"),
            )
        else:
            values[field.name] = value(hints[field.name], rng)
    return cls(**values)


def sender(cls: type[m.Message], rank: int = 3, incarnation: int = 2) -> NodeId:
    """Somebody who may send a message of `cls`."""
    return NodeId(cls.SENDERS[0] if cls.SENDERS else Role.WORKER, rank, incarnation)


def conforms(found: Any, kind: Any) -> bool:
    """Whether a value is of a field's type, all the way down."""
    if kind is float:
        return type(found) is float
    if kind in (int, str, bool, bytes):
        return type(found) is kind
    if kind == m.Plain:
        return isinstance(found, dict)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return isinstance(found, tuple) and all(conforms(x, arguments[0]) for x in found)
    if origin in (types.UnionType, typing.Union):
        inner = next(a for a in arguments if a is not type(None))
        return found is None or conforms(found, inner)
    if not isinstance(found, kind):
        return False
    if isinstance(found, int | np.ndarray):
        return True
    hints = typing.get_type_hints(kind)
    names = kind._fields if hasattr(kind, "_fields") else [f.name for f in fields(kind)]
    return all(conforms(getattr(found, name), hints[name]) for name in names)

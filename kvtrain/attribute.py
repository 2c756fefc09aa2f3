# SPDX-License-Identifier: Apache-2.0
"""``mx.attribute``: attributes that symbols made in a scope get."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Any, ClassVar


class _Current(threading.local):
    def __init__(self) -> None:
        self.scope = AttrScope()


class _Class(type):
    """Gives AttrScope its class property ``current``."""

    @property
    def current(cls) -> AttrScope:
        """The scope of the innermost ``with`` of this thread."""
        return _current.scope

    @current.setter
    def current(cls, scope: AttrScope) -> None:
        _current.scope = scope


class AttrScope(metaclass=_Class):
    """``with AttrScope(ctx_group="stage1"):`` attributes for what is made inside.

    Parameters
    ----------
    kwargs : str
        Attributes; inner scopes add to outer ones.
    """

    _subgraph_names: ClassVar[defaultdict[str, int]] = defaultdict(int)

    def __init__(self, **kwargs: str) -> None:
        for name, value in kwargs.items():
            if not isinstance(value, str):
                raise ValueError(f"Attributes need to be string, got {name}={value!r}")
        self._attr: dict[str, str] = kwargs
        self._outer: list[tuple[AttrScope, dict[str, str]]] = []

    def get(self, attr: dict[str, str] | None) -> dict[str, str]:
        """The scope's attributes and `attr`, which goes first."""
        return {**self._attr, **(attr or {})}

    def __enter__(self) -> AttrScope:
        self._outer.append((_current.scope, self._attr))
        self._attr = {**_current.scope._attr, **self._attr}
        _current.scope = self
        return self

    def __exit__(self, *exc: Any) -> None:
        _current.scope, self._attr = self._outer.pop()


_current = _Current()

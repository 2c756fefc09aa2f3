# SPDX-License-Identifier: Apache-2.0
"""``mx.name``: automatic names, counted by hint."""

from __future__ import annotations

import threading
from typing import Any


class _Current(threading.local):
    def __init__(self) -> None:
        self.manager = NameManager()


class _Class(type):
    """Gives NameManager its class property ``current``."""

    @property
    def current(cls) -> NameManager:
        """The manager of the innermost ``with`` of this thread."""
        return _current.manager

    @current.setter
    def current(cls, manager: NameManager) -> None:
        _current.manager = manager


class NameManager(metaclass=_Class):
    """Names things ``hint0``, ``hint1``, ...; ``with NameManager():`` starts from 0.

    A subclass may change :meth:`get`.
    """

    def __init__(self) -> None:
        self._counter: dict[str, int] = {}
        self._outer: list[NameManager] = []

    def get(self, name: str | None, hint: str) -> str:
        """`name` if there is one, else the next name for `hint`."""
        if name:
            return name
        number = self._counter.get(hint, 0)
        self._counter[hint] = number + 1
        return f"{hint}{number}"

    def __enter__(self) -> NameManager:
        self._outer.append(_current.manager)
        _current.manager = self
        return self

    def __exit__(self, *exc: Any) -> None:
        _current.manager = self._outer.pop()


class Prefix(NameManager):
    """Puts a prefix before every name."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def get(self, name: str | None, hint: str) -> str:
        """As NameManager's, behind the prefix."""
        return self._prefix + super().get(name, hint)


_current = _Current()

# SPDX-License-Identifier: Apache-2.0
"""One generic registry: optimizers, initializers, metrics, launcher backends, operators.

A second registration under a taken name raises; an unknown name lists the known ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from kvtrain.errors import UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """Names (matched exactly, without regard to case) to registered objects.

    Parameters
    ----------
    kind : str
        What is registered, for error texts: ``"optimizer"``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, entry: T, *names: str) -> T:
        """Add `entry` under each of `names`; raise ``ValueError`` if one is taken."""
        for name in names:
            key = name.lower()
            held = self._entries.get(key)
            if held is not None and held is not entry:
                raise ValueError(f"{self.kind} {name!r} is already registered as {held!r}")
            self._entries[key] = entry
        return entry

    def decorator(self, *aliases: str) -> Callable[[T], T]:
        """``@registry.decorator("alias")``: register a class under its name and aliases."""

        def add(entry: T) -> T:
            return self.register(entry, getattr(entry, "__name__", ""), *aliases)

        return add

    def get(self, name: str) -> T:
        """The entry called `name`; raises :class:`UnknownName`, which lists the known ones."""
        try:
            return self._entries[name.lower()]
        except (KeyError, AttributeError):
            raise UnknownName(self.kind, str(name), tuple(sorted(self._entries))) from None

    def create(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call the registered class or function `name` with the given arguments."""
        entry: Any = self.get(name)
        return entry(*args, **kwargs)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

# SPDX-License-Identifier: Apache-2.0
"""One generic registry: optimizers, initializers, metrics, launcher backends, operators.

A second registration under a taken name raises (or warns, in what users register as with MXNet);
an unknown name lists the known ones. The functions at the end are MXNet's ``mx.registry``.
"""

from __future__ import annotations

import json
import warnings
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
        """Add `entry` under each of `names`; raise ``ValueError`` if one is taken.

        A class may take the place of one of the same module and name: a notebook's cell was
        run again.
        """
        for name in names:
            key = name.lower()
            held = self._entries.get(key)
            if held is not None and held is not entry and not _again(held, entry):
                raise ValueError(f"{self.kind} {name!r} is already registered as {held!r}")
            self._entries[key] = entry
        return entry

    def override(self, entry: T, *names: str) -> T:
        """As :meth:`register`, but takes a name over, with a warning: MXNet's registers do."""
        for name in names:
            held = self._entries.get(name.lower())
            if held is not None and held is not entry and not _again(held, entry):
                warnings.warn(
                    f"{self.kind} {name!r}: {entry!r} takes the place of {held!r}", stacklevel=3
                )
            self._entries[name.lower()] = entry
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

    def create(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call the registered class or function `name` with the given arguments."""
        entry: Any = self.get(name)
        return entry(*args, **kwargs)

    def build(self, base: type, /, *args: Any, **kwargs: Any) -> Any:
        """An instance of `base` from what MXNet's create functions take.

        The first argument, or the one named as the kind, is an instance, a registered name with
        arguments behind it, a dict, or the JSON text of ``[name, {arguments}]`` or of a dict.
        """
        what, args = (args[0], args[1:]) if args else (kwargs.pop(self.kind), ())
        if isinstance(what, base):
            if args or kwargs:
                raise ValueError(f"{self.kind} is already an instance; it takes no arguments")
            return what
        if isinstance(what, dict):
            return self.build(base, **what)
        if isinstance(what, str) and what[:1] in ("[", "{"):
            if args or kwargs:
                raise ValueError(f"{self.kind} {what!r} has its arguments already")
            held = json.loads(what)
            return self.create(held[0], **held[1]) if what[0] == "[" else self.build(base, **held)
        return self.create(what, *args, **kwargs)

    def keys(self) -> list[str]:
        """Names."""
        return sorted(self._entries)

    def items(self) -> list[tuple[str, T]]:
        """Names and entries."""
        return sorted(self._entries.items(), key=lambda item: item[0])

    def __getitem__(self, name: str) -> T:
        return self.get(name)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))


def _again(held: Any, entry: Any) -> bool:
    """Whether two classes are one definition run twice."""
    return (
        isinstance(held, type)
        and isinstance(entry, type)
        and (held.__module__, held.__qualname__) == (entry.__module__, entry.__qualname__)
        and "<locals>" not in held.__qualname__
    )


_by_base: dict[type, Registry[Any]] = {}


def _of(base_class: type, nickname: str) -> Registry[Any]:
    return _by_base.setdefault(base_class, Registry(nickname))


def get_registry(base_class: type) -> dict[str, Any]:
    """What is registered for a base class: name to class."""
    return dict(_of(base_class, base_class.__name__).items())


def get_register_func(base_class: type, nickname: str) -> Callable[..., Any]:
    """``register(klass, name=None)`` for subclasses of `base_class`."""

    def register(klass: Any, name: str | None = None) -> Any:
        if not (isinstance(klass, type) and issubclass(klass, base_class)):
            raise ValueError(f"{klass!r} is no subclass of {base_class.__name__}")
        return _of(base_class, nickname).override(klass, name or klass.__name__)

    return register


def get_alias_func(base_class: type, nickname: str) -> Callable[..., Any]:
    """``@alias("a", "b")`` for subclasses of `base_class`."""

    def alias(*names: str) -> Callable[[Any], Any]:
        return lambda klass: _of(base_class, nickname).override(klass, *names)

    return alias


def get_create_func(base_class: type, nickname: str) -> Callable[..., Any]:
    """``create(name, ...)`` for what is registered for `base_class`."""

    def create(*args: Any, **kwargs: Any) -> Any:
        return _of(base_class, nickname).build(base_class, *args, **kwargs)

    return create

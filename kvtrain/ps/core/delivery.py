# SPDX-License-Identifier: Apache-2.0
"""Sending again until answered.

The network may lose anything, so whoever wants an answer keeps the question here. Everything
that is sent again carries an identity, so that the receiver absorbs what it has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from kvtrain.ps.core.effects import Effect


class Outbox:
    """Open questions, each with a function that makes the effects that ask again.

    Parameters
    ----------
    first, longest : float
        Seconds until the first repeat; the time doubles up to `longest`.
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._open: dict[Hashable, tuple[float, float, Callable[[], list[Effect]]]] = {}
        #: no entry is due before this time
        self._earliest: float | None = None

    def __contains__(self, key: Hashable) -> bool:
        return key in self._open

    def __len__(self) -> int:
        return len(self._open)

    def ask(self, key: Hashable, again: Callable[[], list[Effect]], now: float) -> list[Effect]:
        """Ask now, and again until :meth:`answered`."""
        due = now + self._first
        self._open[key] = (due, self._first, again)
        if self._earliest is None or due < self._earliest:
            self._earliest = due
        return again()

    def answered(self, key: Hashable) -> bool:
        """Stop asking; False if nobody was asking (a repeated answer)."""
        return self._open.pop(key, None) is not None

    def hasten(self, wanted: Callable[[Hashable], bool], at: float) -> None:
        """Ask those whose key is `wanted` again at `at`, if that is earlier."""
        for key, (due, interval, again) in self._open.items():
            if due > at and wanted(key):
                self._open[key] = (at, interval, again)
                if self._earliest is None or at < self._earliest:
                    self._earliest = at

    def forget(self, wanted: Callable[[Hashable], bool]) -> None:
        """Stop asking everything whose key is `wanted`."""
        for key in [k for k in self._open if wanted(k)]:
            del self._open[key]

    def clear(self) -> None:
        """Stop asking anything."""
        self._open.clear()
        self._earliest = None

    def due(self, now: float) -> list[Effect]:
        """The effects of all questions whose time has come."""
        if self._earliest is None or now < self._earliest:
            return []
        effects: list[Effect] = []
        for key, (due, interval, again) in list(self._open.items()):
            if due <= now:
                longer = min(interval * 2, self._longest)
                self._open[key] = (now + longer, longer, again)
                effects += again()
        self._earliest = min((entry[0] for entry in self._open.values()), default=None)
        return effects

    def next_deadline(self) -> float | None:
        """When :meth:`due` may next have something."""
        return self._earliest if self._open else None

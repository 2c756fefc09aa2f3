# SPDX-License-Identifier: Apache-2.0
"""Barriers: who has arrived where; never how many messages came (PROTOCOL R48)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


class BarrierId(NamedTuple):
    """The n-th barrier call of a worker at that clock of that store."""

    store: int
    clock: int
    n: int


@dataclass(slots=True)
class Barriers:
    """Open barriers, and per worker and store the last one it arrived at."""

    #: barrier -> rank -> request id
    waiting: dict[BarrierId, dict[int, int]] = field(default_factory=dict)
    since: dict[BarrierId, float] = field(default_factory=dict)
    #: (store, rank) -> (clock, n) of the last barrier that worker reached
    reached: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    #: store -> (clock, n) of the last completed barrier
    released: dict[int, tuple[int, int]] = field(default_factory=dict)

    def arrive(self, rank: int, barrier: BarrierId, request: int, now: float) -> bool:
        """Note the arrival; True if this barrier is complete already (a repeat)."""
        place = (barrier.clock, barrier.n)
        last = self.released.get(barrier.store)
        if last is not None and place <= last:
            return True
        key = (barrier.store, rank)
        self.reached[key] = max(self.reached.get(key, place), place)
        self.waiting.setdefault(barrier, {})[rank] = request
        self.since.setdefault(barrier, now)
        return False

    def passed(self, rank: int, barrier: BarrierId) -> None:
        """That worker has passed: it proves that everybody had arrived (R48)."""
        place = (barrier.clock, barrier.n)
        key = (barrier.store, rank)
        self.reached[key] = max(self.reached.get(key, place), place)
        self.released[barrier.store] = max(self.released.get(barrier.store, place), place)

    def missing(self, barrier: BarrierId, live: Iterable[int]) -> tuple[int, ...]:
        """Live ranks that have neither arrived nor passed."""
        place = (barrier.clock, barrier.n)
        last = self.released.get(barrier.store)
        if last is not None and place <= last:
            return ()
        return tuple(r for r in live if self.reached.get((barrier.store, r), (-1, -1)) < place)

    def complete(self, live: Iterable[int]) -> list[tuple[BarrierId, dict[int, int]]]:
        """Barriers that nobody is missing from any more, with whom to release."""
        members = tuple(live)
        done: list[tuple[BarrierId, dict[int, int]]] = []
        for barrier in sorted(self.waiting):
            if not self.missing(barrier, members):
                done.append((barrier, self.waiting.pop(barrier)))
                del self.since[barrier]
                place = (barrier.clock, barrier.n)
                last = self.released.get(barrier.store, place)
                self.released[barrier.store] = max(last, place)
        return done

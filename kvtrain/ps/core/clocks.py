# SPDX-License-Identifier: Apache-2.0
"""Consistency modes of keys, and the clocks behind bounded staleness (PROTOCOL R42, R43).

A worker's clock is the number of steps it has finished. It is told when everything pushed in
those steps is acknowledged, so a reader that sees the clock sees the pushes. A read under a
gate waits until the slowest live worker's clock has reached it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kvtrain.errors import ConfigError
from kvtrain.ps.core.membership import Member, NodeId, Table

#: a read without a gate
NO_GATE = -1
#: histograms end here: the last bin holds all that is larger
LONGEST = 255


def mode(name: str, staleness: int | None = None) -> str:
    """How a key's directory entry spells a mode: ``sync``, ``async`` or ``ssp:3``.

    Raises
    ------
    ConfigError
        An unknown mode, a staleness that is no whole number from 0, or one where none belongs.
    """
    if name not in ("sync", "async", "ssp"):
        raise ConfigError(f"consistency {name!r}: known are sync, async and ssp")
    if name != "ssp":
        if staleness is not None:
            raise ConfigError(f"staleness={staleness!r} is for ssp; consistency is {name!r}")
        return name
    staleness = 0 if staleness is None else staleness
    if isinstance(staleness, bool) or not isinstance(staleness, int) or staleness < 0:
        raise ConfigError(f"staleness={staleness!r}: expected a whole number of steps, from 0")
    return f"ssp:{staleness}"


def is_sync(consistency: str, default: bool) -> bool:
    """Whether a key closes rounds; `default` where its entry says nothing."""
    if not consistency:
        return default
    return consistency == "sync" or consistency.startswith("backup:")


def staleness_of(consistency: str) -> int | None:
    """The bound of an ssp key, else None."""
    return int(consistency[4:]) if consistency.startswith("ssp:") else None


def gate_of(consistency: str, clock: int) -> int:
    """Lowest clock of others that a reader with clock `clock` waits for."""
    bound = staleness_of(consistency)
    return NO_GATE if bound is None or clock <= bound else clock - bound


@dataclass(slots=True)
class Clocks:
    """Clocks of one store's workers, as far as one server was told."""

    store: int = 0
    told: dict[NodeId, int] = field(default_factory=dict)

    def tell(self, node: NodeId, clock: int) -> bool:
        """Take a clock; False if it is no news. A clock never goes back."""
        if clock <= self.told.get(node, -1):
            return False
        self.told[node] = clock
        return True

    def of(self, member: Member) -> int:
        """A member's clock; it starts at its first step."""
        return max(member.from_step(self.store), self.told.get(member.node, 0))

    def slowest(self, table: Table) -> int | None:
        """The lowest clock of the live members; None if there are none."""
        return min((self.of(m) for m in table.members if not m.gone), default=None)

    def behind(self, table: Table, gate: int) -> tuple[int, ...]:
        """Ranks of live members that have not reached `gate`."""
        return tuple(m.node.rank for m in table.members if not m.gone and self.of(m) < gate)

    def passes(self, table: Table, gate: int) -> bool:
        """Whether a read under `gate` may be answered."""
        if gate == NO_GATE:
            return True
        slowest = self.slowest(table)
        return slowest is None or slowest >= gate


class Histogram:
    """Counts of small whole numbers, as statistics show them."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, value: int) -> None:
        """Count `value`."""
        self._counts[min(max(value, 0), LONGEST)] += 1

    def to_plain(self) -> dict[str, Any]:
        """``{"0": 12, "1": 3}``, ascending."""
        return {str(value): count for value, count in sorted(self._counts.items())}


@dataclass(slots=True)
class OwnClock:
    """A worker's own clock in one store: what may be told, by what is acknowledged."""

    #: contributions that are not acknowledged, by the step they were pushed in
    open: Counter[int] = field(default_factory=Counter)
    #: last clock that was told
    told: int = 0

    def pushed(self, step: int) -> None:
        """A contribution was posted in `step`."""
        self.open[step] += 1

    def settled(self, step: int, count: int = 1) -> None:
        """Contributions of `step` were acknowledged, or will never be sent."""
        left = self.open[step] - count
        if left > 0:
            self.open[step] = left
        else:
            del self.open[step]

    def reached(self, step: int) -> int:
        """The clock that may be told; `step` is the present step."""
        return min(self.open, default=step)

    def news(self, step: int) -> int | None:
        """The clock to tell now, if it is higher than the last; `step` is the present step."""
        clock = self.reached(step)
        if clock <= self.told:
            return None
        self.told = clock
        return clock


def total(histograms: Iterable[dict[str, Any]]) -> dict[int, int]:
    """Histograms of several servers added up."""
    found: Counter[int] = Counter()
    for histogram in histograms:
        found.update({int(value): count for value, count in histogram.items()})
    return dict(sorted(found.items()))

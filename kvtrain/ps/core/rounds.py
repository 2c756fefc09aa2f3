# SPDX-License-Identifier: Apache-2.0
"""Who has contributed to which round of one chunk; never how many messages came.

Two ledgers with one face: :class:`SyncLedger` closes a round when every live worker is in it
(PROTOCOL R11, R12), :class:`AsyncLedger` takes each worker's pushes in its order (R41).
Neither does arithmetic.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvtrain.ps.core.membership import NodeId, Role, Round
from kvtrain.ps.core.memory import intact
from kvtrain.ps.core.messages import HyperCommand

#: pushes of one key in a script's first step that say that it never ends one
STEPLESS = 256
#: L(t): step -> ranks that contribute, ascending
Live = Callable[[int], tuple[int, ...]]


@dataclass(slots=True, eq=False)
class Part:
    """One worker's contribution, held until its round is reduced."""

    node: NodeId
    round: Round
    #: None: empty, counts and adds nothing
    array: np.ndarray[Any, Any] | None
    want: bool
    rescale_grad: float | None = None
    hyper: tuple[HyperCommand, ...] = ()
    request: int = 0
    #: its round has closed without it (backup workers)
    dropped: bool = False
    #: it is in a sum, in the place of the first that is (R13)
    folded: bool = False


class Standing(enum.Enum):
    """What a contribution is, when it arrives."""

    NEW = "new"
    HELD = "held"
    COUNTED = "counted"
    BEHIND = "behind"
    TOO_FAR = "too far"


@dataclass(slots=True)
class Counted:
    """The last contribution of a worker that is in a record."""

    incarnation: int
    round: Round


@dataclass(slots=True)
class Ledger:
    """What both ledgers share: the last counted contribution of each rank."""

    counted: dict[int, Counted] = field(default_factory=dict)

    def has_counted(self, node: NodeId, round_: Round) -> bool:
        """Whether this contribution of this incarnation is in a record."""
        last = self.counted.get(node.rank)
        return last is not None and last.incarnation == node.incarnation and round_ <= last.round

    def is_over(self, node: NodeId, round_: Round) -> bool:
        """Whether it is decided what becomes of this contribution."""
        return self.has_counted(node, round_)

    def _count(self, part: Part) -> None:
        self.counted[part.node.rank] = Counted(part.node.incarnation, part.round)


@dataclass(slots=True)
class OpenRound:
    """A round that waits for members."""

    since: float
    parts: dict[int, Part] = field(default_factory=dict)


@dataclass(slots=True)
class SyncLedger(Ledger):
    """Rounds of one chunk in sync mode."""

    open: dict[Round, OpenRound] = field(default_factory=dict)
    last_closed: Round | None = None
    #: whose contributions were in a sum that was discarded: they are to be asked again
    again: list[Part] = field(default_factory=list)

    def accept(self, part: Part, now: float) -> Standing:
        """Take a contribution; the first of the current incarnation stands (R11)."""
        if self.has_counted(part.node, part.round):
            return Standing.COUNTED
        if self.last_closed is not None and part.round <= self.last_closed:
            return Standing.BEHIND
        waiting = self.open.setdefault(part.round, OpenRound(since=now))
        held = waiting.parts.get(part.node.rank)
        if held is not None and held.node == part.node:
            # a resend may ask for the value where the first sending did not
            held.want = held.want or part.want
            return Standing.HELD
        waiting.parts[part.node.rank] = part
        return Standing.NEW

    def skipped(self, live: Live) -> tuple[int, Round] | None:
        """(rank, round) of a worker that contributed to a later round than one it owes (R12)."""
        latest: dict[int, Round] = {}
        for round_, waiting in self.open.items():
            for rank in waiting.parts:
                if rank not in latest or round_ > latest[rank]:
                    latest[rank] = round_
        for round_, waiting in self.open.items():
            for rank in live(round_.step):
                if rank not in waiting.parts and rank in latest and latest[rank] > round_:
                    return rank, round_
        return None

    def ready(self, live: Live) -> list[Part] | None:
        """Parts, in rank order, of the first open round if all of L(t) are in; closes it."""
        if not self.open:
            return None
        first = min(self.open) if len(self.open) > 1 else next(iter(self.open))
        members = live(first.step)
        waiting = self.open[first]
        if not members or any(rank not in waiting.parts for rank in members):
            return None
        parts = [waiting.parts[rank] for rank in members]
        if not all([intact(part.array) for part in parts]):
            # bytes that changed under us are not those that were sent (R34): they are sent again
            for part in parts:
                if not intact(part.array):
                    del waiting.parts[part.node.rank]
            return None
        del self.open[first]
        self.last_closed = first
        for part in parts:
            self._count(part)
        return parts

    def arrays(self) -> Iterator[np.ndarray[Any, Any] | None]:
        """What is held."""
        return (part.array for waiting in self.open.values() for part in waiting.parts.values())

    def holds(self, node: NodeId, round_: Round) -> bool:
        """Whether this contribution waits in an open round."""
        waiting = self.open.get(round_)
        held = waiting.parts.get(node.rank) if waiting else None
        return held is not None and held.node == node

    def drop(self, rank: int, keep: NodeId | None) -> None:
        """Forget what lost incarnations of a rank contributed to open rounds (R24)."""
        for round_ in list(self.open):
            parts = self.open[round_].parts
            if rank in parts and parts[rank].node != keep:
                if parts.pop(rank).folded:
                    self.withdraw(self.open[round_])
                if not parts:
                    del self.open[round_]

    def withdraw(self, waiting: OpenRound) -> None:
        """A folded contribution is void, and so is the sum: the others are asked again (R13)."""
        gone = [part for part in waiting.parts.values() if part.folded]
        for part in gone:
            del waiting.parts[part.node.rank]
        self.again += gone

    def has_counted(self, node: NodeId, round_: Round) -> bool:
        """Whether this contribution is in a record; one of an earlier incarnation counts too:
        its successor repeats the same rounds (R25, R26)."""
        last = self.counted.get(node.rank)
        return last is not None and last.incarnation <= node.incarnation and round_ <= last.round

    def overdue(self, before: float, live: Live) -> Iterator[tuple[Round, float, tuple[int, ...]]]:
        """(round, since, missing ranks) of rounds that have been open since `before`."""
        for round_, waiting in self.open.items():
            if waiting.since <= before:
                missing = tuple(r for r in live(round_.step) if r not in waiting.parts)
                yield round_, waiting.since, missing


@dataclass(slots=True)
class AsyncLedger(Ledger):
    """Pushes of one chunk in async mode: each once, in its sender's order."""

    window: int = 16
    stash: dict[tuple[int, int], dict[int, Part]] = field(default_factory=dict)

    def accept(self, part: Part, now: float) -> Standing:
        """Take a push; one that is ahead of its turn is kept, up to `window`."""
        if self.has_counted(part.node, part.round):
            return Standing.COUNTED
        waiting = self.stash.setdefault((part.node.rank, part.node.incarnation), {})
        if part.round.n in waiting:
            return Standing.HELD
        if part.round.n > self._last(part.node) + self.window:
            return Standing.TOO_FAR
        waiting[part.round.n] = part
        return Standing.NEW

    def next_part(self, node: NodeId) -> Part | None:
        """The sender's next push in order, if it is here; counts it."""
        waiting = self.stash.get((node.rank, node.incarnation), {})
        part = waiting.pop(self._last(node) + 1, None)
        if part is not None:
            self._count(part)
        if not waiting:
            self.stash.pop((node.rank, node.incarnation), None)
        return part

    def arrays(self) -> Iterator[np.ndarray[Any, Any] | None]:
        """What is held."""
        return (part.array for waiting in self.stash.values() for part in waiting.values())

    def next_of_any(self) -> Part | None:
        """The next push in order of some sender, if one is here; counts it."""
        for rank, incarnation in list(self.stash):
            part = self.next_part(NodeId(Role.WORKER, rank, incarnation))
            if part is not None:
                return part
        return None

    def holds(self, node: NodeId, round_: Round) -> bool:
        """Whether this push waits for earlier ones."""
        return round_.n in self.stash.get((node.rank, node.incarnation), {})

    def drop(self, rank: int, keep: NodeId | None) -> None:
        """Forget what lost incarnations of a rank left in the window."""
        for place in [p for p in self.stash if p[0] == rank]:
            if keep is None or place[1] != keep.incarnation:
                del self.stash[place]

    def _last(self, node: NodeId) -> int:
        last = self.counted.get(node.rank)
        return last.round.n if last and last.incarnation == node.incarnation else 0

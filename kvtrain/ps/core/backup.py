# SPDX-License-Identifier: Apache-2.0
"""Backup workers: a round closes without its k slowest members (PROTOCOL R39, R40).

A contribution that comes too late is *dropped*: its sender is told so, with the present
version, and goes on at the step after the highest one that has closed (Chen et al., 2016,
"Revisiting Distributed Synchronous SGD"). Because workers jump, a round also closes with what
it has when nobody can contribute to it any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kvtrain.errors import ConfigError
from kvtrain.ps.core.membership import NodeId, Round
from kvtrain.ps.core.memory import intact
from kvtrain.ps.core.rounds import Live, Part, Standing, SyncLedger

#: whether the worker of a rank contributes nothing for now: it has left, or stands still
Away = Callable[[int], bool]
_SPELLED = "backup:"


def backup_mode(backups: int) -> str:
    """How a key's directory entry spells backup workers: ``backup:2``; ``sync`` without any.

    Raises
    ------
    ConfigError
        `backups` is no whole number from 0.
    """
    if isinstance(backups, bool) or not isinstance(backups, int) or backups < 0:
        raise ConfigError(f"backup_workers={backups!r}: expected a whole number of workers, from 0")
    return f"{_SPELLED}{backups}" if backups else "sync"


def backups_of(consistency: str) -> int:
    """How many workers a round of a key may close without."""
    return int(consistency[len(_SPELLED) :]) if consistency.startswith(_SPELLED) else 0


@dataclass(slots=True)
class BackupLedger(SyncLedger):
    """Rounds of one chunk that close without their `backups` slowest members.

    A worker may pass over rounds, so only the very last round of it that was counted is known
    to be in a record: of an earlier one it has been told already what became of it (R10).
    """

    backups: int = 1
    #: rank -> its latest contribution here, whatever became of it
    latest: dict[int, Round] = field(default_factory=dict)
    #: rank -> its latest contribution that was dropped
    dropped: dict[int, Round] = field(default_factory=dict)

    def accept(self, part: Part, now: float) -> Standing:
        """Take a contribution; BEHIND: its round has closed without it."""
        rank = part.node.rank
        if rank not in self.latest or part.round > self.latest[rank]:
            self.latest[rank] = part.round
        return SyncLedger.accept(self, part, now)

    def has_counted(self, node: NodeId, round_: Round) -> bool:
        """Whether this very contribution is in a record."""
        last = self.counted.get(node.rank)
        return last is not None and last.incarnation == node.incarnation and round_ == last.round

    def is_over(self, node: NodeId, round_: Round) -> bool:
        """Whether it is decided what becomes of this contribution: rounds close in order."""
        return self.last_closed is not None and round_ <= self.last_closed

    def is_old(self, node: NodeId, round_: Round) -> bool:
        """Whether a later one of its sender was counted: it waits for no answer (R10)."""
        last = self.counted.get(node.rank)
        return last is not None and last.incarnation == node.incarnation and round_ < last.round

    def drops(self, part: Part) -> bool:
        """Note that a contribution is dropped; False for a repeat."""
        before = self.dropped.get(part.node.rank)
        if before is not None and part.round <= before:
            return False
        self.dropped[part.node.rank] = part.round
        return True

    def skipped(self, live: Live) -> tuple[int, Round] | None:
        """Nobody is out of step: workers jump."""
        return None

    def close(self, live: Live, away: Away) -> list[Part] | None:
        """Parts, in rank order, of the first open round that can close; closes it."""
        while self.open:
            first = min(self.open)
            members, parts = live(first.step), self.open[first].parts
            if len([rank for rank in members if rank in parts]) < max(
                1, len(members) - self.backups
            ) and any(self.may_come(rank, first, away) for rank in members if rank not in parts):
                return None
            spoiled = [rank for rank, part in parts.items() if not intact(part.array)]
            if spoiled:
                # bytes that changed under us are not those that were sent (R34)
                for rank in spoiled:
                    del parts[rank]
                return None
            del self.open[first]
            self.last_closed = first
            found = [parts[rank] for rank in members if rank in parts]
            for part in found:
                self._count(part)
            if found:
                return found
        return None

    def may_come(self, rank: int, round_: Round, away: Away) -> bool:
        """Whether a live worker can still contribute to a round (R40)."""
        seen = self.latest.get(rank)
        counted = self.counted.get(rank)
        if counted is not None and (seen is None or counted.round > seen):
            seen = counted.round
        return (seen is None or seen <= round_) and not away(rank)

    def drop(self, rank: int, keep: NodeId | None) -> None:
        """Forget what a lost worker contributed to open rounds, and where it was."""
        SyncLedger.drop(self, rank, keep)
        if keep is None:
            self.latest.pop(rank, None)
            self.dropped.pop(rank, None)

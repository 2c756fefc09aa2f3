# SPDX-License-Identifier: Apache-2.0
"""A checkpoint that is being made, and what the scheduler knows of the steps around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from kvtrain.ps.core.backup import backups_of
from kvtrain.ps.core.clocks import is_sync, staleness_of
from kvtrain.ps.core.membership import Epoch, NodeId, StoreClock
from kvtrain.ps.core.saved import SavedPart, SavedStore
from kvtrain.ps.core.scheduler.liveness import Liveness

#: a cut at no step: as it is now, everybody stands still
NOW = -1
#: each worker holds at the end of its own step
OWN = -1


@dataclass(slots=True, eq=False)
class Standstill:
    """A short stop of the workers (R50)."""

    #: at the beginning of this step, or each at its OWN
    at: int
    #: who holds, and at which clocks
    clocks: dict[NodeId, tuple[StoreClock, ...]] = field(default_factory=dict)
    #: when the first one has said so
    since: float | None = None
    #: shards whose chunks are copied
    taken: set[int] = field(default_factory=set)
    #: everything is copied: the workers may go on
    over: bool = False
    #: who goes on, and whether it has held until then
    ended: dict[NodeId, bool] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Attempt:
    """A checkpoint that is being made."""

    number: int
    directory: str
    at: int
    #: for whom, and where those workers stand still; nobody: it is automatic
    askers: list[tuple[NodeId, int]]
    clocks: dict[NodeId, tuple[StoreClock, ...]]
    since: float
    tries: int
    #: (view of each shard, lost workers) when it began
    table: tuple[tuple[Epoch, ...], tuple[NodeId, ...]]
    #: the last one, of a job whose workers have all left
    final: bool = False
    complete: bool = False
    #: workers stop for it; None: they go on
    hold: Standstill | None = None
    #: workers did not come to a stop in time: it is taken without
    running: bool = False
    #: a server has another table: once more at the next look
    spoiled: bool = False
    covered: dict[int, Epoch] = field(default_factory=dict)
    parts: dict[int, SavedPart] = field(default_factory=dict)
    stores: dict[int, SavedStore] = field(default_factory=dict)
    #: store -> first step of which no round is in chunks that were saved as they were
    closed: dict[int, int] = field(default_factory=dict)
    publishing: bool = False


class Attempts(Liveness):
    """The present attempt and the steps of the workers."""

    _attempt: Attempt | None = None

    def _highest(self) -> int:
        """Highest clock seen."""
        return max((clock.step for clock in self._seen_clocks()), default=0)

    def _seen_clocks(self) -> Iterator[StoreClock]:
        """Every clock of every worker, of those that have left too."""
        for node in self.roster:
            yield from node.clocks
        for member in self.table.members if self.table is not None else ():
            yield from member.until or ()

    def _clocks_of(self, node: NodeId) -> tuple[StoreClock, ...]:
        known = self.roster.by_id.get(node)
        return () if known is None else known.clocks

    def _present(self) -> list[NodeId]:
        """Workers that take part."""
        assert self.table is not None
        return [member.node for member in self.table.members if not member.gone]

    def _disturbing(self) -> tuple[tuple[Epoch, ...], tuple[NodeId, ...]]:
        """What may not change during an attempt: who holds what, and who was lost."""
        assert self.table is not None
        lost = tuple(member.node for member in self.table.members if member.lost)
        return tuple(info.view for info in self.table.shards), lost

    def _all_passed(self, attempt: Attempt) -> bool:
        """Whether every live worker has everything of the steps before the cut acknowledged.

        A store in which nobody makes steps does not hold the others up; one in which nobody has
        ended a step may only be about to, until the others are two steps on.
        """
        still = self._askers(attempt)
        if still:
            # who waits in a barrier waits for them
            waiting = {rank for ranks in self.barriers.waiting.values() for rank in ranks}
            still |= {node for node in self._present() if node.rank in waiting}
        live = [node for node in self._present() if node not in still]
        clocks = [{c.store: c.step for c in self._clocks_of(node)} for node in live]
        if not live:
            return True
        if any(not mine for mine in clocks):
            return False
        stores = {store for mine in clocks for store in mine}
        passed = {s for s in stores if all(mine.get(s, 0) >= attempt.at for mine in clocks)}
        quiet = {s for s in stores if all(mine.get(s, 0) == 0 for mine in clocks)}
        if not quiet:
            return passed == stores
        ahead = all(max(mine.values()) >= max(2, attempt.at) for mine in clocks)
        return bool(passed) and passed | quiet == stores and ahead

    def _step_of(self, attempt: Attempt, store: int) -> int:
        """The step of `store` before which the state was saved."""
        if attempt.hold is not None and attempt.hold.clocks:
            # where some are ahead of others, nothing is left out and some is done again
            every = attempt.hold.clocks.values()
            return min(next((c.step for c in mine if c.store == store), 0) for mine in every)
        seen = self._seen_clocks()
        if attempt.askers:
            standing = [clock for mine in attempt.clocks.values() for clock in mine]
            seen = iter(standing if attempt.at == NOW else [*seen, *standing])
        highest = max((c.step for c in seen if c.store == store), default=0)
        if attempt.at == NOW:
            return highest
        return min(attempt.at, max(highest, attempt.closed.get(store, 0)))

    @staticmethod
    def _askers(attempt: Attempt) -> set[NodeId]:
        """They stand still by themselves, with everything acknowledged."""
        return {node for node, _ in attempt.askers}

    # ---- what the keys need ----------------------------------------------------------------

    def _is_sync(self, store: int, consistency: str) -> bool:
        return is_sync(consistency, self.directory.stores[store][1])

    def _modes(self) -> list[tuple[bool, bool]]:
        """(closes rounds, is bounded) of each key whose store is open."""
        directory = self.directory
        return [
            (
                self._is_sync(store, entry.spec.consistency),
                staleness_of(entry.spec.consistency) is not None,
            )
            for (store, _), entry in directory.keys.items()
            if store in directory.stores
        ]

    def _must_hold(self) -> bool:
        """Whether some key closes no rounds, so that only a stop gives a cut."""
        return any(not sync for sync, _ in self._modes())

    def _closes_without(self) -> bool:
        """Whether rounds go on without a worker that stands still (backup workers)."""
        return any(backups_of(entry.spec.consistency) for entry in self.directory.keys.values())

    def _has_common_step(self) -> bool:
        """Whether workers stay near each other, so that they can stop at one step."""
        return any(sync or bounded for sync, bounded in self._modes())

    def _kind(self, attempt: Attempt) -> str:
        """What the manifest says of the cut."""
        if not self._must_hold():
            return "exact" if attempt.final or attempt.askers or self._all_moved() else "fuzzy"
        held = attempt.hold is not None and all(attempt.hold.ended.values())
        return "aligned" if attempt.final or held else "fuzzy"

    def _all_moved(self) -> bool:
        """Whether steps were ended in every store that has keys: a step names its cut."""
        moved = {clock.store for clock in self._seen_clocks() if clock.step}
        moved |= {store for store, step in self.directory.resume.items() if step}
        return {store for store, _ in self.directory.keys} <= moved

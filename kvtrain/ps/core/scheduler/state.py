# SPDX-License-Identifier: Apache-2.0
"""What the scheduler knows of the job."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass, field

from kvtrain.errors import (
    to_wire,
)
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.barriers import Barriers
from kvtrain.ps.core.delivery import Outbox
from kvtrain.ps.core.directory import Directory
from kvtrain.ps.core.effects import Effect, Journal, Send
from kvtrain.ps.core.membership import (
    LAUNCHER,
    Epoch,
    NodeId,
    Role,
    StoreClock,
    Table,
)
from kvtrain.ps.core.roster import Node, Roster
from kvtrain.ps.core.settings import JobSettings


class Phase(enum.Enum):
    """Where the job stands."""

    FORMING = "forming"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(slots=True, eq=False)
class Election:
    """A shard whose primary is gone: survivors that are asked how far they are."""

    view: Epoch
    waiting: set[NodeId]
    held: dict[NodeId, int] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Resuming:
    """A worker whose successor is awaited or not told yet where to go on."""

    id: NodeId
    #: the process, once it has said Hello
    node: Node | None = None
    #: server -> (its table, steps seen of that rank by store)
    seen: dict[NodeId, tuple[Epoch, dict[int, int]]] = field(default_factory=dict)
    #: what its predecessor told last of the steps that it had finished
    clocks: tuple[StoreClock, ...] = ()


@dataclass(slots=True, eq=False)
class Joiner:
    """A worker that wants to join the running job and is not confirmed (PROTOCOL R23)."""

    node: Node
    since: float
    #: server or worker -> (its table, how far it is)
    answers: dict[NodeId, tuple[Epoch, tuple[m.Progress, ...]]] = field(default_factory=dict)


class SchedulerState:
    """The state of a scheduler; the parts of the role are stacked on it."""

    def __init__(self, settings: JobSettings, now: float, incarnation: int = 1) -> None:
        self.settings = settings
        self.node = NodeId(Role.SCHEDULER, 0, incarnation)
        self.phase = Phase.FORMING
        self.table: Table | None = None
        self.roster = Roster()
        self.barriers = Barriers()
        self.directory = Directory(
            settings.chunk_bytes, settings.shards, row_parts=settings.servers
        )
        self.failure: Exception | None = None
        self._counter = 0
        self._outbox = Outbox(settings.resend_after, settings.resend_longest)
        self._forming_since: float | None = None
        self._stop_at: float | None = None
        self._next_look = now + settings.heartbeat
        self._noted: dict[str, float] = {}
        #: a journal was read, and nothing was done yet
        self._recovering = False
        #: when to look for processes that nobody has started
        self._recheck_at: float | None = None
        #: everybody of the first table was told
        self._formed = False
        #: replacements in a row that died before they had joined
        self._tries = 0
        #: shards whose primary is gone
        self._elections: dict[int, Election] = {}
        #: rank -> a lost worker's place that is to be taken
        self._resuming: dict[int, Resuming] = {}
        #: rank -> a worker that joins
        self._joiners: dict[int, Joiner] = {}
        #: live workers that were started by hand, as the launcher was told
        self._guests = 0
        #: rank -> (sum of the clocks it died at, deaths without progress)
        self._deaths: dict[int, tuple[int, int]] = {}
        #: learners that their primary waits for already: shard -> (view, learner)
        self._in_sync: dict[int, tuple[Epoch, NodeId]] = {}
        self._in_sync_at: float | None = None

    @property
    def epoch(self) -> Epoch:
        """Of the table in force."""
        return Epoch(self.node.incarnation, self._counter)

    def _journal_table(self) -> Journal:
        assert self.table is not None
        return Journal({"kind": "table", "table": asdict(self.table)})

    def _table_update(self, node: Node) -> Send:
        assert self.table is not None
        return Send(node.id, m.TableUpdate(epoch=self.epoch, table=self.table))

    def _publish(self, now: float) -> list[Effect]:
        """Journal the table, then tell everybody until all have installed it."""
        asked = self._outbox.ask("table", self._untold, now)
        return [self._journal_table(), *asked, *self._tell_of_guests()]

    def _tell_of_guests(self) -> list[Effect]:
        """The launcher does not see workers that were started by hand."""
        assert self.table is not None
        nodes = (self.roster.by_id.get(m_.node) for m_ in self.table.members if not m_.gone)
        count = sum(node is not None and node.by_hand for node in nodes)
        if count == self._guests:
            return []
        self._guests = count
        return [Send(LAUNCHER, m.Guests(count=count))]

    def _untold(self) -> list[Effect]:
        """The table, for whoever has not installed it."""
        behind = [n for n in self.roster if n.installed < self.epoch and n.is_here()]
        if not behind:
            self._outbox.answered("table")
        return [self._table_update(node) for node in behind]

    def _live(self) -> tuple[int, ...]:
        assert self.table is not None
        return tuple(mem.node.rank for mem in self.table.members if not mem.gone)

    def _all_gone(self) -> bool:
        return self.table is not None and all(mem.gone for mem in self.table.members)

    def _stopping(self) -> bool:
        return self.phase is Phase.STOPPING

    def _error(self, to: NodeId, about: m.Message, error: Exception) -> Send:
        name, fields = to_wire(error)
        reply = m.ErrorReply(
            store=about.store,
            step=about.step,
            request=about.request,
            epoch=self.epoch,
            name=name,
            fields=tuple(map(str, fields)),
        )
        return Send(to, reply)

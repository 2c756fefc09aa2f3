# SPDX-License-Identifier: Apache-2.0
"""What a worker holds, and the bookkeeping of its program's requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvtrain.errors import (
    KeyMismatch,
    KeyNotInitialized,
)
from kvtrain.ps.core import messages as m
from kvtrain.ps.core import requests as r
from kvtrain.ps.core.clocks import OwnClock, is_sync
from kvtrain.ps.core.delivery import Outbox
from kvtrain.ps.core.effects import Complete, Effect, Send
from kvtrain.ps.core.joining import Identity, Joining
from kvtrain.ps.core.membership import SCHEDULER, Epoch, NodeId, Role, Round, StoreClock, Table
from kvtrain.ps.core.memory import HeapMemory, Memory, intact
from kvtrain.ps.core.posting import Array, ClientChunk, Posted, Spot
from kvtrain.ps.core.rows import Dealer, Placed
from kvtrain.ps.core.settings import JobSettings
from kvtrain.ps.core.shards import ChunkId, KeyEntry, KeySpec

#: the request id of the join itself
JOIN = 0


@dataclass(slots=True, eq=False)
class Store:
    """One kv.create of this worker."""

    sync: bool
    step: int = 0
    #: the step at which this worker began
    resume_step: int = 0
    entries: dict[str, KeyEntry] = field(default_factory=dict)
    #: names this worker has begun to initialise
    claimed: set[str] = field(default_factory=set)
    #: pushes of each key in the present step
    pushed: Counter[str] = field(default_factory=Counter)
    #: the latest command of each hyper-parameter
    hyper: dict[str, m.HyperCommand] = field(default_factory=dict)
    hyper_number: int = 0
    barriers: int = 0
    #: (clock, n) of the last barrier that was passed
    passed: tuple[int, int] | None = None
    optimizers: int = 0
    #: this process took a lost one's place, or joined, and has not contributed to this store yet
    resumed: bool = False
    #: ranks that are counted in the present step (R30)
    members: tuple[int, ...] = ()
    #: some key has bounded staleness, so the clock is told
    bounded: bool = False
    #: workers that a round may close without
    backups: int = 0
    #: the highest step that has closed in any reply of this step, and whether one said dropped
    closed: int = -1
    was_dropped: bool = False
    #: standstills so far, and since when this worker stands still
    standstills: int = 0
    resting: int | None = None
    clock: OwnClock = field(default_factory=OwnClock)

    def news_for(self, known: int) -> tuple[m.HyperCommand, ...]:
        """Commands after number `known`."""
        return tuple(c for c in self.hyper.values() if c.number > known)

    def next_step(self) -> int:
        """The step after this one; who was dropped jumps, else it stays late for ever (R39)."""
        return max(self.step, self.closed if self.was_dropped else -1) + 1

    def is_sync(self, entry: KeyEntry) -> bool:
        """Whether a key closes rounds."""
        return is_sync(entry.spec.consistency, self.sync)


@dataclass(slots=True, eq=False)
class OpenRequest:
    """A request that is not complete."""

    request: r.Request
    #: answers still to come
    parts: set[Any] = field(default_factory=set)
    value: Any = None
    #: asks again those who have not answered, by the table of then
    again: Callable[[], list[Effect]] | None = None
    #: a question to many servers: its kind and the message
    to_servers: tuple[str, m.Message] | None = None


class WorkerState:
    """The state of a worker; the parts of the role are stacked on it."""

    def __init__(
        self,
        identity: Identity,
        nonce: int,
        settings: JobSettings,
        now: float,
        memory: Memory | None = None,
    ) -> None:
        self.settings = settings
        self._memory: Memory = memory or HeapMemory()
        self.joining = Joining(Role.WORKER, identity, nonce, settings, now)
        self.table: Table | None = None
        self.failed: Exception | None = None
        self.left = False
        #: where it goes on in each store; None: a worker of the first hour
        self.resume: tuple[StoreClock, ...] | None = None
        #: somebody of the table joined while the job ran
        self._has_joiners = False
        #: (joiner, store) whose proposed step does not hold
        self._void: set[tuple[NodeId, int]] = set()
        self.last = ""
        self._stores: list[Store] = []
        self._opening: list[r.OpenStoreRequest] = []
        self._chunks: dict[ChunkId, ClientChunk] = {}
        #: chunks with something that is not acknowledged
        self._busy: set[ChunkId] = set()
        self._deal = Dealer()
        self._requests: dict[int, OpenRequest] = {}
        self._next_request = JOIN + 1
        #: reads: (request, chunk) -> where the value goes, and the round it comes after
        self._reads: dict[tuple[int, ChunkId], tuple[Array | Placed, Round]] = {}
        #: posts that wait for company, their bytes, and until when
        self._corked: list[tuple[ClientChunk, Posted]] = []
        self._corked_bytes = 0
        self._cork_until = 0.0
        #: what to do once nothing of a store (None: of any store) is unacknowledged, or nothing
        #: of its keys that are not synchronous
        self._after_drain: list[tuple[int | None, bool, Callable[[float], list[Effect]]]] = []
        self._outbox = Outbox(settings.resend_after, settings.resend_longest)
        self._query_at: float | None = None

    @property
    def node(self) -> NodeId:
        """Who this process is; provisional until welcomed."""
        return self.joining.node

    @property
    def memory(self) -> Memory:
        """Where contributions lie until they are acknowledged."""
        return self._memory

    @property
    def welcomed(self) -> bool:
        """Whether this process is in the job."""
        return self.table is not None

    def members_of(self, store: int) -> tuple[int, ...]:
        """Ranks of the workers that take part in this worker's present step of `store`."""
        return self._stores[store].members

    @property
    def epoch(self) -> Epoch:
        """Of the installed table."""
        assert self.table is not None
        return self.table.epoch

    def address_of(self, server: NodeId) -> str | None:
        """Where a server of the table listens; None if it is not in the table any more."""
        assert self.table is not None
        info = self.table.server(server)
        return None if info is None else info.address

    def servers_on(self, host: str) -> bool:
        """Whether all servers of the table run on `host`."""
        assert self.table is not None
        return all(info.host == host for info in self.table.servers)

    def round_of(self, store: int, name: str) -> Round:
        """The round that the next push of a key belongs to."""
        held = self._stores[store]
        return Round(held.step, held.pushed[name])

    def entry(self, store: int, name: str) -> KeyEntry:
        """The directory entry of a key that this worker has initialised."""
        return self._stores[store].entries[name]

    def last_round(self, chunk_id: ChunkId) -> Round | None:
        """This worker's latest contribution to a chunk."""
        return self._chunks[chunk_id].last

    def rounds_of(self, request: r.PushRequest) -> list[tuple[ChunkId, Round]]:
        """The names that the contributions of a push will have, by chunk."""
        store = self._stores[request.store]
        found = []
        for name in request.names:
            sync = store.is_sync(store.entries[name])
            for chunk_id in store.entries[name]:
                last = self._chunks[chunk_id].last
                sequence = Round(0, (last.n if last else 0) + 1)
                found.append((chunk_id, self.round_of(request.store, name) if sync else sequence))
        return found

    def begins_at(self, ordinal: int) -> int:
        """Where a worker that takes a lost one's place, or joins, begins in a store."""
        return next((c.step for c in self.resume or () if c.store == ordinal), 0)

    def _first_gate(self, chunk: ClientChunk, gate: int) -> int:
        """A joiner reads the exact cut before its first step: all that were there before have
        ended the steps before it (R23)."""
        assert self.table is not None
        store = chunk.entry.store
        sync = self._stores[store].is_sync(chunk.entry)
        if not (self._has_joiners and sync) or chunk.last is not None:
            return gate
        member = self.table.member(self.node.rank)
        first = member.from_step(store) if member is not None else 0
        return max(gate, first) if first else gate

    def _count_members(self, ordinal: int) -> None:
        """At the start of a step: who takes part in it, by the table of now (R30)."""
        assert self.table is not None
        store = self._stores[ordinal]
        void = {node.rank for node, number in self._void if number == ordinal}
        ranks = self.table.counted(ordinal, store.step)
        store.members = tuple(rank for rank in ranks if rank not in void)

    def _find_void(self, table: Table) -> None:
        """Joiners whose proposed step has begun here: they will be given a later one (R23)."""
        self._void = {
            (member.node, number)
            for member in table.members
            if member.proposed
            for number, store in enumerate(self._stores)
            if store.step >= max(member.from_step(number), store.resume_step + 1)
        }

    def resume_step_of(self, store: int) -> int:
        """The step at which this worker began in `store`."""
        return self._stores[store].resume_step

    def step_of(self, store: int) -> int:
        """This worker's step in `store`."""
        return self._stores[store].step

    def _want_table(self, now: float) -> list[Effect]:
        """Something was said in a newer view than ours: ask for the table (R16, R19)."""
        if "table" in self._outbox:
            return []
        return self._outbox.ask(
            "table", lambda: [Send(SCHEDULER, m.TableRequest(epoch=self.epoch))], now
        )

    def _done(self, number: int, value: Any = None) -> list[Effect]:
        return [Complete(number, value)] if self._requests.pop(number, None) is not None else []

    def _answered(self, question: Any, number: int, value: Any = None) -> list[Effect]:
        return self._done(number, value) if self._outbox.answered(question) else []

    def _part_done(self, number: int, part: Any) -> list[Effect]:
        """One of several servers has answered."""
        open_ = self._requests.get(number)
        if open_ is None or part not in open_.parts:
            return []
        self._outbox.answered((*part, number))
        open_.parts.discard(part)
        return [] if open_.parts else self._done(number, open_.value)

    def _ask_servers(self, kind: str, number: int, message: m.Message, now: float) -> list[Effect]:
        """Ask every server that it concerns, again and again, until each has answered."""
        open_ = self._requests[number]
        open_.to_servers = (kind, message)
        effects: list[Effect] = []
        for server in self._concerned(kind):
            effects += self._ask_server(kind, number, server, message, now)
        return effects

    def _concerned(self, kind: str) -> list[NodeId]:
        """Every server, or for optimizers every primary: replicas learn from them."""
        assert self.table is not None
        if kind == "optimizer":
            return sorted({shard.replicas[0] for shard in self.table.shards})
        return [info.node for info in self.table.servers]

    def _ask_server(
        self, kind: str, number: int, server: NodeId, message: m.Message, now: float
    ) -> list[Effect]:
        self._requests[number].parts.add((kind, server))
        return self._outbox.ask((kind, server, number), lambda: [Send(server, message)], now)

    def _ask_until_done(
        self, kind: str, number: int, again: Callable[[], list[Effect]], now: float
    ) -> list[Effect]:
        """Ask whoever decides by the table of then, until the request is done."""
        self._requests[number].again = again
        return self._outbox.ask((kind, number), again, now)

    def _ask_scheduler(
        self, kind: str, number: int, message: m.Message, now: float
    ) -> list[Effect]:
        return self._outbox.ask((kind, number), lambda: [Send(SCHEDULER, message)], now)

    def _when_drained(
        self,
        store: int | None,
        then: Callable[[float], list[Effect]],
        now: float,
        free_only: bool = False,
    ) -> list[Effect]:
        if not self._unacknowledged(store, free_only):
            return then(now)
        self._after_drain.append((store, free_only, then))
        return []

    def _unacknowledged(self, store: int | None, free_only: bool) -> bool:
        if store is None:
            return bool(self._busy)
        entries = (self._chunks[c].entry for c in self._busy)
        return any(
            e.store == store and not (free_only and self._stores[store].is_sync(e)) for e in entries
        )

    def _drained(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for item in list(self._after_drain):
            store, free_only, then = item
            if not self._unacknowledged(store, free_only):
                self._after_drain.remove(item)
                effects += then(now)
        return effects

    def _entry(self, store: int, name: str, what: str) -> KeyEntry:
        entry = self._stores[store].entries.get(name)
        if entry is None:
            raise KeyNotInitialized(
                f"{what} of key {name!r}: this worker (rank {self.node.rank}) has not initialised "
                f"it in store {store}; call kv.init({name!r}, value) first, on every worker"
            )
        return entry


def fits(out: Array | Placed | Spot, array: Array) -> bool:
    """Whether an answer has the size and dtype of its place."""
    if isinstance(out, Placed):
        return out.fits(array)
    return array.shape == out.shape and bool(array.dtype == out.dtype)


def fill(out: Array | Placed | Spot, array: Array) -> bool:
    """Write an answer to its place; False if the server wrote its memory meanwhile (R34)."""
    if not intact(array):
        return False
    if isinstance(out, Spot):
        return out.land(array)
    if isinstance(out, Placed):
        out.fill(array)
    else:
        np.copyto(out, array)
    return intact(array)


def check_spec(spec: KeySpec, array: Array) -> None:
    if spec.storage == "row_sparse":
        return  # packed rows, made and checked by the store
    if array.dtype != spec.dtype or array.size != int(np.prod(spec.shape, dtype=np.int64)):
        raise KeyMismatch(
            f"init of key {spec.name!r}: {array.size} elements of {array.dtype} for "
            f"{spec.describe()}"
        )


def check_array(entry: KeyEntry, array: Array, what: str) -> None:
    if array.dtype != entry.spec.dtype or array.size != entry.size or array.ndim != 1:
        raise KeyMismatch(
            f"{what} of key {entry.spec.name!r}: got {array.size} elements of {array.dtype}, "
            f"the key has {entry.spec.describe()}"
        )

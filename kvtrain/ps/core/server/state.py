# SPDX-License-Identifier: Apache-2.0
"""What a server holds, and the questions about it that every part of the role asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvtrain.errors import (
    JobError,
    RemoteProtocolError,
    to_wire,
)
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.clocks import NO_GATE, Clocks, Histogram
from kvtrain.ps.core.delivery import Outbox
from kvtrain.ps.core.effects import Send
from kvtrain.ps.core.joining import Identity, Joining
from kvtrain.ps.core.membership import NodeId, Role, Round, Table
from kvtrain.ps.core.memory import HeapMemory, Memory
from kvtrain.ps.core.replies import Replies
from kvtrain.ps.core.rounds import AsyncLedger, SyncLedger
from kvtrain.ps.core.rows import RowArithmetic
from kvtrain.ps.core.server.account import Account
from kvtrain.ps.core.settings import JobSettings
from kvtrain.ps.core.shards import ChunkId, KeyEntry
from kvtrain.ps.core.store import Arithmetic, MakeOptimizer, Optimizers, Record, StoredChunk

#: messages kept for keys that rank 0 has not initialised yet
EARLY_LIMIT = 65536


@dataclass(slots=True, eq=False)
class Reader:
    """A read that waits for the reader's own round."""

    node: NodeId
    request: int
    after: Round
    #: lowest clock of the slowest live worker; NO_GATE: none
    gate: int = NO_GATE
    #: the reader's own clock, and when it came
    clock: int = 0
    since: float = 0.0
    #: numbers of the rows that are wanted; None: all of a dense chunk
    rows: np.ndarray[Any, Any] | None = None


@dataclass(slots=True, eq=False)
class Chunk:
    """A chunk, its ledger and who waits for it."""

    stored: StoredChunk
    entry: KeyEntry
    ledger: SyncLedger | AsyncLedger
    readers: list[Reader] = field(default_factory=list)
    #: rank -> the version that it read last, its own pushes since included
    read_by: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Store:
    """What a server knows of one store of the job."""

    optimizers: Optimizers
    #: SetOptimizer messages of other ranks that wait for rank 0's: sender -> (message, since)
    waiting: dict[NodeId, tuple[m.SetOptimizer, float]] = field(default_factory=dict)
    counters: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("pushes", "contributions", "absorbed", "records", "pulls", "bytes_in", "bytes_out"), 0
        )
    )
    clocks: Clocks = field(default_factory=Clocks)
    #: reads that wait for clocks, by (reader, request, chunk)
    gated: dict[tuple[NodeId, int, ChunkId], tuple[Chunk, Reader]] = field(default_factory=dict)
    #: pushes of others between a worker's read and its push, for keys that close no rounds
    staleness: Histogram = field(default_factory=Histogram)
    #: steps that readers were ahead of the slowest worker, for keys with bounded staleness
    lead: Histogram = field(default_factory=Histogram)


@dataclass(slots=True, eq=False)
class Early:
    """A push or read of a chunk that does not exist yet."""

    sender: NodeId
    message: m.Push | m.Pull | m.RowPull
    since: float


class ServerState:
    """The state of a server; the parts of the role are stacked on it."""

    def __init__(
        self,
        identity: Identity,
        nonce: int,
        settings: JobSettings,
        now: float,
        make_optimizer: MakeOptimizer,
        observe: Callable[[Record], None] | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.settings = settings
        self.joining = Joining(Role.SERVER, identity, nonce, settings, now)
        self.table: Table | None = None
        self._make_optimizer = make_optimizer
        self._observe = observe
        self._memory: Memory = memory or HeapMemory()
        self._account = Account()
        self._arithmetic = Arithmetic()
        self._row_arithmetic = RowArithmetic(self._arithmetic)
        self._stores: dict[int, Store] = {}
        self._entries: dict[int, KeyEntry] = {}
        self._chunks: dict[ChunkId, Chunk] = {}
        #: chunks with an open round
        self._open: set[ChunkId] = set()
        self._early: dict[tuple[NodeId, ChunkId, int, Round | None], Early] = {}
        self._live: dict[tuple[int, int], tuple[int, ...]] = {}
        self._replies = Replies()
        self._outbox = Outbox(settings.resend_after, settings.resend_longest)
        self._failed = False
        self._next_look = now + settings.note_after
        self.last = ""

    @property
    def node(self) -> NodeId:
        """Who this process is; provisional until welcomed."""
        return self.joining.node

    @property
    def welcomed(self) -> bool:
        """Whether this process is in the job."""
        return self.table is not None

    def _store(self, number: int) -> Store:
        if number not in self._stores:
            self._stores[number] = Store(Optimizers(self._make_optimizer))
        return self._stores[number]

    def _keep_early(
        self, sender: NodeId, chunk_id: ChunkId, round_: Round | None, message: Any, now: float
    ) -> None:
        """Rank 0 has not initialised this key yet; its deadline is in `_look_at_waits`."""
        if len(self._early) >= EARLY_LIMIT:
            raise JobError(f"{self.node} holds {EARLY_LIMIT} messages for keys without a value")
        self._early.setdefault(
            (sender, chunk_id, message.request, round_), Early(sender, message, now)
        )

    def _check_primary(self, entry: KeyEntry, chunk_id: ChunkId) -> None:
        assert self.table is not None
        shard = entry.shard(chunk_id.part, len(self.table.shards))
        primary = self.table.primary(shard)
        if primary != self.node:
            raise RemoteProtocolError(
                f"{self.node} is not primary of shard {shard} in view "
                f"{self.table.shards[shard].view}; {primary} is"
            )

    def _check_view(self, chunk: Chunk, chunk_id: ChunkId, view: Any) -> None:
        """Refuse older and newer views, and say which one holds here (R16)."""
        assert self.table is not None
        self._check_primary(chunk.entry, chunk_id)
        known = self.table.shards[chunk.entry.shard(chunk_id.part, len(self.table.shards))].view
        if view != known:
            raise RemoteProtocolError(f"{chunk_id}: view {tuple(view)} is not {tuple(known)}")

    def _mark(self, chunk_id: ChunkId, chunk: Chunk) -> None:
        if isinstance(chunk.ledger, SyncLedger) and chunk.ledger.open:
            self._open.add(chunk_id)
        else:
            self._open.discard(chunk_id)

    def _live_of(self, store: int) -> Callable[[int], tuple[int, ...]]:
        def live(step: int) -> tuple[int, ...]:
            found = self._live.get((store, step))
            if found is None:
                assert self.table is not None
                if len(self._live) > 4096:
                    self._live.clear()
                found = self._live[(store, step)] = self.table.live(store, step)
            return found

        return live

    def _may_lend(self, chunk: Chunk, reader: NodeId) -> bool:
        """Whether `chunk` changes only after this reader's next contribution (R36, R38)."""
        ledger = chunk.ledger
        if not isinstance(ledger, SyncLedger):
            return False
        closed = ledger.last_closed
        return reader.rank in self._live_of(chunk.entry.store)(closed.step if closed else 0)

    def _error(self, to: NodeId, about: m.Message, error: Exception) -> Send:
        name, fields = to_wire(error)
        epoch = self.table.epoch if self.table else about.epoch
        return Send(
            to,
            m.ErrorReply(
                store=about.store,
                step=about.step,
                request=about.request,
                epoch=epoch,
                name=name,
                fields=tuple(map(str, fields)),
                chunks=tuple(c.chunk for c in about.chunks) if isinstance(about, m.Push) else (),
            ),
        )

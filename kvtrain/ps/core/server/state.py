# SPDX-License-Identifier: Apache-2.0
"""What a server holds, and the questions about it that every part of the role asks."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvtrain.errors import (
    JobError,
    to_wire,
)
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.backup import BackupLedger
from kvtrain.ps.core.clocks import NO_GATE, Clocks, Histogram
from kvtrain.ps.core.delivery import Outbox
from kvtrain.ps.core.effects import Effect, Send
from kvtrain.ps.core.joining import Identity, Joining
from kvtrain.ps.core.log import Peer, ShardLog
from kvtrain.ps.core.membership import (
    NO_EPOCH,
    SCHEDULER,
    Epoch,
    Member,
    NodeId,
    Role,
    Round,
    Table,
)
from kvtrain.ps.core.memory import HeapMemory, Memory, Slot
from kvtrain.ps.core.replies import Replies
from kvtrain.ps.core.rounds import AsyncLedger, Part, SyncLedger
from kvtrain.ps.core.row_arithmetic import RowArithmetic
from kvtrain.ps.core.row_table import StoredRows
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
    #: the weights from before this step's first round are wanted; -1: the present ones
    cut: int = -1
    #: numbers of the rows that are wanted; None: all of a dense chunk
    rows: np.ndarray[Any, Any] | None = None


@dataclass(slots=True, eq=False)
class Chunk:
    """A chunk, its ledger and who waits for it."""

    stored: StoredChunk
    entry: KeyEntry
    shard: Shard
    ledger: SyncLedger | AsyncLedger
    #: bytes that are counted for its weights, and for what is kept beside them
    nbytes: int
    kept_bytes: int = 0
    readers: list[Reader] = field(default_factory=list)
    #: rank -> the version that it read last, its own pushes since included
    read_by: dict[int, int] = field(default_factory=dict)
    #: rank -> where its last rows lie, which it may read in place, and the round they came after
    row_answers: dict[int, tuple[Slot, Round]] = field(default_factory=dict)
    #: whom the record in the making counts; None: everything is committed (R6)
    pending: list[Part] | None = None
    #: restart: the weights from before the first round of the last step that closed (R25)
    kept: np.ndarray[Any, Any] | None = None
    #: rank -> (incarnation, request) of its last WriteStates that is in force
    states_from: dict[int, tuple[int, int]] = field(default_factory=dict)
    #: counted contributions that were repeated before their record was committed
    late: list[Part] = field(default_factory=list)


class Stage(enum.Enum):
    """What this server is to a shard (PROTOCOL section 3)."""

    NONE = "none"
    LEARNER = "learner"
    REPLICA = "replica"
    CATCHING_UP = "primary, catching up"
    PRIMARY = "primary"
    #: answered a Fence, or was refused: acts as nothing but keeps its log
    FENCED = "fenced"


@dataclass(slots=True, eq=False)
class Shard:
    """A bucket of chunks as this server holds it."""

    number: int
    stage: Stage = Stage.NONE
    #: of the installed table
    view: Epoch = NO_EPOCH
    primary: NodeId | None = None
    #: highest view that was fenced
    fence: Epoch = NO_EPOCH
    log: ShardLog = field(default_factory=ShardLog)
    peers: dict[NodeId, Peer] = field(default_factory=dict)
    #: catching up ends when everything up to here is committed (R17)
    promoted_at: int = 0
    #: by store
    optimizers: dict[int, Optimizers] = field(default_factory=dict)
    chunks: set[ChunkId] = field(default_factory=set)
    #: learner: parts of the snapshot at `arriving_at`; None: it is installed
    arriving: dict[int, m.Snapshot] | None = None
    arriving_at: int = 0
    #: nothing closes any more: it is about to change hands (R18)
    sealed: bool = False

    @property
    def decides(self) -> bool:
        """Whether this server is the one that takes contributions."""
        return self.stage is Stage.PRIMARY or self.stage is Stage.CATCHING_UP


@dataclass(slots=True, eq=False)
class Store:
    """What a server knows of one store of the job."""

    #: rank 0's latest, or the latest in a log
    optimizers: Optimizers
    #: SetOptimizer messages of other ranks that wait for rank 0's: sender -> (message, since)
    waiting: dict[NodeId, tuple[m.SetOptimizer, float]] = field(default_factory=dict)
    counters: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            (
                "pushes",
                "contributions",
                "absorbed",
                "records",
                "pulls",
                "bytes_in",
                "bytes_out",
                "folds",
                "set_aside",
            ),
            0,
        )
    )
    clocks: Clocks = field(default_factory=Clocks)
    #: rank -> contributions that came after their round had closed (backup workers)
    dropped: Counter[int] = field(default_factory=Counter)
    #: who stands still, from which step on, and everybody's last standstill
    resting: dict[NodeId, int] = field(default_factory=dict)
    standstills: dict[NodeId, int] = field(default_factory=dict)
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
        #: contributions that had no room: (chunk, rank) -> one of them, and its bytes
        self._aside: dict[tuple[ChunkId, int], tuple[Part, int]] = {}
        self._live: dict[tuple[int, int], tuple[int, ...]] = {}
        self._shards: list[Shard] = []
        #: shards with something to send to other servers
        self._dirty: set[int] = set()
        #: shards of which another server owes an answer
        self._owing: set[int] = set()
        self._ship_at: float | None = None
        #: of the installed table
        self._members: tuple[Member, ...] = ()
        self._handing_over = False
        self._drain_until = 0.0
        #: shards of which the scheduler was told that they may be given away
        self._sealed: tuple[m.ShardView, ...] = ()
        self._replies = Replies(self._memory)
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
            self._stores[number] = Store(Optimizers(self._make_optimizer), clocks=Clocks(number))
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

    def _shard_of(self, entry: KeyEntry, chunk_id: ChunkId) -> Shard:
        return self._shards[entry.shard(chunk_id.part, len(self._shards))]

    def _takes(self, sender: NodeId, shard: Shard, view: Epoch, now: float) -> bool:
        """Whether what was sent in `view` may be handled here; else the sender is told which
        view holds (R16), and a newer one than ours is asked for."""
        if view == shard.view and shard.decides:
            return True
        known = max(shard.view, shard.fence)
        self._replies.refuse(sender, m.ShardView(shard.number, known))
        if view > shard.view:
            self._want_table(now)
        return False

    def _want_table(self, now: float) -> None:
        """Ask the scheduler for a newer table, until there is one."""
        assert self.table is not None
        if "table" not in self._outbox:
            for effect in self._outbox.ask("table", self._table_request, now):
                self._replies.push(effect)

    def _table_request(self) -> list[Effect]:
        assert self.table is not None
        return [Send(SCHEDULER, m.TableRequest(epoch=self.table.epoch))]

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

    def _recount(self, chunk: Chunk) -> None:
        """Rows of a table have arisen, or are kept."""
        stored = chunk.stored
        if isinstance(stored, StoredRows):
            nbytes, kept = stored.memory()
            self._account.changed(chunk.entry.store, nbytes - chunk.nbytes, kept - chunk.kept_bytes)
            chunk.nbytes, chunk.kept_bytes = nbytes, kept

    def _may_lend(self, chunk: Chunk, reader: NodeId) -> bool:
        """Whether `chunk` changes only after this reader's next contribution (R36, R38)."""
        ledger = chunk.ledger
        if not isinstance(ledger, SyncLedger) or isinstance(ledger, BackupLedger):
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

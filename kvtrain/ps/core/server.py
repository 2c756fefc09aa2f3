# SPDX-License-Identifier: Apache-2.0
"""The server's state machine: takes contributions, closes rounds, answers reads.

``on_message`` is the table of contents. A round goes collecting -> reduced -> committed;
without replicas the commit follows at once, and only then are replies made. Everything a
worker sends may come late, twice or never: contributions are identified by (chunk, round,
rank, incarnation) and a repeat gets the same verdict again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kvtrain._version import __version__
from kvtrain.errors import (
    DeadlineExceeded,
    JobError,
    KeyMismatch,
    KeyNotInitialized,
    KVTrainError,
    OutOfStep,
    RemoteProtocolError,
    WorkerLost,
    from_wire,
    to_wire,
)
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.delivery import Outbox
from kvtrain.ps.core.effects import Effect, Note, Send, Stop
from kvtrain.ps.core.joining import Identity, Joining
from kvtrain.ps.core.membership import SCHEDULER, NodeId, Role, Round, Table
from kvtrain.ps.core.replies import Replies
from kvtrain.ps.core.rounds import AsyncLedger, Part, Standing, SyncLedger
from kvtrain.ps.core.settings import JobSettings
from kvtrain.ps.core.shards import ChunkId, KeyEntry
from kvtrain.ps.core.store import Arithmetic, MakeOptimizer, Optimizers, Record, StoredChunk

#: messages kept for keys that rank 0 has not initialised yet
EARLY_LIMIT = 65536


@dataclass(slots=True, eq=False)
class _Reader:
    """A read that waits for the reader's own round."""

    node: NodeId
    request: int
    after: Round


@dataclass(slots=True, eq=False)
class _Chunk:
    """A chunk, its ledger and who waits for it."""

    stored: StoredChunk
    entry: KeyEntry
    ledger: SyncLedger | AsyncLedger
    readers: list[_Reader] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Store:
    """What a server knows of one store of the job."""

    optimizers: Optimizers
    #: SetOptimizer messages of other ranks that wait for rank 0's: sender -> (message, since)
    waiting: dict[NodeId, tuple[m.SetOptimizer, float]] = field(default_factory=dict)
    counters: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("pushes", "contributions", "absorbed", "records", "pulls", "bytes_in", "bytes_out"), 0
        )
    )


@dataclass(slots=True, eq=False)
class _Early:
    """A push or read of a chunk that does not exist yet."""

    sender: NodeId
    message: m.Push | m.Pull
    since: float


class ServerCore:
    """Parameters and rounds of the shards of which this server is primary.

    Parameters
    ----------
    identity : Identity
        What the Hello says.
    nonce : int
        Random number that names this process until it is welcomed.
    settings : JobSettings
        Deadlines until the Welcome brings the job's own.
    make_optimizer : callable
        ``(registered name, plain config) -> optimizer``.
    observe : callable, optional
        Called with each committed Record (simulation, tracing).
    """

    def __init__(
        self,
        identity: Identity,
        nonce: int,
        settings: JobSettings,
        now: float,
        make_optimizer: MakeOptimizer,
        observe: Callable[[Record], None] | None = None,
    ) -> None:
        self.settings = settings
        self.joining = Joining(Role.SERVER, identity, nonce, settings, now)
        self.table: Table | None = None
        self._make_optimizer = make_optimizer
        self._observe = observe
        self._arithmetic = Arithmetic()
        self._stores: dict[int, _Store] = {}
        self._entries: dict[int, KeyEntry] = {}
        self._chunks: dict[ChunkId, _Chunk] = {}
        #: chunks with an open round
        self._open: set[ChunkId] = set()
        self._early: dict[tuple[NodeId, ChunkId, int, Round | None], _Early] = {}
        self._live: dict[tuple[int, int], tuple[int, ...]] = {}
        self._replies = Replies()
        self._outbox = Outbox(settings.resend_after, settings.resend_longest)
        self._failed = False
        self._next_look = now + settings.note_after
        self.last = ""

    # ---- the four doors --------------------------------------------------------------------

    @property
    def node(self) -> NodeId:
        """Who this process is; provisional until welcomed."""
        return self.joining.node

    @property
    def welcomed(self) -> bool:
        """Whether this process is in the job."""
        return self.table is not None

    def start(self, now: float) -> list[Effect]:
        """Say Hello."""
        return self.joining.start(now)

    def on_message(self, sender: NodeId, message: m.Message, now: float) -> list[Effect]:
        """Take one message; the table of contents of this role."""
        effects: list[Effect]
        match message:
            case m.Welcome():
                effects = self._on_welcome(message, now)
            case m.Refused() | m.HeartbeatAck():
                effects = self.joining.on_answer(message, now)
            case m.TableUpdate():
                effects = self._on_table_update(message, now)
            case m.StopJob():
                effects = self._on_stop_job(message)
            case m.ErrorReply():
                effects = [
                    Note(f"{sender} answered: {from_wire(message.name, list(message.fields))}")
                ]
            case _ if self.table is None:
                effects = []  # the worker asks again
            case m.Init():
                effects = self._from_worker(sender, message, now, self._on_init)
            case m.Push():
                effects = self._from_worker(sender, message, now, self._on_push)
            case m.PushQuery():
                effects = self._from_worker(sender, message, now, self._on_push_query)
            case m.Pull():
                effects = self._from_worker(sender, message, now, self._on_pull)
            case m.SetOptimizer():
                effects = self._from_worker(sender, message, now, self._on_set_optimizer)
            case m.StatsRequest():
                effects = self._from_worker(sender, message, now, self._on_stats_request)
            case _:
                text = f"a server does not take {type(message).__name__} from {sender}"
                effects = [self._error(sender, message, RemoteProtocolError(text))]
        return effects

    def on_tick(self, now: float) -> list[Effect]:
        """Let time pass: heartbeats, repeats, deadlines."""
        effects = self.joining.on_tick(now, self.epoch_heartbeat)
        effects += self._outbox.due(now)
        if self.table is not None and now >= self._next_look:
            self._next_look = now + min(self.settings.note_after, self.settings.join_timeout) / 4
            effects += self._look_at_waits(now)
        return effects

    def next_deadline(self) -> float | None:
        """When :meth:`on_tick` wants to be called at the latest."""
        times = [self.joining.next_deadline(), self._outbox.next_deadline(), self._next_look]
        return min((t for t in times if t is not None), default=None)

    def check_invariants(self) -> None:
        """Raise AssertionError if the state contradicts PROTOCOL."""
        for chunk_id in self._open:
            assert chunk_id in self._chunks
        for chunk_id, chunk in self._chunks.items():
            ledger = chunk.ledger
            if isinstance(ledger, SyncLedger):
                assert (chunk_id in self._open) == bool(ledger.open), chunk_id
                closed = ledger.last_closed
                assert all(closed is None or r > closed for r in ledger.open), chunk_id
                workers = self.settings.workers
                assert len(ledger.open) <= workers, "more open rounds than workers"
            assert len(chunk.readers) <= EARLY_LIMIT
        assert len(self._early) <= EARLY_LIMIT

    # ---- membership ------------------------------------------------------------------------

    def epoch_heartbeat(self) -> m.Heartbeat:
        """What the next heartbeat says."""
        assert self.table is not None
        return m.Heartbeat(epoch=self.table.epoch, turns=self.joining.turns, last=self.last)

    def _on_welcome(self, message: m.Welcome, now: float) -> list[Effect]:
        if self.table is None:
            self.settings = JobSettings.from_plain(message.settings)
            self._next_look = now + min(self.settings.note_after, self.settings.join_timeout) / 4
            self.joining.welcomed(message.node, self.settings, now)
            self._install(message.table)
        return [self._installed()]

    def _on_table_update(self, message: m.TableUpdate, now: float) -> list[Effect]:
        if self.table is None:
            return []
        if message.table.epoch > self.table.epoch:
            self._install(message.table)
            for chunk_id in sorted(self._open):
                chunk = self._chunks[chunk_id]
                self._close_what_can_be(chunk_id, chunk, now)
        return [self._installed(), *self._replies.flush(self.table.epoch)]

    def _install(self, table: Table) -> None:
        self.table = table
        self._live.clear()
        for member in table.members:
            if member.lost:
                for chunk_id in list(self._open):
                    self._chunks[chunk_id].ledger.drop(member.node)
                    self._mark(chunk_id, self._chunks[chunk_id])

    def _installed(self) -> Send:
        assert self.table is not None
        return Send(SCHEDULER, m.Installed(epoch=self.table.epoch))

    def _on_stop_job(self, message: m.StopJob) -> list[Effect]:
        self._failed = True
        self._outbox.clear()
        error = from_wire(message.name, list(message.fields)) if message.name else None
        return [Send(SCHEDULER, m.Stopped(epoch=message.epoch)), Stop(error)]

    def _from_worker(
        self,
        sender: NodeId,
        message: Any,
        now: float,
        handle: Callable[[NodeId, Any, float], list[Effect]],
    ) -> list[Effect]:
        """Refuse who is not a live member of this incarnation (R11, R24, R29)."""
        assert self.table is not None
        member = self.table.member(sender.rank) if sender.role == Role.WORKER else None
        if member is None or member.node != sender or member.lost:
            error = WorkerLost(f"{sender} is not a live worker of this job any more; refused")
            return [self._error(sender, message, error)]
        if self._failed:
            return []
        try:
            effects = handle(sender, message, now)
        except KVTrainError as error:
            effects = [self._error(sender, message, error)]
        return effects + self._replies.flush(self.table.epoch)

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
            ),
        )

    # ---- keys ------------------------------------------------------------------------------

    def _store(self, number: int) -> _Store:
        if number not in self._stores:
            self._stores[number] = _Store(Optimizers(self._make_optimizer))
        return self._stores[number]

    def _on_init(self, sender: NodeId, message: m.Init, now: float) -> list[Effect]:
        """Create chunks at version 0; one that exists is never touched again (R47)."""
        entries = {entry.id: entry for entry in message.entries}
        if len(message.arrays) != len(message.chunks):
            raise RemoteProtocolError("Init: as many arrays as chunks are needed")
        fresh: list[ChunkId] = []
        for chunk_id, array in zip(message.chunks, message.arrays, strict=True):
            if chunk_id in self._chunks:
                continue
            entry = entries.get(chunk_id.key)
            if entry is None or not 0 <= chunk_id.part < entry.chunks:
                raise RemoteProtocolError(f"Init: {chunk_id} is not in the directory it came with")
            self._check_primary(entry, chunk_id)
            _check_array(entry, chunk_id, array, "init")
            ledger = (
                SyncLedger() if message.sync else AsyncLedger(window=self.settings.async_window)
            )
            name: str | int = int(entry.spec.name) if entry.spec.numeric else entry.spec.name
            stored = StoredChunk(chunk_id, name, 0, np.array(array))
            self._entries[entry.id] = entry
            self._chunks[chunk_id] = _Chunk(stored, entry, ledger)
            fresh.append(chunk_id)
        self._replies.send(
            sender, m.InitDone(store=message.store, step=message.step, request=message.request)
        )
        return self._take_early(set(fresh), now)

    def _take_early(self, fresh: set[ChunkId], now: float) -> list[Effect]:
        effects: list[Effect] = []
        for key in [k for k in self._early if k[1] in fresh]:
            early = self._early.pop(key)
            handle = self._on_push if isinstance(early.message, m.Push) else self._on_pull
            try:
                effects += handle(early.sender, early.message, now)  # type: ignore[arg-type]
            except KVTrainError as error:
                effects.append(self._error(early.sender, early.message, error))
        return effects

    def _keep_early(
        self, sender: NodeId, chunk_id: ChunkId, round_: Round | None, message: Any, now: float
    ) -> None:
        """Rank 0 has not initialised this key yet; its deadline is in `_look_at_waits`."""
        if len(self._early) >= EARLY_LIMIT:
            raise JobError(f"{self.node} holds {EARLY_LIMIT} messages for keys without a value")
        self._early.setdefault(
            (sender, chunk_id, message.request, round_), _Early(sender, message, now)
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

    def _check_view(self, chunk: _Chunk, chunk_id: ChunkId, view: Any) -> None:
        """Refuse older and newer views, and say which one holds here (R16)."""
        assert self.table is not None
        self._check_primary(chunk.entry, chunk_id)
        known = self.table.shards[chunk.entry.shard(chunk_id.part, len(self.table.shards))].view
        if view != known:
            raise RemoteProtocolError(f"{chunk_id}: view {tuple(view)} is not {tuple(known)}")

    # ---- contributions ---------------------------------------------------------------------

    def _on_push(self, sender: NodeId, message: m.Push, now: float) -> list[Effect]:
        if len(message.arrays) != len(message.chunks):
            raise RemoteProtocolError("Push: as many arrays as chunks are needed")
        store = self._store(message.store)
        effects: list[Effect] = []
        for part, array in zip(message.chunks, message.arrays, strict=True):
            chunk = self._chunks.get(part.chunk)
            if chunk is None:
                alone = replace(message, chunks=(part,), arrays=(array,))
                self._keep_early(sender, part.chunk, part.round, alone, now)
                continue
            self._check_view(chunk, part.chunk, part.view)
            if not part.empty:
                _check_array(chunk.entry, part.chunk, array, "push")
            effects += self._contribute(sender, message, part, array, chunk, store, now)
        return effects

    def _contribute(
        self,
        sender: NodeId,
        message: m.Push,
        given: m.Contribution,
        array: np.ndarray[Any, Any],
        chunk: _Chunk,
        store: _Store,
        now: float,
    ) -> list[Effect]:
        part = Part(
            node=sender,
            round=given.round,
            array=None if given.empty else array,
            want=message.want,
            rescale_grad=message.rescale_grad,
            hyper=message.hyper,
            request=message.request,
        )
        if isinstance(chunk.ledger, AsyncLedger) and not store.optimizers.installed:
            raise JobError(
                f"key {chunk.entry.spec.name!r}: an async store applies each push by an optimizer, "
                "and none was set; call kv.set_optimizer(...) before the first push"
            )
        standing = chunk.ledger.accept(part, now)
        if standing is Standing.NEW:
            store.counters["contributions"] += 1
            store.counters["pushes"] += given.chunk.part == 0
            store.counters["bytes_in"] += 0 if part.array is None else int(part.array.nbytes)
            self.last = f"key {chunk.entry.spec.name!r}, round {tuple(given.round)}"
        else:
            store.counters["absorbed"] += 1
        if standing is Standing.COUNTED:
            self._answer(chunk, part)
            return []
        if standing is Standing.BEHIND:
            return self._out_of_step(sender.rank, chunk, given.round, now)
        if standing is Standing.TOO_FAR:
            return []
        self._close_what_can_be(given.chunk, chunk, now, sender)
        if isinstance(chunk.ledger, SyncLedger) and len(chunk.ledger.open) > 1:
            skipped = chunk.ledger.skipped(self._live_of(chunk.entry.store))
            if skipped is not None:
                return self._out_of_step(skipped[0], chunk, skipped[1], now)
        return []

    def _close_what_can_be(
        self, chunk_id: ChunkId, chunk: _Chunk, now: float, sender: NodeId | None = None
    ) -> None:
        ledger = chunk.ledger
        if isinstance(ledger, SyncLedger):
            live = self._live_of(chunk.entry.store)
            while (parts := ledger.ready(live)) is not None:
                self._reduce(chunk_id, chunk, parts)
        elif sender is not None:
            while (part := ledger.next_part(sender)) is not None:
                self._reduce(chunk_id, chunk, [part])
        self._mark(chunk_id, chunk)

    def _mark(self, chunk_id: ChunkId, chunk: _Chunk) -> None:
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

    # ---- reduced -> committed --------------------------------------------------------------

    def _reduce(self, chunk_id: ChunkId, chunk: _Chunk, parts: list[Part]) -> None:
        """One record: hyper commands first, then the ordered sum and the update."""
        stored, store = chunk.stored, self._store(chunk.entry.store)
        self._apply_hyper(stored, parts)
        full = [p for p in parts if p.array is not None]
        arrays = [p.array for p in full if p.array is not None]
        if store.optimizers.installed:
            step = parts[0].round.step
            at = step + 1 if isinstance(chunk.ledger, SyncLedger) and step > 0 else None
            scales = [p.rescale_grad for p in full]
            self._arithmetic.update(stored, arrays, scales, store.optimizers, at)
        else:
            self._arithmetic.assign_sum(stored, arrays)
        record = Record(
            store=chunk.entry.store,
            chunk=chunk_id,
            round=parts[0].round,
            version_before=stored.version,
            version=stored.version + 1,
            members=tuple(p.node for p in parts),
            hyper=tuple(sorted(stored.hyper.items())),
            arrays=tuple(p.array for p in parts),
        )
        # with replicas the record goes to them here, and the commit waits for their answers
        self._commit(chunk, record, parts)

    def _apply_hyper(self, stored: StoredChunk, parts: list[Part]) -> None:
        """Newly carried commands, highest rank first, so that the lowest wins (R45)."""
        for part in sorted(parts, key=lambda p: -p.node.rank):
            incarnation, seen = stored.hyper_seen.get(part.node.rank, (part.node.incarnation, 0))
            if incarnation != part.node.incarnation:
                seen = 0
            for command in sorted(part.hyper, key=lambda c: c.number):
                if command.number > seen:
                    stored.hyper[command.name] = command.value
                    seen = command.number
            stored.hyper_seen[part.node.rank] = (part.node.incarnation, seen)

    def _commit(self, chunk: _Chunk, record: Record, parts: list[Part]) -> None:
        """The record is everywhere it must be: make it visible and acknowledge (R1)."""
        chunk.stored.commit(record)
        self._store(record.store).counters["records"] += 1
        if self._observe is not None:
            self._observe(record)
        for part in parts:
            self._answer(chunk, part)
        waiting, chunk.readers = chunk.readers, []
        for reader in waiting:
            self._read(chunk, reader)

    def _answer(self, chunk: _Chunk, part: Part) -> None:
        assert self.table is not None
        stored, entry = chunk.stored, chunk.entry
        verdict = m.Verdict(
            chunk=stored.id,
            view=self.table.shards[entry.shard(stored.id.part, len(self.table.shards))].view,
            round=part.round,
            counted=True,
            version=stored.version,
        )
        value = stored.committed() if part.want else None
        if value is not None:
            self._store(entry.store).counters["bytes_out"] += int(value.nbytes)
        self._replies.verdict(part.node, entry.store, part.request, verdict, value)

    def _on_push_query(self, sender: NodeId, message: m.PushQuery, now: float) -> list[Effect]:
        missing: list[m.Query] = []
        for query in message.chunks:
            chunk = self._chunks.get(query.chunk)
            if chunk is None:
                early = (sender, query.chunk, message.request, query.round)
                if early not in self._early:
                    missing.append(query)
            elif chunk.ledger.has_counted(sender, query.round):
                part = Part(sender, query.round, None, query.want, request=message.request)
                self._answer(chunk, part)
            elif not chunk.ledger.holds(sender, query.round):
                missing.append(query)
        if missing:
            answer = m.Missing(store=message.store, request=message.request, chunks=tuple(missing))
            self._replies.send(sender, answer)
        return []

    # ---- reads -----------------------------------------------------------------------------

    def _on_pull(self, sender: NodeId, message: m.Pull, now: float) -> list[Effect]:
        for read in message.chunks:
            chunk = self._chunks.get(read.chunk)
            if chunk is None:
                alone = replace(message, chunks=(read,))
                self._keep_early(sender, read.chunk, None, alone, now)
                continue
            self._check_view(chunk, read.chunk, read.view)
            after = read.after if read.after is not None else Round(-1, 0)
            self._read(chunk, _Reader(sender, message.request, after))
        return []

    def _read(self, chunk: _Chunk, reader: _Reader) -> None:
        assert self.table is not None
        stored, entry = chunk.stored, chunk.entry
        if reader.after.step >= 0 and not chunk.ledger.has_counted(reader.node, reader.after):
            known = any(
                r.node == reader.node and r.request == reader.request for r in chunk.readers
            )
            if not known:
                chunk.readers.append(reader)
            return
        view = self.table.shards[entry.shard(stored.id.part, len(self.table.shards))].view
        value = stored.committed()
        counters = self._store(entry.store).counters
        counters["pulls"] += stored.id.part == 0
        counters["bytes_out"] += int(value.nbytes)
        read = m.ChunkVersion(chunk=stored.id, view=view, version=stored.version)
        self._replies.value(reader.node, entry.store, reader.request, read, value)

    # ---- optimizer, statistics -------------------------------------------------------------

    def _on_set_optimizer(
        self, sender: NodeId, message: m.SetOptimizer, now: float
    ) -> list[Effect]:
        store = self._store(message.store)
        if sender.rank == 0 and message.number > store.optimizers.number:
            store.optimizers.install(message.number, message.name, message.config)
        if message.number > store.optimizers.number:
            store.waiting[sender] = (message, now)
            return []
        self._optimizer_set(store, sender, message)
        for other, (waiting, _) in list(store.waiting.items()):
            if waiting.number <= store.optimizers.number:
                del store.waiting[other]
                self._optimizer_set(store, other, waiting)
        return []

    def _optimizer_set(self, store: _Store, to: NodeId, message: m.SetOptimizer) -> None:
        ours = store.optimizers
        if message.number == ours.number:
            mine, theirs = (ours.name, ours.config), (message.name, message.config)
            if _without_rescale(mine) != _without_rescale(theirs):
                error = KeyMismatch(
                    f"the optimizers of store {message.store} differ: "
                    f"rank 0 set {mine}, {to} {theirs}"
                )
                self._replies.push(self._error(to, message, error))
                return
        self._replies.send(
            to,
            m.OptimizerSet(store=message.store, request=message.request, number=message.number),
        )

    def _on_stats_request(
        self, sender: NodeId, message: m.StatsRequest, now: float
    ) -> list[Effect]:
        store = self._store(message.store)
        keys = [c for c in self._chunks.values() if c.entry.store == message.store]
        stats: dict[str, Any] = {
            "server": self.node.rank,
            "version": __version__,
            "chunks": len(keys),
            "optimizer": store.optimizers.name,
            **store.counters,
        }
        self._replies.send(
            sender, m.StatsReply(store=message.store, request=message.request, stats=stats)
        )
        return []

    # ---- waits -----------------------------------------------------------------------------

    def _look_at_waits(self, now: float) -> list[Effect]:
        """Name who is missing in rounds, and end waits for values that never came."""
        effects: list[Effect] = []
        worst: dict[tuple[int, ...], tuple[float, str]] = {}
        for chunk_id in self._open:
            chunk = self._chunks[chunk_id]
            if not isinstance(chunk.ledger, SyncLedger):
                continue
            live = self._live_of(chunk.entry.store)
            for round_, since, missing in chunk.ledger.overdue(
                now - self.settings.note_after, live
            ):
                if missing not in worst or since < worst[missing][0]:
                    name = chunk.entry.spec.name
                    worst[missing] = (since, f"round {tuple(round_)} of key {name!r}")
        for missing, (since, what) in worst.items():
            report = m.Waiting(what=what, missing=missing, seconds=now - since)
            effects.append(Send(SCHEDULER, report))
        limit = now - self.settings.join_timeout
        for key, early in list(self._early.items()):
            if early.since <= limit:
                del self._early[key]
                error: KVTrainError = KeyNotInitialized(
                    f"rank 0 has not initialised key id {key[1].key} of store "
                    f"{early.message.store} within {self.settings.join_timeout:g} s; "
                    "every worker, rank 0 too, must call kv.init for each key"
                )
                effects.append(self._error(early.sender, early.message, error))
        for store in self._stores.values():
            for node, (message, since) in list(store.waiting.items()):
                if since <= limit:
                    del store.waiting[node]
                    error = DeadlineExceeded(
                        f"set_optimizer: {node} waited {self.settings.join_timeout:g} s for "
                        "worker-0, whose optimizer counts, to call it too"
                    )
                    effects.append(self._error(node, message, error))
        return effects

    def _out_of_step(self, rank: int, chunk: _Chunk, round_: Round, now: float) -> list[Effect]:
        self._failed = True
        error = OutOfStep(
            f"worker-{rank} skipped round (step {round_.step}, push {round_.n}) of key "
            f"{chunk.entry.spec.name!r}, for which other workers wait; every worker must push "
            "the same keys equally often in each step"
        )
        name, fields = to_wire(error)
        failure = m.Failure(name=name, fields=tuple(map(str, fields)))
        return self._outbox.ask("failure", lambda: [Send(SCHEDULER, failure)], now)


def _check_array(
    entry: KeyEntry, chunk_id: ChunkId, array: np.ndarray[Any, Any], what: str
) -> None:
    low, high = entry.bounds(chunk_id.part)
    if array.dtype != entry.spec.dtype or array.ndim != 1 or array.size != high - low:
        raise KeyMismatch(
            f"{what} of key {entry.spec.name!r}, chunk {chunk_id.part}: got {array.size} elements "
            f"of {array.dtype}, it has {high - low} of {entry.spec.dtype}"
        )


def _without_rescale(optimizer: tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    name, config = optimizer
    return name, {k: v for k, v in config.items() if k != "rescale_grad"}

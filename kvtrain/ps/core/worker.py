# SPDX-License-Identifier: Apache-2.0
"""The worker's state machine: one program's requests, kept going until they are answered.

joining -> running -> draining -> left, or failed: then every request fails with the job's
error. Per chunk: idle or in flight, with a queue behind (PROTOCOL R10). All keys of one
request are posted at once; answers may come in any order, late, twice or after a resend.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvtrain.errors import (
    JobStopped,
    KeyAlreadyInitialized,
    KeyMismatch,
    KeyNotInitialized,
    KVTrainError,
    LocalProtocolError,
    RemoteProtocolError,
    SchedulerLost,
    from_wire,
    to_wire,
)
from kvtrain.ps.core import messages as m
from kvtrain.ps.core import requests as r
from kvtrain.ps.core.delivery import Outbox
from kvtrain.ps.core.effects import Complete, Effect, Fail, Note, Send, Stop
from kvtrain.ps.core.joining import Identity, Joining
from kvtrain.ps.core.membership import SCHEDULER, Epoch, NodeId, Role, Round, StoreClock, Table
from kvtrain.ps.core.posting import Array, ClientChunk, Packer, Posted
from kvtrain.ps.core.replies import FULL
from kvtrain.ps.core.settings import JobSettings
from kvtrain.ps.core.shards import ChunkId, KeyEntry, KeySpec

#: the request id of the join itself
JOIN = 0


@dataclass(slots=True, eq=False)
class _Store:
    """One kv.create of this worker."""

    sync: bool
    step: int = 0
    entries: dict[str, KeyEntry] = field(default_factory=dict)
    #: names this worker has begun to initialise
    claimed: set[str] = field(default_factory=set)
    #: pushes of each key in the present step
    pushed: Counter[str] = field(default_factory=Counter)
    #: the latest command of each hyper-parameter
    hyper: dict[str, m.HyperCommand] = field(default_factory=dict)
    hyper_number: int = 0
    barriers: int = 0
    optimizers: int = 0


@dataclass(slots=True, eq=False)
class _Open:
    """A request that is not complete."""

    request: r.Request
    #: answers still to come
    parts: set[Any] = field(default_factory=set)
    value: Any = None


class WorkerCore:
    """What one worker process wants of the job.

    Parameters
    ----------
    identity : Identity
        What the Hello says.
    nonce : int
        Random number that names this process until it is welcomed.
    settings : JobSettings
        Deadlines until the Welcome brings the job's own.
    """

    def __init__(self, identity: Identity, nonce: int, settings: JobSettings, now: float) -> None:
        self.settings = settings
        self.joining = Joining(Role.WORKER, identity, nonce, settings, now)
        self.table: Table | None = None
        self.failed: Exception | None = None
        self.left = False
        self.last = ""
        self._stores: list[_Store] = []
        self._opening: list[r.OpenStoreRequest] = []
        self._chunks: dict[ChunkId, ClientChunk] = {}
        #: chunks with something that is not acknowledged
        self._busy: set[ChunkId] = set()
        self._requests: dict[int, _Open] = {}
        self._next_request = JOIN + 1
        #: reads: (request, chunk) -> where the value goes
        self._reads: dict[tuple[int, ChunkId], Array] = {}
        #: what to do once nothing of a store (None: of any store) is unacknowledged
        self._after_drain: list[tuple[int | None, Callable[[float], list[Effect]]]] = []
        self._outbox = Outbox(settings.resend_after, settings.resend_longest)
        self._query_at: float | None = None

    # ---- the doors -------------------------------------------------------------------------

    @property
    def node(self) -> NodeId:
        """Who this process is; provisional until welcomed."""
        return self.joining.node

    @property
    def welcomed(self) -> bool:
        """Whether this process is in the job."""
        return self.table is not None

    @property
    def num_workers(self) -> int:
        """Workers of the job."""
        return self.settings.workers

    @property
    def epoch(self) -> Epoch:
        """Of the installed table."""
        assert self.table is not None
        return self.table.epoch

    def address_of(self, server: NodeId) -> str:
        """Where a server of the table listens."""
        assert self.table is not None
        return next(info.address for info in self.table.servers if info.node == server)

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
            for chunk_id in store.entries[name]:
                last = self._chunks[chunk_id].last
                sequence = Round(0, (last.n if last else 0) + 1)
                found.append(
                    (chunk_id, self.round_of(request.store, name) if store.sync else sequence)
                )
        return found

    def step_of(self, store: int) -> int:
        """This worker's step in `store`."""
        return self._stores[store].step

    def start(self, now: float) -> list[Effect]:
        """Say Hello; completes request 0 when welcomed."""
        return self.joining.start(now)

    def on_message(self, sender: NodeId, message: m.Message, now: float) -> list[Effect]:
        """Take one message; the table of contents of this role."""
        match message:
            case m.Welcome():
                return self._on_welcome(message, now)
            case m.Refused() | m.HeartbeatAck():
                return self._joined(self.joining.on_answer(message, now))
            case m.TableUpdate():
                return self._on_table_update(message, now)
            case m.StopJob():
                return self._on_stop_job(message)
            case _ if self.table is None:
                return []
            case m.StoreOpened():
                return self._answered(("open", message.request), message.request, message.store)
            case m.Declared():
                return self._on_declared(message, now)
            case m.InitDone():
                return self._part_done(message.request, ("init", sender, message.step))
            case m.PushReply():
                return self._on_push_reply(sender, message, now)
            case m.Missing():
                return self._on_missing(sender, message, now)
            case m.PullReply():
                return self._on_pull_reply(sender, message, now)
            case m.Released():
                return self._answered(("barrier", message.request), message.request)
            case m.OptimizerSet():
                return self._part_done(message.request, ("optimizer", sender))
            case m.StatsReply():
                return self._on_stats_reply(sender, message)
            case m.LeaveAck():
                stopped = Send(SCHEDULER, m.Stopped(epoch=message.epoch))
                return [stopped, *self._gone(message.request)]
            case m.ErrorReply():
                return self._on_error_reply(sender, message, now)
            case _:
                text = f"a worker does not take {type(message).__name__} from {sender}"
                name, fields = to_wire(RemoteProtocolError(text))
                reply = m.ErrorReply(
                    request=message.request, name=name, fields=tuple(map(str, fields))
                )
                return [Send(sender, reply)]

    def on_tick(self, now: float) -> list[Effect]:
        """Let time pass: heartbeats, repeats, the silence of the scheduler."""
        if self.left or self.failed is not None:
            return []
        effects = self._joined(self.joining.on_tick(now, self._heartbeat))
        effects += self._outbox.due(now)
        if self._query_at is not None and now >= self._query_at:
            effects += self._ask_what_became(now)
        silent = self.joining.silent_for(now)
        if self.table is not None and silent >= self.settings.dead_after:
            leaving = self._leaving()
            if leaving and not self._busy:
                text = f"left without an answer: the scheduler has been silent for {silent:.0f} s"
                effects += [Note(text), *self._gone(leaving[0])]
            elif self._requests:
                effects += self._fail(
                    SchedulerLost(f"{self.node}: the scheduler has been silent for {silent:.0f} s")
                )
        return effects

    def next_deadline(self) -> float | None:
        """When :meth:`on_tick` wants to be called at the latest."""
        if self.left or self.failed is not None:
            return None
        times = [self.joining.next_deadline(), self._outbox.next_deadline(), self._query_at]
        return min((t for t in times if t is not None), default=None)

    def check_invariants(self) -> None:
        """Raise AssertionError if the state contradicts PROTOCOL."""
        for chunk_id, chunk in self._chunks.items():
            store = self._stores[chunk.entry.store]
            limit = 1 if store.sync else self.settings.async_window
            assert len(chunk.in_flight) <= limit, f"{chunk_id}: too much in flight"
            assert (chunk_id in self._busy) == chunk.busy(), chunk_id
            rounds = [p.round for p in (*chunk.in_flight, *chunk.queue)]
            assert rounds == sorted(set(rounds)), f"{chunk_id}: rounds out of order"
            for posted in (*chunk.in_flight, *chunk.queue):
                assert self.failed or posted.request in self._requests
        if self._busy and not self.failed:
            assert self._query_at is not None, "a wait without a deadline"

    def submit(self, request: r.Request, now: float) -> tuple[int, list[Effect]]:
        """Begin `request`; a broken rule raises at once and changes nothing."""
        if self.failed is not None:
            raise self.failed
        if self.table is None or self.left:
            raise LocalProtocolError("this worker is not in the job (not joined yet, or left)")
        number = self._next_request
        store_number = getattr(request, "store", None)
        if store_number is not None and not 0 <= store_number < len(self._stores):
            raise LocalProtocolError(f"store {store_number} has not been opened")
        self._requests[number] = _Open(request)
        try:
            effects = self._begin(number, request, now)
        except KVTrainError:
            del self._requests[number]
            raise
        self._next_request += 1
        return number, effects

    def _begin(self, number: int, request: r.Request, now: float) -> list[Effect]:
        match request:
            case r.OpenStoreRequest():
                return self._open_store(number, request, now)
            case r.InitRequest():
                return self._init(number, request, now)
            case r.PushRequest():
                return self._push(number, request, now)
            case r.PullRequest():
                return self._pull(number, request, now)
            case r.BarrierRequest():
                return self._barrier(number, request, now)
            case r.SetOptimizerRequest():
                return self._set_optimizer(number, request, now)
            case r.SetHyperRequest():
                return self._set_hyper(number, request, now)
            case r.TickRequest():
                return self._tick(number, request, now)
            case r.StatsRequestOf():
                return self._stats(number, request, now)
            case r.LeaveRequest():
                return self._leave(number, request, now)

    # ---- membership ------------------------------------------------------------------------

    def _on_welcome(self, message: m.Welcome, now: float) -> list[Effect]:
        effects: list[Effect] = []
        if self.table is None:
            self.settings = JobSettings.from_plain(message.settings)
            self._outbox = Outbox(self.settings.resend_after, self.settings.resend_longest)
            self.joining.welcomed(message.node, self.settings, now)
            self.table = message.table
            effects.append(Complete(JOIN))
        return [Send(SCHEDULER, m.Installed(epoch=self.epoch)), *effects]

    def _on_table_update(self, message: m.TableUpdate, now: float) -> list[Effect]:
        if self.table is None:
            return []
        if message.table.epoch > self.table.epoch:
            self.table = message.table
        self.joining.heard = now
        return [Send(SCHEDULER, m.Installed(epoch=self.epoch))]

    def _heartbeat(self) -> m.Heartbeat:
        clocks = tuple(StoreClock(i, s.step) for i, s in enumerate(self._stores))
        return m.Heartbeat(
            epoch=self.epoch, turns=self.joining.turns, clocks=clocks, last=self.last
        )

    def _joined(self, effects: list[Effect]) -> list[Effect]:
        """A failed join ends the request, not the user's process."""
        out: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Stop) and effect.error is not None:
                self.failed = effect.error
                out.append(Fail(JOIN, effect.error))
            else:
                out.append(effect)
        return out

    def _on_stop_job(self, message: m.StopJob) -> list[Effect]:
        stopped = Send(SCHEDULER, m.Stopped(epoch=message.epoch))
        leaving = self._leaving()
        if leaving and not message.name:
            # a normal end means that every Leave has arrived: only the answer was lost
            return [stopped, *self._gone(leaving[0])]
        error: Exception = JobStopped("the job has ended")
        if message.name:
            error = from_wire(message.name, list(message.fields))
        return [stopped, *self._fail(error)]

    def _fail(self, error: Exception) -> list[Effect]:
        """Everything that waits ends with `error`, and so does all that comes after."""
        if self.failed is not None or self.left:
            return []
        self.failed = error
        open_ = sorted(self._requests) if self.table is not None else [JOIN]
        self._requests.clear()
        self._reads.clear()
        self._after_drain.clear()
        self._outbox.clear()
        self._query_at = None
        return [Fail(number, error) for number in open_]

    # ---- requests: bookkeeping -------------------------------------------------------------

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

    def _ask_servers(
        self, kind: str, number: int, make: Callable[[NodeId], m.Message], now: float
    ) -> list[Effect]:
        """Ask every server, again and again, until each has answered."""
        assert self.table is not None
        effects: list[Effect] = []
        for info in self.table.servers:
            effects += self._ask_server(kind, number, info.node, make(info.node), now)
        return effects

    def _ask_server(
        self, kind: str, number: int, server: NodeId, message: m.Message, now: float
    ) -> list[Effect]:
        self._requests[number].parts.add((kind, server))
        return self._outbox.ask((kind, server, number), lambda: [Send(server, message)], now)

    def _ask_scheduler(
        self, kind: str, number: int, message: m.Message, now: float
    ) -> list[Effect]:
        return self._outbox.ask((kind, number), lambda: [Send(SCHEDULER, message)], now)

    def _when_drained(
        self, store: int | None, then: Callable[[float], list[Effect]], now: float
    ) -> list[Effect]:
        if not self._unacknowledged(store):
            return then(now)
        self._after_drain.append((store, then))
        return []

    def _unacknowledged(self, store: int | None) -> bool:
        if store is None:
            return bool(self._busy)
        return any(self._chunks[c].entry.store == store for c in self._busy)

    def _drained(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for item in list(self._after_drain):
            if not self._unacknowledged(item[0]):
                self._after_drain.remove(item)
                effects += item[1](now)
        return effects

    # ---- stores and keys -------------------------------------------------------------------

    def _open_store(self, number: int, request: r.OpenStoreRequest, now: float) -> list[Effect]:
        ordinal = len(self._stores)
        self._stores.append(_Store(sync=request.sync))
        message = m.OpenStore(
            store=ordinal, request=number, epoch=self.epoch, type=request.type, sync=request.sync
        )
        return self._ask_scheduler("open", number, message, now)

    def _init(self, number: int, request: r.InitRequest, now: float) -> list[Effect]:
        store = self._stores[request.store]
        names = [spec.name for spec in request.keys]
        for spec, array in zip(request.keys, request.arrays, strict=True):
            if spec.name in store.claimed or names.count(spec.name) > 1:
                raise KeyAlreadyInitialized(
                    f"key {spec.name!r} of store {request.store} was already initialised by this "
                    f"worker (rank {self.node.rank}); init a key once, then push and pull it"
                )
            _check_spec(spec, array)
        if not names:
            return self._done(number)
        store.claimed.update(names)
        if self.node.rank == 0:
            # kept until acknowledged: the user may change the array meanwhile
            copies = tuple(np.array(a) for a in request.arrays)
            self._requests[number].value = copies
        message = m.Declare(
            store=request.store, request=number, epoch=self.epoch, keys=request.keys
        )
        return self._ask_scheduler("declare", number, message, now)

    def _on_declared(self, message: m.Declared, now: float) -> list[Effect]:
        number = message.request
        open_ = self._requests.get(number)
        if open_ is None or not self._outbox.answered(("declare", number)):
            return []
        store = self._stores[message.store]
        for entry in message.entries:
            store.entries[entry.spec.name] = entry
            for chunk_id in entry:
                self._chunks[chunk_id] = ClientChunk(chunk_id, entry)
        if self.node.rank != 0:
            return self._done(number)
        copies, open_.value = open_.value, None
        return self._send_values(number, message.entries, copies, store.sync, now)

    def _send_values(
        self,
        number: int,
        entries: tuple[KeyEntry, ...],
        arrays: tuple[Array, ...],
        sync: bool,
        now: float,
    ) -> list[Effect]:
        """Rank 0's values, to each chunk's primary, in messages of about FULL bytes."""
        assert self.table is not None
        packs: dict[NodeId, list[list[tuple[ChunkId, Array, KeyEntry]]]] = {}
        sizes: dict[NodeId, int] = {}
        for entry, array in zip(entries, arrays, strict=True):
            for chunk_id in entry:
                low, high = entry.bounds(chunk_id.part)
                server = self.table.primary(entry.shard(chunk_id.part, len(self.table.shards)))
                part = array[low:high]
                packed = packs.setdefault(server, [])
                if not packed or sizes[server] + part.nbytes > FULL:
                    packed.append([])
                    sizes[server] = 0
                packed[-1].append((chunk_id, part, entry))
                sizes[server] += part.nbytes
        effects: list[Effect] = []
        for server, packed in packs.items():
            messages = [
                m.Init(
                    store=entries[0].store,
                    step=place,  # tells the answers of one server apart
                    request=number,
                    epoch=self.epoch,
                    sync=sync,
                    entries=tuple({item[2].id: item[2] for item in pack}.values()),
                    chunks=tuple(item[0] for item in pack),
                    arrays=tuple(item[1] for item in pack),
                )
                for place, pack in enumerate(packed)
            ]
            for message in messages:
                sent = ("init", server, message.step)
                self._requests[number].parts.add(sent)
                again = _sender(server, message)
                effects += self._outbox.ask((*sent, number), again, now)
        return effects

    # ---- push and pull ---------------------------------------------------------------------

    def _entry(self, store: int, name: str, what: str) -> KeyEntry:
        entry = self._stores[store].entries.get(name)
        if entry is None:
            raise KeyNotInitialized(
                f"{what} of key {name!r}: this worker (rank {self.node.rank}) has not initialised "
                f"it in store {store}; call kv.init({name!r}, value) first, on every worker"
            )
        return entry

    def _push(self, number: int, request: r.PushRequest, now: float) -> list[Effect]:
        assert self.table is not None
        store = self._stores[request.store]
        entries = [self._entry(request.store, name, "push") for name in request.names]
        for entry, array in zip(entries, request.arrays, strict=True):
            if array is not None:
                _check_array(entry, array, "push")
        for entry, out in zip(entries, request.outs or (), strict=False):
            _check_array(entry, out, "pull")
        if not entries:
            return self._done(number)
        open_ = self._requests[number]
        packer = Packer(self.table)
        for i, entry in enumerate(entries):
            given = request.arrays[i]
            array = None if given is None else np.array(given)
            target = request.outs[i] if request.outs is not None else None
            priority = request.priorities[i] if request.priorities else 0
            round_ = Round(store.step, store.pushed[entry.spec.name])
            store.pushed[entry.spec.name] += 1
            self.last = f"key {entry.spec.name!r}, round {tuple(round_)}"
            for chunk_id in entry:
                chunk = self._chunks[chunk_id]
                low, high = entry.bounds(chunk_id.part)
                if not store.sync:
                    round_ = Round(0, (chunk.last.n if chunk.last else 0) + 1)
                chunk.last = round_
                posted = Posted(
                    request=number,
                    round=round_,
                    step=store.step,
                    array=None if array is None else array[low:high],
                    out=None if target is None else target[low:high],
                    rescale_grad=request.rescale_grad,
                    hyper=tuple(c for c in store.hyper.values() if c.number > chunk.hyper_known),
                    priority=priority,
                )
                open_.parts.add((chunk_id, round_))
                self._busy.add(chunk_id)
                chunk.queue.append(posted)
                self._send_queued(chunk, packer, now)
        return packer.flush(self.epoch)

    def _send_queued(self, chunk: ClientChunk, packer: Packer, now: float) -> None:
        limit = 1 if self._stores[chunk.entry.store].sync else self.settings.async_window
        while chunk.queue and len(chunk.in_flight) < limit:
            posted = chunk.queue.popleft()
            posted.interval = self.settings.resend_after
            posted.due = now + posted.interval
            if self._query_at is None or posted.due < self._query_at:
                self._query_at = posted.due
            chunk.in_flight.append(posted)
            packer.add(chunk, posted)

    def _is_from_primary(self, sender: NodeId, chunk: ClientChunk, view: Epoch) -> bool:
        """Replies count only from the primary of the installed table, in its view (R19)."""
        assert self.table is not None
        return Packer(self.table).place(chunk) == (sender, view)

    def _on_push_reply(self, sender: NodeId, message: m.PushReply, now: float) -> list[Effect]:
        assert self.table is not None
        effects: list[Effect] = []
        packer = Packer(self.table)
        for i, verdict in enumerate(message.chunks):
            chunk = self._chunks.get(verdict.chunk)
            if chunk is None or not self._is_from_primary(sender, chunk, verdict.view):
                continue
            posted = chunk.find(verdict.round)
            if posted is None:
                continue  # a repeat of what was acknowledged before
            if posted.out is not None:
                if i >= len(message.arrays):
                    continue  # an answer without the value that is wanted
                if not _fill(posted.out, message.arrays[i]):
                    text = f"{sender} sent {message.arrays[i].size} elements for {verdict.chunk}"
                    effects.append(Note(text))
                    continue
            chunk.in_flight.remove(posted)
            for command in posted.hyper:
                chunk.hyper_known = max(chunk.hyper_known, command.number)
            self._send_queued(chunk, packer, now)
            if not chunk.busy():
                self._busy.discard(chunk.id)
            effects += self._part_done(posted.request, (chunk.id, posted.round))
        effects += packer.flush(self.epoch)
        if not self._busy:
            self._query_at = None
        if self._after_drain:
            effects += self._drained(now)
        return effects

    def _ask_what_became(self, now: float) -> list[Effect]:
        """Contributions without an answer: ask, without sending them again."""
        assert self.table is not None
        packer = Packer(self.table)
        asked: dict[tuple[NodeId, int, int], list[m.Query]] = {}
        earliest: float | None = None
        for chunk_id in sorted(self._busy):
            chunk = self._chunks[chunk_id]
            server, view = packer.place(chunk)
            for posted in chunk.in_flight:
                if posted.due <= now:
                    posted.interval = min(posted.interval * 2, self.settings.resend_longest)
                    posted.due = now + posted.interval
                    query = m.Query(chunk_id, view, posted.round, posted.out is not None)
                    asked.setdefault((server, chunk.entry.store, posted.request), []).append(query)
                earliest = posted.due if earliest is None else min(earliest, posted.due)
        self._query_at = earliest
        return [
            Send(
                server,
                m.PushQuery(store=store, request=number, epoch=self.epoch, chunks=tuple(queries)),
            )
            for (server, store, number), queries in asked.items()
        ]

    def _on_missing(self, sender: NodeId, message: m.Missing, now: float) -> list[Effect]:
        """The server does not hold these: send the same bytes again."""
        assert self.table is not None
        packer = Packer(self.table)
        for query in message.chunks:
            chunk = self._chunks.get(query.chunk)
            posted = chunk.find(query.round) if chunk is not None else None
            if chunk is None or posted is None:
                continue
            if self._is_from_primary(sender, chunk, query.view):
                packer.add(chunk, posted)
        return packer.flush(self.epoch)

    def _pull(self, number: int, request: r.PullRequest, now: float) -> list[Effect]:
        assert self.table is not None
        entries = [self._entry(request.store, name, "pull") for name in request.names]
        for entry, out in zip(entries, request.outs, strict=True):
            _check_array(entry, out, "pull")
        if not entries:
            return self._done(number)
        open_ = self._requests[number]
        packer = Packer(self.table)
        reads: dict[NodeId, list[m.ChunkRead]] = {}
        order = sorted(
            range(len(entries)), key=lambda i: -request.priorities[i] if request.priorities else 0
        )
        for i in order:
            for chunk_id in entries[i]:
                chunk = self._chunks[chunk_id]
                low, high = entries[i].bounds(chunk_id.part)
                server, view = packer.place(chunk)
                self._reads[(number, chunk_id)] = request.outs[i][low:high]
                open_.parts.add(("read", chunk_id))
                reads.setdefault(server, []).append(m.ChunkRead(chunk_id, view, chunk.last))
        effects: list[Effect] = []
        for server in reads:
            again = self._pull_again(number, request.store, server, tuple(reads[server]))
            effects += self._outbox.ask(("pull", server, number), again, now)
        return effects

    def _pull_again(
        self, number: int, store: int, server: NodeId, reads: tuple[m.ChunkRead, ...]
    ) -> Callable[[], list[Effect]]:
        def again() -> list[Effect]:
            left = tuple(read for read in reads if (number, read.chunk) in self._reads)
            if not left:
                self._outbox.answered(("pull", server, number))
                return []
            message = m.Pull(store=store, request=number, epoch=self.epoch, chunks=left)
            return [Send(server, message)]

        return again

    def _on_pull_reply(self, sender: NodeId, message: m.PullReply, now: float) -> list[Effect]:
        effects: list[Effect] = []
        number = message.request
        for read, array in zip(message.chunks, message.arrays, strict=False):
            chunk = self._chunks.get(read.chunk)
            out = self._reads.get((number, read.chunk))
            if chunk is None or out is None or not self._is_from_primary(sender, chunk, read.view):
                continue
            if not _fill(out, array):
                effects.append(Note(f"{sender} sent {array.size} elements for {read.chunk}"))
                continue
            del self._reads[(number, read.chunk)]
            open_ = self._requests.get(number)
            if open_ is not None:
                open_.parts.discard(("read", read.chunk))
                if not open_.parts:
                    self._forget_questions(number)
                    effects += self._done(number)
        return effects

    def _forget_questions(self, number: int) -> None:
        assert self.table is not None
        for info in self.table.servers:
            self._outbox.answered(("pull", info.node, number))

    # ---- the rest --------------------------------------------------------------------------

    def _barrier(self, number: int, request: r.BarrierRequest, now: float) -> list[Effect]:
        """In async everything of before is applied first; in sync that might wait for others
        who push only after the barrier."""
        store = self._stores[request.store]
        message = m.Barrier(store=request.store, step=store.step, request=number, n=store.barriers)
        store.barriers += 1

        def then(at: float) -> list[Effect]:
            return self._ask_scheduler("barrier", number, message, at)

        return then(now) if store.sync else self._when_drained(request.store, then, now)

    def _set_optimizer(
        self, number: int, request: r.SetOptimizerRequest, now: float
    ) -> list[Effect]:
        store = self._stores[request.store]
        store.optimizers += 1
        message = m.SetOptimizer(
            store=request.store,
            request=number,
            epoch=self.epoch,
            number=store.optimizers,
            name=request.name,
            config=request.config,
        )

        def then(at: float) -> list[Effect]:
            return self._ask_servers("optimizer", number, lambda _: message, at)

        return self._when_drained(request.store, then, now)

    def _set_hyper(self, number: int, request: r.SetHyperRequest, now: float) -> list[Effect]:
        store = self._stores[request.store]
        store.hyper_number += 1
        command = m.HyperCommand(store.hyper_number, request.name, float(request.value))
        store.hyper[request.name] = command
        return self._done(number)

    def _tick(self, number: int, request: r.TickRequest, now: float) -> list[Effect]:
        store = self._stores[request.store]
        store.step += 1
        store.pushed.clear()
        store.barriers = 0
        return self._done(number)

    def _stats(self, number: int, request: r.StatsRequestOf, now: float) -> list[Effect]:
        self._requests[number].value = []
        message = m.StatsRequest(store=request.store, request=number, epoch=self.epoch)
        return self._ask_servers("stats", number, lambda _: message, now)

    def _on_stats_reply(self, sender: NodeId, message: m.StatsReply) -> list[Effect]:
        open_ = self._requests.get(message.request)
        if open_ is not None and ("stats", sender) in open_.parts:
            open_.value.append(message.stats)
            open_.value.sort(key=lambda stats: int(stats.get("server", 0)))
        return self._part_done(message.request, ("stats", sender))

    def _leave(self, number: int, request: r.LeaveRequest, now: float) -> list[Effect]:
        """After everything is acknowledged: sets by step depend on the script only (R22)."""

        def then(at: float) -> list[Effect]:
            until = tuple(StoreClock(i, s.step) for i, s in enumerate(self._stores))
            message = m.Leave(request=number, epoch=self.epoch, until=until)
            return self._ask_scheduler("leave", number, message, at)

        return self._when_drained(None, then, now)

    def _leaving(self) -> list[int]:
        return [n for n, o in self._requests.items() if isinstance(o.request, r.LeaveRequest)]

    def _gone(self, number: int) -> list[Effect]:
        self.left = True
        self._outbox.clear()
        return self._done(number)

    def _on_error_reply(self, sender: NodeId, message: m.ErrorReply, now: float) -> list[Effect]:
        """What a request asked cannot be done: it fails, and nothing of it stays in flight."""
        error = from_wire(message.name, list(message.fields))
        number = message.request
        if self._requests.pop(number, None) is None:
            return [Note(f"{sender} answered: {error}")]
        for chunk_id in list(self._busy):
            chunk = self._chunks[chunk_id]
            for posts in (chunk.in_flight, chunk.queue):
                for posted in [p for p in posts if p.request == number]:
                    posts.remove(posted)
            if not chunk.busy():
                self._busy.discard(chunk_id)
        for key in [k for k in self._reads if k[0] == number]:
            del self._reads[key]
        self._outbox.forget(lambda key: isinstance(key, tuple) and key[-1] == number)
        return [Fail(number, error), *self._drained(now)]


def _sender(server: NodeId, message: m.Message) -> Callable[[], list[Effect]]:
    return lambda: [Send(server, message)]


def _fill(out: Array, array: Array) -> bool:
    """Write an answer to its place, if it fits."""
    if array.shape != out.shape or array.dtype != out.dtype:
        return False
    np.copyto(out, array)
    return True


def _check_spec(spec: KeySpec, array: Array) -> None:
    if array.dtype != spec.dtype or array.size != int(np.prod(spec.shape, dtype=np.int64)):
        raise KeyMismatch(
            f"init of key {spec.name!r}: {array.size} elements of {array.dtype} for "
            f"{spec.describe()}"
        )


def _check_array(entry: KeyEntry, array: Array, what: str) -> None:
    if array.dtype != entry.spec.dtype or array.size != entry.size or array.ndim != 1:
        raise KeyMismatch(
            f"{what} of key {entry.spec.name!r}: got {array.size} elements of {array.dtype}, "
            f"the key has {entry.spec.describe()}"
        )

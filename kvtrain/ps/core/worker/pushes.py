# SPDX-License-Identifier: Apache-2.0
"""Contributions: posted, asked after, sent again, acknowledged (PROTOCOL R10, R31)."""

from __future__ import annotations

import numpy as np

from kvtrain.ps.core import messages as m
from kvtrain.ps.core import requests as r
from kvtrain.ps.core.codecs import PLAIN
from kvtrain.ps.core.effects import Copy, Effect, Note, Send
from kvtrain.ps.core.membership import Epoch, NodeId, Round
from kvtrain.ps.core.posting import Array, ClientChunk, Kept, Lent, Packer, Posted, Spot, place
from kvtrain.ps.core.worker.holds import Holds
from kvtrain.ps.core.worker.state import check_array, fill, fits

#: bytes from which a chunk is given to the shell before the next one is copied
ALONE = 64 << 10


class Pushes(Holds):
    """Per chunk: idle or in flight, with a queue behind."""

    def _push(self, number: int, request: r.PushRequest, now: float) -> list[Effect]:
        assert self.table is not None
        store = self._stores[request.store]
        entries = [self._entry(request.store, name, "push") for name in request.names]
        for entry, array in zip(entries, request.arrays, strict=True):
            if array is not None:
                check_array(entry, array, "push")
        for entry, out in zip(entries, request.outs or (), strict=False):
            if isinstance(out, np.ndarray):
                check_array(entry, out, "pull")
        if not entries:
            return self._done(number)
        packer = Packer(self.table)
        effects: list[Effect] = []
        for i, entry in enumerate(entries):
            given = request.arrays[i]
            coded = bool(entry.spec.compression)
            kept: Kept | Lent | None = None
            release = request.lent[i] if request.lent else None
            if given is not None and not coded and release is not None:
                kept = Lent(given, entry.chunks, release)
            elif given is not None and not coded and given.nbytes >= self._memory.small:
                kept = Kept(self._memory, given, entry.chunks)
            elif given is not None and not coded:
                given = given.copy()  # travels as bytes: it needs no slot
            array = given if kept is None else kept.array
            target = request.outs[i] if request.outs is not None else None
            priority = request.priorities[i] if request.priorities else 0
            round_ = Round(store.step, store.pushed[entry.spec.name])
            store.pushed[entry.spec.name] += 1
            sync = store.is_sync(entry)
            for chunk_id in entry:
                chunk = self._chunks[chunk_id]
                low, high = entry.bounds(chunk_id.part)
                if not sync:
                    round_ = Round(0, (chunk.last.n if chunk.last else 0) + 1)
                part = None if array is None else array[low:high]
                if part is not None and given is not None and isinstance(kept, Kept):
                    effects.append(Copy(part, given[low:high]))
                if part is not None and chunk.feedback is not None:
                    part = chunk.feedback.compress(part)
                posted = Posted(
                    request=number,
                    round=round_,
                    step=store.step,
                    array=part,
                    codec=PLAIN if chunk.feedback is None else chunk.feedback.compressor.code,
                    out=_part(target, low, high),
                    rescale_grad=request.rescale_grad,
                    hyper=store.news_for(chunk.hyper_known) if store.hyper else (),
                    priority=priority,
                    kept=kept,
                )
                self._queue(chunk, posted, packer, now)
                if part is not None and part.nbytes >= ALONE:
                    effects += self._post(packer, now)
        self.last = f"key {entries[-1].spec.name!r}, round {tuple(round_)}"
        return effects + self._post(packer, now)

    def _post(self, packer: Packer, now: float) -> list[Effect]:
        """Send what a push has packed."""
        return packer.flush(self.epoch)

    def _queue(self, chunk: ClientChunk, posted: Posted, packer: Packer, now: float) -> None:
        """Queue a contribution, and send it if its turn has come."""
        store = self._stores[chunk.entry.store]
        store.resumed = False
        if store.resting is not None:
            self._go_on()
        chunk.last = posted.round
        store.clock.pushed(posted.step)
        self._requests[posted.request].parts.add((chunk.id, posted.round))
        self._busy.add(chunk.id)
        chunk.queue.append(posted)
        self._send_queued(chunk, packer, now)

    def _go_on(self) -> None:
        raise NotImplementedError

    def _send_queued(self, chunk: ClientChunk, packer: Packer, now: float) -> None:
        sync = self._stores[chunk.entry.store].is_sync(chunk.entry)
        limit = 1 if sync else self.settings.async_window
        while chunk.queue and len(chunk.in_flight) < limit:
            if sync and chunk.reading and chunk.queue[0].round > min(chunk.reading):
                return
            if sync and self._must_wait(chunk.entry.store, chunk.queue[0].step):
                return
            if self._hold is not None and self._holds_back(chunk.queue[0].step, now):
                return
            posted = chunk.queue.popleft()
            posted.interval = self.settings.resend_after
            posted.due = now + posted.interval
            if self._query_at is None or posted.due < self._query_at:
                self._query_at = posted.due
            chunk.in_flight.append(posted)
            packer.add(chunk, posted)

    def _must_wait(self, number: int, step: int) -> bool:
        """With restart nothing of a step is sent before all of earlier ones is acknowledged,
        so that a successor knows where to go on (R25)."""
        if self.settings.on_worker_loss != "restart":
            return False
        return min(self._stores[number].clock.open, default=step) < step

    def _is_from_primary(self, sender: NodeId, chunk: ClientChunk, view: Epoch) -> bool:
        """Replies count only from the primary of the installed table, in its view (R19)."""
        assert self.table is not None
        return place(chunk, self.table) == (sender, view)

    def _newer_view(self, chunk: ClientChunk, view: Epoch, now: float) -> list[Effect]:
        """A reply that does not count; one of a newer view makes us fetch the table (R19)."""
        assert self.table is not None
        return self._want_table(now) if view > place(chunk, self.table)[1] else []

    def _on_push_reply(self, sender: NodeId, message: m.PushReply, now: float) -> list[Effect]:
        assert self.table is not None
        effects: list[Effect] = []
        packer = Packer(self.table)
        for i, verdict in enumerate(message.chunks):
            chunk = self._chunks.get(verdict.chunk)
            if chunk is None:
                continue
            if not self._is_from_primary(sender, chunk, verdict.view):
                effects += self._newer_view(chunk, verdict.view, now)
                continue
            flight = chunk.in_flight
            posted = flight[0] if flight and flight[0].round == verdict.round else None
            posted = posted or chunk.find(verdict.round)
            if posted is None:
                continue  # a repeat of what was acknowledged before
            if posted.out is not None:
                if i >= len(message.arrays):
                    continue  # an answer without the value that is wanted
                if not fits(posted.out, message.arrays[i]):
                    text = f"{sender} sent {message.arrays[i].size} elements for {verdict.chunk}"
                    effects.append(Note(text))
                    continue
                if not fill(posted.out, message.arrays[i]):
                    continue  # asked for again
            chunk.in_flight.remove(posted)
            self._stores[chunk.entry.store].clock.settled(posted.step)
            if posted.kept is not None:
                posted.kept.acknowledged()
            if posted.read:
                effects += self._read_done(posted.read, chunk)
            if verdict.closed >= 0 or not verdict.counted:
                self._backed_up(chunk, posted, verdict)
            for command in posted.hyper if verdict.counted else ():
                chunk.hyper_known = max(chunk.hyper_known, command.number)
            if chunk.queue:
                self._send_queued(chunk, packer, now)
            if not chunk.busy():
                self._busy.discard(chunk.id)
            open_ = self._requests.get(posted.request)
            if open_ is not None:
                open_.parts.discard((chunk.id, posted.round))
                if not open_.parts:
                    effects += self._done(posted.request, open_.value)
        if self.settings.on_worker_loss == "restart":
            for chunk_id in sorted(self._busy):
                self._send_queued(self._chunks[chunk_id], packer, now)
        effects += packer.flush(self.epoch)
        if not self._busy:
            self._query_at = None
        effects += self._tell_clock(message.store, now)
        if self._hold is not None:
            effects += self._tell_hold(now)
        if self._after_drain:
            effects += self._drained(now)
        return effects

    def _backed_up(self, chunk: ClientChunk, posted: Posted, verdict: m.Verdict) -> None:
        """What closed meanwhile; what was dropped belongs to the residual again (R39)."""
        store = self._stores[chunk.entry.store]
        store.closed = max(store.closed, verdict.closed)
        if verdict.counted:
            return
        store.was_dropped = True
        if chunk.feedback is not None and posted.array is not None:
            chunk.feedback.give_back(posted.array)
        open_ = self._requests.get(posted.request)
        if open_ is not None:
            open_.value = (*(open_.value or ()), (chunk.id, posted.round))

    def _read_done(self, number: int, chunk: ClientChunk) -> list[Effect]:
        """A chunk that a pull wanted has come."""
        open_ = self._requests.get(number)
        if open_ is None:
            return []
        open_.parts.discard(("read", chunk.id))
        if open_.parts:
            return []
        self._outbox.answered(("pull", number))
        return self._done(number, open_.value)

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


def _part(target: Array | r.Landing | None, low: int, high: int) -> Array | Spot | None:
    """Where a chunk's new values go."""
    if target is None:
        return None
    if isinstance(target, np.ndarray):
        part: Array = target[low:high]
        return part
    return Spot(target, low, high)

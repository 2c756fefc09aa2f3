# SPDX-License-Identifier: Apache-2.0
"""The worker's state machine: one program's requests, kept going until they are answered.

joining -> running -> draining -> left, or failed: then every request fails with the job's
error. Per chunk: idle or in flight, with a queue behind (PROTOCOL R10). All keys of one
request are posted at once; answers may come in any order, late, twice or after a resend.
"""

from __future__ import annotations

from kvtrain.errors import (
    KVTrainError,
    LocalProtocolError,
    RemoteProtocolError,
    SchedulerLost,
    to_wire,
)
from kvtrain.ps.core import messages as m
from kvtrain.ps.core import requests as r
from kvtrain.ps.core.effects import Effect, Note, Send
from kvtrain.ps.core.membership import SCHEDULER, NodeId
from kvtrain.ps.core.worker.ending import JoiningAndEnding
from kvtrain.ps.core.worker.state import OpenRequest


class WorkerCore(JoiningAndEnding):
    """What one worker process wants of the job.

    Parameters
    ----------
    identity : Identity
        What the Hello says.
    nonce : int
        Random number that names this process until it is welcomed.
    settings : JobSettings
        Deadlines until the Welcome brings the job's own.
    memory : Memory, optional
        Where contributions are kept until they are acknowledged; private by default.
    """

    def start(self, now: float) -> list[Effect]:
        """Say Hello; completes request 0 when welcomed."""
        return self.joining.start(now)

    def on_message(self, sender: NodeId, message: m.Message, now: float) -> list[Effect]:
        """Take one message; the table of contents of this role."""
        match message:
            case m.Welcome():
                return self._on_welcome(message, now)
            case m.Refused() if self.table is not None:
                return self._on_refused(message)
            case m.Refused() | m.HeartbeatAck():
                return self._joined(self.joining.on_answer(message, now))
            case m.TableUpdate():
                return self._on_table_update(message, now)
            case m.StopJob():
                return self._on_stop_job(message)
            case _ if self.table is None:
                return []
            case m.StoreOpened():
                return self._on_store_opened(message)
            case m.Declared():
                return self._on_declared(message, now)
            case m.InitDone():
                return self._on_init_done(sender, message)
            case m.PushReply():
                return self._on_push_reply(sender, message, now)
            case m.Missing():
                return self._on_missing(sender, message, now)
            case m.PullReply():
                return self._on_pull_reply(sender, message, now)
            case m.Released():
                return self._on_released(message)
            case m.OptimizerSet():
                return self._on_optimizer_set(sender, message, now)
            case m.ClockAck():
                return self._on_clock_ack(sender, message)
            case m.RestingKnown():
                return self._on_resting_known(sender, message)
            case m.StatsReply():
                return self._on_stats_reply(sender, message)
            case m.StatesRead():
                return self._on_states_read(sender, message)
            case m.StatesWritten():
                return self._on_states_written(sender, message)
            case m.Hold():
                return self._on_hold(message, now)
            case m.Resume():
                return self._on_resume(message, now)
            case m.CheckpointSaved():
                self._go_on()
                return self._answered(("save", message.request), message.request, message.path)
            case m.LeaveAck():
                stopped = Send(SCHEDULER, m.Stopped(epoch=message.epoch))
                return [stopped, *self._gone(message.request)]
            case m.ViewRefused():
                return self._on_view_refused(message, now)
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
        if self._corked and now >= self._cork_until:
            effects += self.flush(now)
        if self._query_at is not None and now >= self._query_at:
            effects += self._ask_what_became(now)
        if self._hold is not None and self._hold.is_over(now):
            effects += self._end_hold(now)
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
        if self._corked:
            times.append(self._cork_until)
        if self._hold is not None:
            times.append(self._hold.until)
        return min((t for t in times if t is not None), default=None)

    def check_invariants(self) -> None:
        """Raise AssertionError if the state contradicts PROTOCOL."""
        for chunk_id, chunk in self._chunks.items():
            store = self._stores[chunk.entry.store]
            limit = 1 if store.is_sync(chunk.entry) else self.settings.async_window
            assert len(chunk.in_flight) <= limit, f"{chunk_id}: too much in flight"
            assert (chunk_id in self._busy) == chunk.busy(), chunk_id
            rounds = [p.round for p in (*chunk.in_flight, *chunk.queue)]
            assert rounds == sorted(set(rounds)), f"{chunk_id}: rounds out of order"
            for posted in (*chunk.in_flight, *chunk.queue):
                assert self.failed or posted.request in self._requests
            # what waits for a read, a checkpoint or earlier steps has the deadline of those
            free = not chunk.in_flight and not chunk.reading and self._hold is None
            if chunk.queue and free:
                assert self._must_wait(chunk.entry.store, chunk.queue[0].step), chunk_id
        if any(self._chunks[c].in_flight for c in self._busy) and not self.failed:
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
        self._requests[number] = OpenRequest(request)
        try:
            effects = self._begin(number, request, now)
            if not isinstance(request, r.PushRequest | r.PullRequest | r.SetHyperRequest):
                effects = self.flush(now) + effects
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
            case r.RowPushRequest():
                return self._push_rows(number, request, now)
            case r.RowPullRequest():
                return self._pull_rows(number, request, now)
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
            case r.ReadStatesRequest():
                return self._read_states(number, request, now)
            case r.WriteStatesRequest():
                return self._write_states(number, request, now)
            case r.SaveCheckpointRequest():
                return self._save_checkpoint(number, request, now)
            case r.LeaveRequest():
                return self._leave(number, request, now)

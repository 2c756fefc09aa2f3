# SPDX-License-Identifier: Apache-2.0
"""How a worker enters the job, and the ways in which it ends."""

from __future__ import annotations

from kvtrain.errors import (
    JobStopped,
    WorkerLost,
    from_wire,
)
from kvtrain.ps.core import messages as m
from kvtrain.ps.core import requests as r
from kvtrain.ps.core.delivery import Outbox
from kvtrain.ps.core.effects import Complete, Effect, Fail, Note, Send, Stop
from kvtrain.ps.core.membership import SCHEDULER, NodeId, StoreClock
from kvtrain.ps.core.posting import Packer
from kvtrain.ps.core.settings import JobSettings
from kvtrain.ps.core.worker.routing import Routing
from kvtrain.ps.core.worker.state import JOIN


class JoiningAndEnding(Routing):
    """Welcome, tables, leaving, failing."""

    def _on_welcome(self, message: m.Welcome, now: float) -> list[Effect]:
        effects: list[Effect] = []
        if self.table is None:
            self.settings = JobSettings.from_plain(message.settings)
            self._outbox = Outbox(self.settings.resend_after, self.settings.resend_longest)
            self.joining.welcomed(message.node, self.settings, now)
            self.resume = message.resume
            self._install(message.table, now)
            effects.append(Complete(JOIN))
        return [self._installed(), *effects]

    def _installed(self) -> Send:
        """The table is in force here from this worker's next step on."""
        steps = (m.Progress(i, store.step) for i, store in enumerate(self._stores))
        return Send(SCHEDULER, m.Installed(epoch=self.epoch, progress=tuple(steps)))

    def _on_table_update(self, message: m.TableUpdate, now: float) -> list[Effect]:
        if self.table is None:
            return []
        effects: list[Effect] = []
        if message.table.epoch > self.table.epoch:
            effects = self._install(message.table, now)
        self._outbox.answered("table")
        self.joining.heard = now
        return [self._installed(), *effects]

    def _on_refused(self, message: m.Refused) -> list[Effect]:
        """This incarnation was given up; it never sends data again (R29)."""
        return self._fail(WorkerLost(f"{self.node} was given up: {message.reason}"))

    def _heartbeat(self) -> m.Heartbeat:
        # a step that is not acknowledged is not one for anybody else yet
        steps = [s.step for s in self._stores]
        for chunk_id in self._busy:
            chunk = self._chunks[chunk_id]
            for posted in (*chunk.in_flight, *chunk.queue):
                steps[chunk.entry.store] = min(steps[chunk.entry.store], posted.step)
        clocks = tuple(StoreClock(i, step) for i, step in enumerate(steps))
        passed = tuple(
            m.PassedBarrier(i, *s.passed) for i, s in enumerate(self._stores) if s.passed
        )
        return m.Heartbeat(
            epoch=self.epoch,
            turns=self.joining.turns,
            clocks=clocks,
            passed=passed,
            last=self.last,
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
        self._hold = None
        self._outbox.clear()
        self._query_at = None
        return [Fail(number, error) for number in open_]

    def _leave(self, number: int, request: r.LeaveRequest, now: float) -> list[Effect]:
        """After everything is acknowledged: sets by step depend on the script only (R22)."""

        def then(at: float) -> list[Effect]:
            until = tuple(StoreClock(i, s.step) for i, s in enumerate(self._stores))
            message = m.Leave(request=number, epoch=self.epoch, until=until)
            return self._ask_scheduler("leave", number, message, at)

        return self._when_drained(None, lambda at: self._after_hold(then, at), now)

    def _leaving(self) -> list[int]:
        return [n for n, o in self._requests.items() if isinstance(o.request, r.LeaveRequest)]

    def _gone(self, number: int) -> list[Effect]:
        self.left = True
        self._outbox.clear()
        return self._done(number)

    def _on_error_reply(self, sender: NodeId, message: m.ErrorReply, now: float) -> list[Effect]:
        """What a request asked cannot be done: it fails, and nothing of it stays in flight."""
        error = from_wire(message.name, list(message.fields))
        failing = {message.request}
        if message.chunks:
            # requests that shared a message: those fail whose chunks are meant
            posts = [
                posted
                for chunk_id in message.chunks
                if chunk_id in self._chunks
                for posted in self._chunks[chunk_id].in_flight
                if posted.sent_with == message.request
            ]
            failing = {p.request for p in posts} | {p.read for p in posts}
        failing &= self._requests.keys()
        if not failing:
            return [Note(f"{sender} answered: {error}")]
        effects: list[Effect] = []
        for number in sorted(failing):
            effects += self._fail_request(number, error, now)
        return effects

    def _fail_request(self, number: int, error: Exception, now: float) -> list[Effect]:
        """Nothing of a failed request stays in flight."""
        self._requests.pop(number, None)
        assert self.table is not None
        packer = Packer(self.table)
        touched: set[int] = set()
        for chunk_id in sorted(self._busy):
            chunk = self._chunks[chunk_id]
            for posts in (chunk.in_flight, chunk.queue):
                for posted in [p for p in posts if p.request == number]:
                    posts.remove(posted)
                    self._stores[chunk.entry.store].clock.settled(posted.step)
                    touched.add(chunk.entry.store)
        for key in [k for k in self._reads if k[0] == number]:
            _, after = self._reads.pop(key)
            self._chunks[key[1]].reading.remove(after)
        for chunk_id in sorted(self._busy):
            # what waited behind it goes on its way
            self._send_queued(self._chunks[chunk_id], packer, now)
            if not self._chunks[chunk_id].busy():
                self._busy.discard(chunk_id)
        told = [effect for store in sorted(touched) for effect in self._tell_clock(store, now)]
        self._outbox.forget(lambda key: isinstance(key, tuple) and key[-1] == number)
        told += self._tell_hold(now)
        return [Fail(number, error), *packer.flush(self.epoch), *told, *self._drained(now)]

# SPDX-License-Identifier: Apache-2.0
"""The end of a job, good or bad: everybody is told and asked to say farewell."""

from __future__ import annotations

from kvtrain.errors import (
    to_wire,
)
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect, Journal, Send, Stop
from kvtrain.ps.core.membership import (
    LAUNCHER,
)
from kvtrain.ps.core.roster import Node
from kvtrain.ps.core.scheduler.state import Phase, SchedulerState


class Ending(SchedulerState):
    """stopping."""

    def _finish(self, now: float) -> list[Effect]:
        """Every worker is done: the servers may go, then this process."""
        return self._stop_everybody(now)

    def _fail(self, error: Exception, now: float) -> list[Effect]:
        """The job cannot go on: tell the launcher, then everybody."""
        if self.phase is Phase.STOPPING:
            return []
        self.failure = error
        effects: list[Effect] = [
            Journal({"kind": "verdict", "error": str(error)}),
            Send(LAUNCHER, m.JobFailed(text=f"{type(error).__name__}: {error}")),
        ]
        return effects + self._stop_everybody(now)

    def _stop_everybody(self, now: float) -> list[Effect]:
        self.phase = Phase.STOPPING
        self._outbox.clear()
        self._stop_at = now + self.settings.farewell
        waiting = [n for n in self.roster if not _is_gone(n)]
        if not waiting:
            self._stop_at = None
            return self._end()
        key = "stop"
        return self._outbox.ask(
            key,
            lambda: [self._stop_message(n) for n in self.roster if not _is_gone(n)],
            now,
        )

    def _stop_message(self, node: Node) -> Send:
        name, fields = to_wire(self.failure) if self.failure is not None else ("", [])
        stop = m.StopJob(epoch=self.epoch, name=name, fields=tuple(map(str, fields)))
        to = node.id if self.table is not None else node.provisional
        return Send(to, stop)

    def _on_stopped(self, node: Node, now: float) -> list[Effect]:
        node.stopped = True
        if self.phase is Phase.STOPPING and self._stop_at is not None:
            if all(_is_gone(n) for n in self.roster):
                self._stop_at = None
                return self._end()
        return []

    def _end(self) -> list[Effect]:
        self._outbox.clear()
        finished: list[Effect] = []
        if self.failure is None:
            finished.append(Send(LAUNCHER, m.JobFinished()))
        return [*finished, Stop(self.failure)]


def _is_gone(node: Node) -> bool:
    # a worker that left may still wait for the answer to its Leave
    return node.exited or node.stopped

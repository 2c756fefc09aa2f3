# SPDX-License-Identifier: Apache-2.0
"""The scheduler's state machine: who is in the job, barriers, the directory, the end.

forming -> running -> stopping. It decides and everybody else obeys: every decision is
journalled before anybody is told (PROTOCOL R52). No training data passes through it.
"""

from __future__ import annotations

from kvtrain.errors import (
    JobStopped,
    RemoteProtocolError,
    WorkerLost,
    from_wire,
)
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect, Journal, Note, Send
from kvtrain.ps.core.membership import NodeId
from kvtrain.ps.core.messages.disk import Published
from kvtrain.ps.core.scheduler.recovery import Recovery
from kvtrain.ps.core.scheduler.state import Phase
from kvtrain.ps.core.scheduler.status import Status


class SchedulerCore(Status, Recovery):
    """One job's membership.

    Parameters
    ----------
    settings : JobSettings
        Of the job; told to everybody in the Welcome.
    incarnation : int
        Higher than that of any earlier scheduler of the job.
    """

    def start(self, now: float) -> list[Effect]:
        """Journal what this scheduler is."""
        effects: list[Effect] = [
            Journal(
                {
                    "kind": "scheduler",
                    "incarnation": self.node.incarnation,
                    "settings": self.settings.to_plain(),
                }
            )
        ]
        if self._recovering:
            return effects + self._go_on(now)
        return effects + self._journal_resumed()

    def on_message(self, sender: NodeId, message: m.Message, now: float) -> list[Effect]:
        """Take one message; the table of contents of this role."""
        node = self.roster.by_id.get(sender)
        if node is not None:
            node.last_seen = now
            if node.suspect:
                node.suspect = False
        match message:
            case m.Hello():
                return self._on_hello(sender, message, now)
            case _ if node is not None and node.dead:
                return [Send(sender, m.Refused(reason=f"{node.id} was declared dead"))]
            case m.PeerStarted():
                self.roster.started[message.launch_token] = message
                return []
            case m.PeerExited():
                return self._on_peer_exited(message, now)
            case m.LauncherStop():
                return self._fail(JobStopped(message.reason), now)
            case Published():
                return self._on_published(message, now)
            case m.StatusRequest():
                return [
                    Send(sender, m.StatusReply(request=message.request, state=self.status(now)))
                ]
            case _ if node is None:
                return [self._error(sender, message, WorkerLost(f"{sender} is not in this job"))]
            case m.Heartbeat():
                return self._on_heartbeat(node, message, now)
            case m.Installed():
                effects = self._on_installed(node, message, now)
                effects += self._on_resume_steps(node, message, now)
                return effects + self._on_progress(node, message, now)
            case m.OpenStore():
                return self._checked(node, message, now, self._on_open_store)
            case m.Declare():
                return self._checked(node, message, now, self._on_declare)
            case m.Barrier():
                return self._checked(node, message, now, self._on_barrier)
            case m.Leave():
                return self._on_leave(node, message, now)
            case m.Failure():
                return self._fail(from_wire(message.name, list(message.fields)), now)
            case m.Waiting():
                return self._on_waiting(node, message, now)
            case m.TableRequest():
                return self._on_table_request(node, message)
            case m.FenceAck():
                return self._on_fence_ack(node, message, now)
            case m.AddInSync():
                return self._on_add_in_sync(node, message, now)
            case m.Suspect():
                return self._on_suspect(node, message, now)
            case m.Handover():
                return self._on_handover(node, message, now)
            case m.Sealed():
                return self._on_sealed(node, message, now)
            case m.SaveCheckpoint():
                return self._checked(node, message, now, self._on_save_checkpoint)
            case m.CheckpointParts():
                return self._on_checkpoint_parts(node, message, now)
            case m.CheckpointTaken():
                return self._on_checkpoint_taken(node, message, now)
            case m.Holding():
                return self._on_holding(node, message, now)
            case m.Resumed():
                return self._on_resumed(node, message, now)
            case m.CheckpointLate():
                return self._on_checkpoint_late(node, message, now)
            case m.Stopped():
                return self._on_stopped(node, now)
            case m.ErrorReply():
                error = from_wire(message.name, list(message.fields))
                return [Note(f"{sender} answered: {error}")]
            case _:
                text = f"the scheduler does not take {type(message).__name__} from {sender}"
                return [self._error(sender, message, RemoteProtocolError(text))]

    def on_tick(self, now: float) -> list[Effect]:
        """Let time pass: liveness, deadlines, repeats."""
        effects = self._outbox.due(now)
        if self._stop_at is not None and now >= self._stop_at:
            self._stop_at = None
            return [*effects, *self._end()]
        if self._in_sync_at is not None and now >= self._in_sync_at:
            effects += self._add_in_sync(now)
        if self._recheck_at is not None and now >= self._recheck_at:
            effects += self._start_what_is_missing()
        if now >= self._next_look:
            self._next_look = now + self.settings.heartbeat
            effects += self._look(now)
        return effects

    def next_deadline(self) -> float | None:
        """When :meth:`on_tick` wants to be called at the latest."""
        times = [self._outbox.next_deadline(), self._stop_at, self._next_look, self._in_sync_at]
        return min((t for t in times if t is not None), default=None)

    def check_invariants(self) -> None:
        """Raise AssertionError if the state contradicts PROTOCOL."""
        if self.table is not None:
            assert self.table.epoch == self.epoch
            ranks = [member.node.rank for member in self.table.members]
            assert ranks == sorted(set(ranks))
            for barrier in self.barriers.waiting if self.phase is Phase.RUNNING else ():
                assert self.barriers.missing(barrier, self._live()), f"{barrier} is complete"
        if self.phase is Phase.STOPPING:
            assert self._stop_at is not None or self.failure is not None or self._all_gone()

# SPDX-License-Identifier: Apache-2.0
"""Who is alive: heartbeats, exits, waits, and the policy for a loss."""

from __future__ import annotations

from kvtrain.errors import (
    DeadlineExceeded,
    JobError,
    ServerLost,
    WorkerLost,
)
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.barriers import BarrierId
from kvtrain.ps.core.effects import Effect, Note, Send
from kvtrain.ps.core.membership import (
    LAUNCHER,
    Role,
)
from kvtrain.ps.core.roster import Node
from kvtrain.ps.core.scheduler.shards import TRIES
from kvtrain.ps.core.scheduler.state import Phase
from kvtrain.ps.core.scheduler.workers import WorkerLosses


class Liveness(WorkerLosses):
    """The scheduler judges; everybody else obeys the table."""

    def _on_heartbeat(self, node: Node, message: m.Heartbeat, now: float) -> list[Effect]:
        node.clocks, node.last = message.clocks, message.last
        if message.turns != node.turns:
            node.turns, node.turned_at = message.turns, now
        effects: list[Effect] = [Send(node.id, m.HeartbeatAck(epoch=self.epoch))]
        for passed in message.passed:
            self.barriers.passed(node.id.rank, BarrierId(passed.store, passed.clock, passed.n))
        if message.passed and self.barriers.waiting:
            effects += self._complete_barriers()
        effects += self._has_installed(node, message.epoch)
        if self.phase is Phase.STOPPING:
            effects.append(self._stop_message(node))
        elif self.table is not None and message.epoch < self.epoch:
            effects.append(self._table_update(node))
        return effects

    def _on_table_request(self, node: Node, message: m.TableRequest) -> list[Effect]:
        """Somebody has heard of a newer table."""
        if self.phase is Phase.STOPPING:
            return [self._stop_message(node)]
        newer = self.table is not None and message.epoch < self.epoch
        return [self._table_update(node)] if newer else []

    def _look(self, now: float) -> list[Effect]:
        """Once per heartbeat: silence, the join deadline, barriers that wait."""
        if self.phase is Phase.STOPPING:
            return []
        effects: list[Effect] = self._drain(now) if self.table is not None else []
        if self.phase is Phase.FORMING:
            since = self._forming_since
            if since is not None and now - since >= self.settings.join_timeout:
                missing = "; ".join(self._who_is_missing())
                error = DeadlineExceeded(
                    f"join: after {now - since:.0f} s still missing: {missing}"
                )
                return self._fail(error, now)
        for node in self.roster:
            if node.left or node.exited or node.dead:
                continue
            silent = now - node.last_seen
            stuck = now - node.turned_at if node.id.role == Role.SERVER and node.turns >= 0 else 0.0
            if max(silent, stuck) >= self.settings.dead_after:
                return effects + self._lost(node, f"silent for {max(silent, stuck):.0f} s", now)
            if silent >= self.settings.suspect_after and not node.suspect:
                node.suspect = True
                effects.append(Note(f"suspect: {node.story(now)}"))
        effects += self._consider(now)
        for barrier, since in list(self.barriers.since.items()):
            missing_ranks = self.barriers.missing(barrier, self._live())
            what = f"barrier {barrier.n} of store {barrier.store} at step {barrier.clock}"
            effects += self._waits(what, missing_ranks, now - since, now)
            if self._stopping():
                break
        return effects

    def _on_waiting(self, node: Node, message: m.Waiting, now: float) -> list[Effect]:
        if self.phase is not Phase.RUNNING:
            return []
        return self._waits(message.what, message.missing, message.seconds, now)

    def _waits(
        self, what: str, missing: tuple[int, ...], seconds: float, now: float
    ) -> list[Effect]:
        """Something waits for workers: note who, and end the job past the deadline."""
        nodes = [n for n in self.roster.of_role(Role.WORKER) if n.id.rank in missing]
        stories = "; ".join(n.story(now) for n in nodes)
        limit = self.settings.round_timeout
        if any(n.suspect for n in nodes):
            limit = min(limit, self.settings.suspect_round_timeout)
        if seconds >= limit:
            error = DeadlineExceeded(f"{what} waited {seconds:.0f} s for {stories}")
            return self._fail(error, now)
        if seconds < self.settings.note_after:
            return []
        if now - self._noted.get(what, -self.settings.note_after) < self.settings.note_after:
            return []
        if len(self._noted) > 1024:
            self._noted.clear()
        self._noted[what] = now
        return [Note(f"{what} has waited {seconds:.0f} s for {stories}")]

    def _on_peer_exited(self, message: m.PeerExited, now: float) -> list[Effect]:
        """A process has ended. It is named by its launch token, never by a rank (R28)."""
        self.roster.exited[message.launch_token] = message.status
        if self.phase is Phase.STOPPING:
            node = self.roster.by_token.get(message.launch_token)
            return self._on_stopped(node, now) if node is not None else []
        how = _how(message.status)
        node = self.roster.by_token.get(message.launch_token)
        if node is not None:
            node.exited = True
            return [] if node.left or node.dead else self._lost(node, how, now)
        start = self.roster.started.get(message.launch_token)
        if start is None:
            return []
        name = f"{Role(start.role).name.lower()}-{start.rank} (host {start.host}, pid {start.pid})"
        workers = [s for s in self.roster.started.values() if s.role == Role.WORKER]
        if start.role == Role.WORKER and message.status == 0:
            ended = all(self.roster.exited.get(s.launch_token) == 0 for s in workers)
            if ended and len(workers) >= self.settings.workers:
                return self._finish(now)
            if not self.roster.of_role(Role.WORKER):
                return []
        awaited = start.role == Role.SERVER or start.rank in self._resuming
        if self.phase is Phase.FORMING:
            # a script that ends by itself before it joins would do so again
            by_itself = start.role == Role.WORKER and message.status >= 0
            awaited = self._replaceable(Role(start.role)) and not by_itself
        if awaited:
            return self._replacement_lost(start, f"{name} {how} before it joined the job", now)
        return self._fail(JobError(f"{name} {how} before it joined the job"), now)

    def _replaceable(self, role: Role) -> bool:
        """Whether a process that is lost while the job forms is started again.

        Nothing is lost with it yet, but an abort of the user's choice stays one.
        """
        if role is Role.SERVER:
            return self.settings.replicas > 0
        return role is Role.WORKER and self.settings.on_worker_loss == "restart"

    def _replacement_lost(self, start: m.PeerStarted, story: str, now: float) -> list[Effect]:
        """A process that the job waits for: try again, a few times."""
        if self.table is not None and start.role == Role.SERVER:
            if any(info.node.rank == start.rank for info in self.table.servers):
                return [Note(story)]
        self._tries += 1
        if self._tries > TRIES and start.role == Role.WORKER:
            return self._fail(WorkerLost(story), now)
        if self._tries > TRIES and self.table is None:
            return self._fail(ServerLost(story), now)
        effects: list[Effect] = [Note(story)]
        if self._tries <= TRIES:
            again = m.StartProcess(role=start.role, rank=start.rank, replaces=start.launch_token)
            effects.append(Send(LAUNCHER, again))
        return effects

    def _lost(self, node: Node, how: str, now: float) -> list[Effect]:
        """Policy for a lost process. Without replicas, and in mode abort: the job stops."""
        story = f"{node.story(now)}: {how}"
        effects: list[Effect] = []
        node.exited = node.dead = True
        start = self.roster.started.get(node.hello.launch_token)
        if self.table is None and start is not None and self._replaceable(node.id.role):
            return effects + self._replacement_lost(start, f"lost {story}; started again", now)
        if node.id.role == Role.WORKER:
            if self.table is None:
                return effects + self._fail(WorkerLost(f"lost {story}"), now)
            return effects + self._worker_lost(node, story, now)
        if self.table is None:
            return effects + self._fail(ServerLost(f"lost {story}"), now)
        if self.table.server(node.id) is None:
            return effects
        return effects + self._server_lost(node, story, now)


def _how(status: int) -> str:
    if status < 0:
        hint = " (possibly out of memory)" if status == -9 else ""
        return f"was killed by signal {-status}{hint}"
    return f"exited with status {status}"

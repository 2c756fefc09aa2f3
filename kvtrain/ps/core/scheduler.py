# SPDX-License-Identifier: Apache-2.0
"""The scheduler's state machine: who is in the job, barriers, the directory, the end.

forming -> running -> stopping. It decides and everybody else obeys: every decision is
journalled before anybody is told (PROTOCOL R52). No training data passes through it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from kvtrain._version import __version__
from kvtrain.errors import (
    DeadlineExceeded,
    JobError,
    JobStopped,
    KVTrainError,
    RemoteProtocolError,
    ServerLost,
    WorkerLost,
    from_wire,
    to_wire,
)
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.barriers import BarrierId, Barriers
from kvtrain.ps.core.delivery import Outbox
from kvtrain.ps.core.directory import Directory
from kvtrain.ps.core.effects import Effect, Journal, Note, Send, Stop
from kvtrain.ps.core.membership import (
    LAUNCHER,
    SCHEDULER,
    Epoch,
    Member,
    NodeId,
    Role,
    ServerInfo,
    Table,
    form_table,
)
from kvtrain.ps.core.roster import Node, Roster
from kvtrain.ps.core.settings import JobSettings


class Phase(enum.Enum):
    """Where the job stands."""

    FORMING = "forming"
    RUNNING = "running"
    STOPPING = "stopping"


class SchedulerCore:
    """One job's membership.

    Parameters
    ----------
    settings : JobSettings
        Of the job; told to everybody in the Welcome.
    incarnation : int
        Higher than that of any earlier scheduler of the job.
    """

    def __init__(self, settings: JobSettings, now: float, incarnation: int = 1) -> None:
        self.settings = settings
        self.node = NodeId(Role.SCHEDULER, 0, incarnation)
        self.phase = Phase.FORMING
        self.table: Table | None = None
        self.roster = Roster()
        self.barriers = Barriers()
        self.directory = Directory(settings.chunk_bytes, settings.shards)
        self.failure: Exception | None = None
        self._counter = 0
        self._outbox = Outbox(settings.resend_after, settings.resend_longest)
        self._forming_since: float | None = None
        self._stop_at: float | None = None
        self._next_look = now + settings.heartbeat
        self._noted: dict[str, float] = {}

    # ---- the four doors --------------------------------------------------------------------

    @property
    def epoch(self) -> Epoch:
        """Of the table in force."""
        return Epoch(self.node.incarnation, self._counter)

    def start(self, now: float) -> list[Effect]:
        """Journal what this scheduler is."""
        return [
            Journal(
                {
                    "kind": "scheduler",
                    "incarnation": self.node.incarnation,
                    "settings": self.settings.to_plain(),
                }
            )
        ]

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
            case m.PeerStarted():
                self.roster.started[message.launch_token] = message
                return []
            case m.PeerExited():
                return self._on_peer_exited(message, now)
            case m.LauncherStop():
                return self._fail(JobStopped(message.reason), now)
            case _ if node is None:
                return [self._error(sender, message, WorkerLost(f"{sender} is not in this job"))]
            case m.Heartbeat():
                return self._on_heartbeat(node, message, now)
            case m.Installed():
                return self._on_installed(node, message, now)
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
        if now >= self._next_look:
            self._next_look = now + self.settings.heartbeat
            effects += self._look(now)
        return effects

    def next_deadline(self) -> float | None:
        """When :meth:`on_tick` wants to be called at the latest."""
        times = [self._outbox.next_deadline(), self._stop_at, self._next_look]
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

    # ---- join ------------------------------------------------------------------------------

    def _on_hello(self, sender: NodeId, hello: m.Hello, now: float) -> list[Effect]:
        token = hello.launch_token or f"nonce-{sender.incarnation}"
        known = self.roster.by_token.get(token)
        if known is not None:
            known.last_seen = now
            known.provisional = sender
            return self._welcome_again(known)
        role = Role(hello.role)
        count = self.settings.workers if role is Role.WORKER else self.settings.servers
        if role not in (Role.WORKER, Role.SERVER):
            return [Send(sender, m.Refused(reason=f"role {role.name.lower()} does not join"))]
        if self.phase is not Phase.FORMING:
            reason = f"the job is {self.phase.value}; nobody can join it any more"
            if self.failure is not None:
                reason = f"the job has failed: {self.failure}"
            return [Send(sender, m.Refused(reason=reason))]
        rank = self.roster.free_rank(role, hello.rank, count)
        if rank is None:
            return [Send(sender, m.Refused(reason=self._why_no_rank(role, hello.rank, count)))]
        node = self.roster.join(sender, token, NodeId(role, rank, 1), hello, now)
        effects: list[Effect] = [
            Journal({"kind": "incarnation", "role": int(role), "rank": rank, "incarnation": 1}),
            Send(sender, m.HeartbeatAck()),
        ]
        if hello.version != __version__:
            text = f"{node.where()} runs kvtrain {hello.version}, the scheduler {__version__}"
            effects.append(Note(text))
        if role is Role.WORKER and self._forming_since is None:
            self._forming_since = now
        if not self._who_is_missing():
            effects += self._form(now)
        return effects

    def _why_no_rank(self, role: Role, wanted: int, count: int) -> str:
        name = role.name.lower()
        holder = next((n for n in self.roster.of_role(role) if n.id.rank == wanted), None)
        if holder is not None:
            return f"rank {wanted} is taken by {holder.where()}"
        if wanted >= count:
            return f"rank {wanted} is not in this job of {count} {name}s"
        return f"all {count} {name}s of the job are there already"

    def _who_is_missing(self) -> list[str]:
        return self.roster.missing(Role.SERVER, self.settings.servers) + self.roster.missing(
            Role.WORKER, self.settings.workers
        )

    def _form(self, now: float) -> list[Effect]:
        """Everybody is there: the first table, told to the servers before the workers."""
        self.phase = Phase.RUNNING
        self._counter = 1
        members = tuple(
            Member(node=n.id, host=n.hello.host, pid=n.hello.pid)
            for n in self.roster.of_role(Role.WORKER)
        )
        servers = tuple(
            ServerInfo(n.id, n.hello.host, n.hello.pid, n.hello.address, n.hello.kernel)
            for n in self.roster.of_role(Role.SERVER)
        )
        self.table = form_table(self.epoch, members, servers, self.settings.shards)
        effects: list[Effect] = [self._journal_table()]
        for node in self.roster.of_role(Role.SERVER):
            effects.append(self._welcome(node))
        return effects

    def _journal_table(self) -> Journal:
        assert self.table is not None
        return Journal({"kind": "table", "table": asdict(self.table)})

    def _welcome(self, node: Node) -> Send:
        assert self.table is not None
        welcome = m.Welcome(
            epoch=self.epoch, node=node.id, table=self.table, settings=self.settings.to_plain()
        )
        return Send(node.provisional, welcome)

    def _welcome_again(self, node: Node) -> list[Effect]:
        """A repeated Hello: the answer was lost, or there is none yet."""
        if self.failure is not None:
            return [Send(node.provisional, m.Refused(reason=f"the job has failed: {self.failure}"))]
        servers_ready = all(n.installed == self.epoch for n in self.roster.of_role(Role.SERVER))
        if self.table is not None and (node.id.role == Role.SERVER or servers_ready):
            return [self._welcome(node)]
        return [Send(node.provisional, m.HeartbeatAck())]

    def _on_installed(self, node: Node, message: m.Installed, now: float) -> list[Effect]:
        was_ready = self._servers_formed()
        node.installed = max(node.installed, message.epoch)
        if not was_ready and self._servers_formed():
            return [self._welcome(n) for n in self.roster.of_role(Role.WORKER)]
        return []

    def _servers_formed(self) -> bool:
        first = Epoch(self.node.incarnation, 1)
        return all(n.installed >= first for n in self.roster.of_role(Role.SERVER))

    # ---- stores, keys, barriers ------------------------------------------------------------

    def _checked(
        self,
        node: Node,
        message: Any,
        now: float,
        handle: Callable[[Node, Any, float], list[Effect]],
    ) -> list[Effect]:
        """Run a handler; its error goes to who asked and changes nothing else."""
        if self.phase is Phase.STOPPING:
            return [self._stop_message(node)]
        try:
            return handle(node, message, now)
        except KVTrainError as error:
            return [self._error(node.id, message, error)]

    def _on_open_store(self, node: Node, message: m.OpenStore, now: float) -> list[Effect]:
        self.directory.open_store(message.store, message.type, message.sync, node.id.rank)
        opened = m.StoreOpened(store=message.store, request=message.request, epoch=self.epoch)
        return [Send(node.id, opened)]

    def _on_declare(self, node: Node, message: m.Declare, now: float) -> list[Effect]:
        effects: list[Effect] = []
        found = [self.directory.declare(message.store, s, node.id.rank) for s in message.keys]
        fresh = [asdict(entry) for entry, new in found if new]
        if fresh:
            effects.append(Journal({"kind": "keys", "entries": fresh}))
        declared = m.Declared(
            store=message.store,
            request=message.request,
            epoch=self.epoch,
            entries=tuple(entry for entry, _ in found),
        )
        return [*effects, Send(node.id, declared)]

    def _on_barrier(self, node: Node, message: m.Barrier, now: float) -> list[Effect]:
        barrier = BarrierId(message.store, message.step, message.n)
        if self.barriers.arrive(node.id.rank, barrier, message.request, now):
            return [self._released(node.id, barrier, message.request)]
        return self._complete_barriers()

    def _released(self, to: NodeId, barrier: BarrierId, request: int) -> Send:
        released = m.Released(
            store=barrier.store,
            step=barrier.clock,
            request=request,
            epoch=self.epoch,
            n=barrier.n,
        )
        return Send(to, released)

    def _live(self) -> tuple[int, ...]:
        assert self.table is not None
        return tuple(mem.node.rank for mem in self.table.members if not mem.gone)

    def _complete_barriers(self) -> list[Effect]:
        assert self.table is not None
        effects: list[Effect] = []
        for barrier, arrived in self.barriers.complete(self._live()):
            for rank, request in sorted(arrived.items()):
                member = self.table.member(rank)
                assert member is not None
                effects.append(self._released(member.node, barrier, request))
        return effects

    # ---- liveness --------------------------------------------------------------------------

    def _on_heartbeat(self, node: Node, message: m.Heartbeat, now: float) -> list[Effect]:
        node.clocks, node.last = message.clocks, message.last
        if message.turns != node.turns:
            node.turns, node.turned_at = message.turns, now
        node.installed = max(node.installed, message.epoch)
        effects: list[Effect] = [Send(node.id, m.HeartbeatAck(epoch=self.epoch))]
        if self.phase is Phase.STOPPING:
            effects.append(self._stop_message(node))
        elif self.table is not None and message.epoch < self.epoch:
            effects.append(self._table_update(node))
        return effects

    def _table_update(self, node: Node) -> Send:
        assert self.table is not None
        return Send(node.id, m.TableUpdate(epoch=self.epoch, table=self.table))

    def _look(self, now: float) -> list[Effect]:
        """Once per heartbeat: silence, the join deadline, barriers that wait."""
        if self.phase is Phase.STOPPING:
            return []
        effects: list[Effect] = []
        if self.phase is Phase.FORMING:
            since = self._forming_since
            if since is not None and now - since >= self.settings.join_timeout:
                missing = "; ".join(self._who_is_missing())
                error = DeadlineExceeded(
                    f"join: after {now - since:.0f} s still missing: {missing}"
                )
                return self._fail(error, now)
        for node in self.roster:
            if node.left or node.exited:
                continue
            silent = now - node.last_seen
            stuck = now - node.turned_at if node.id.role == Role.SERVER and node.turns >= 0 else 0.0
            if max(silent, stuck) >= self.settings.dead_after:
                return effects + self._lost(node, f"silent for {max(silent, stuck):.0f} s", now)
            if silent >= self.settings.suspect_after and not node.suspect:
                node.suspect = True
                effects.append(Note(f"suspect: {node.story(now)}"))
        for barrier, since in list(self.barriers.since.items()):
            missing_ranks = self.barriers.missing(barrier, self._live())
            what = f"barrier {barrier.n} of store {barrier.store} at step {barrier.clock}"
            effects += self._waits(what, missing_ranks, now - since, now)
            if self._stopping():
                break
        return effects

    def _stopping(self) -> bool:
        return self.phase is Phase.STOPPING

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
            return [] if node.left else self._lost(node, how, now)
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
        return self._fail(JobError(f"{name} {how} before it joined the job"), now)

    def _lost(self, node: Node, how: str, now: float) -> list[Effect]:
        """Policy for a lost process. Without replicas, and in mode abort: the job stops."""
        story = f"{node.story(now)}: {how}"
        effects: list[Effect] = []
        node.exited = True
        if node.id.role == Role.WORKER:
            if self.table is not None:
                member = self.table.member(node.id.rank)
                assert member is not None
                self._counter += 1
                self.table = self.table.with_member(self.epoch, replace(member, lost=True))
                effects.append(self._journal_table())
            return effects + self._fail(WorkerLost(f"lost {story}"), now)
        keys = self._keys_of(node.id)
        named = f"; it held {keys}" if keys else ""
        return self._fail(ServerLost(f"lost {story}{named}; there are no replicas"), now)

    def _keys_of(self, server: NodeId) -> str:
        if self.table is None:
            return ""
        shards = len(self.table.shards)
        names = [
            entry.spec.name
            for entry in self.directory.keys.values()
            if any(self.table.primary(entry.shard(c.part, shards)) == server for c in entry)
        ]
        more = f" and {len(names) - 5} more keys" if len(names) > 5 else ""
        return ", ".join(map(repr, names[:5])) + more

    # ---- the end ---------------------------------------------------------------------------

    def _on_leave(self, node: Node, message: m.Leave, now: float) -> list[Effect]:
        """A worker's script has ended; rounds of its later steps close without it (R22)."""
        ack = Send(node.id, m.LeaveAck(request=message.request, epoch=self.epoch))
        if node.left or self.table is None or self.phase is Phase.STOPPING:
            return [ack]
        node.left = True
        member = self.table.member(node.id.rank)
        assert member is not None
        self._counter += 1
        self.table = self.table.with_member(self.epoch, replace(member, until=message.until))
        effects: list[Effect] = [self._journal_table()]
        effects += [self._table_update(n) for n in self.roster if not (n.left or n.exited)]
        effects.append(ack)
        if self._all_gone():
            return effects + self._finish(now)
        return effects + self._complete_barriers()

    def _all_gone(self) -> bool:
        return self.table is not None and all(mem.gone for mem in self.table.members)

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

    def _error(self, to: NodeId, about: m.Message, error: Exception) -> Send:
        name, fields = to_wire(error)
        reply = m.ErrorReply(
            store=about.store,
            step=about.step,
            request=about.request,
            epoch=self.epoch,
            name=name,
            fields=tuple(map(str, fields)),
        )
        return Send(to, reply)


def _is_gone(node: Node) -> bool:
    # a worker that left may still wait for the answer to its Leave
    return node.exited or node.stopped


def _how(status: int) -> str:
    if status < 0:
        hint = " (possibly out of memory)" if status == -9 else ""
        return f"was killed by signal {-status}{hint}"
    return f"exited with status {status}"


__all__ = ["SCHEDULER", "Phase", "SchedulerCore"]

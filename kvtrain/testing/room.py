# SPDX-License-Identifier: Apache-2.0
"""The machine room of a simulation: processes, their launcher, and what befalls them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, Protocol

from kvtrain.optimizer import Optimizer
from kvtrain.ps.core import messages as m
from kvtrain.ps.core import requests as r
from kvtrain.ps.core.effects import Effect
from kvtrain.ps.core.joining import Identity
from kvtrain.ps.core.membership import LAUNCHER, NodeId, Role
from kvtrain.ps.core.memory import HeapMemory
from kvtrain.ps.core.scheduler import SchedulerCore
from kvtrain.ps.core.server import ServerCore
from kvtrain.ps.core.settings import JobSettings
from kvtrain.ps.core.worker import WorkerCore
from kvtrain.testing.disk import Saved
from kvtrain.testing.joins import Join
from kvtrain.testing.mapped import MappedReads, may_map
from kvtrain.testing.memory import ScribblingMemory
from kvtrain.testing.models import CHUNK
from kvtrain.testing.plans import Fault, Plan
from kvtrain.testing.predicates import Witness
from kvtrain.testing.programs import program

_CORES = {"scheduler": SchedulerCore, "server": ServerCore, "worker": WorkerCore}
#: seconds between the end of a process and the news of it
NEWS = 0.1


class Process:
    """A core and, for a worker, its program."""

    def __init__(self, role: Role, rank: int, token: str, core: Any, witness: Witness) -> None:
        self.witness = witness
        self.role = role
        self.rank = rank
        self.token = token
        self.name = role.name.lower() if role == Role.SCHEDULER else token
        self.core = core
        self.alive = True
        self.paused_until = 0.0
        #: was given up while it slept: it is nobody any more when it wakes
        self.zombie = False
        #: a scheduler that dies between writing its next record and telling anybody
        self.dies_at_journal = False
        self.program: Any = None
        self.waits_for: int | None = None
        #: requests have numbers from 1 on; each sleep of the program has one below -1
        self.slept = -1
        self.results: dict[int, Any] = {}
        self.error: Exception | None = None
        self.ended = False
        #: joined the running job; no launcher knows it
        self.by_hand = False
        #: its program has run to its end
        self.done = False
        self.seen: dict[tuple[int, int], list[Any]] = {}
        #: barriers that the program has called, by store
        self.barriers: dict[int, int] = {}
        #: request -> (it, its rounds, the versions that had been read when it was made)
        self.requests: dict[int, tuple[r.Request, Any, dict[Any, int]]] = {}
        #: highest version of each chunk that the program has seen
        self.read: dict[Any, int] = {}
        #: own clock at the time of each read that is not answered
        self.clocks: dict[int, int] = {}
        self.ticks = 0
        self.ticked_at = 0.0
        #: ticks in a row without any time between them
        self.spins = 0
        #: weights that the program reads in the servers' memory; None: it copies
        self.mapped: MappedReads | None = None

    def begins_at(self, store: int) -> int:
        """Where the program goes on; it has passed the barriers of before."""
        step: int = self.core.resume_step_of(store)
        self.barriers[store] = step
        self.witness.begins(self.core.node, store, step)
        return step


class World(Protocol):
    """What the room needs of the simulation around it."""

    plan: Plan
    rng: random.Random
    now: float
    witness: Witness
    finished: bool
    failed_text: str

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do `action` at `when`."""

    def start(self, process: Process) -> None:
        """A process begins to run."""

    def deliver(self, target: Process, sender: NodeId, message: m.Message) -> None:
        """A message is there."""

    def carry_out(self, process: Process, effects: list[Effect]) -> None:
        """What a core asked for."""

    def note(self, text: str) -> None:
        """A line of the transcript."""


class Room:
    """Starts processes as the launcher does, and kills, pauses and cuts off as the plan says."""

    def __init__(
        self, simulation: World, cores: dict[str, Any], restored: Saved | None = None
    ) -> None:
        self._sim = simulation
        self._plan = simulation.plan
        self._cores = {**_CORES, **cores}
        self._restored = restored
        plan = self._plan
        self.settings = JobSettings(
            workers=plan.workers,
            servers=plan.servers,
            chunk_bytes=CHUNK,
            server_memory=plan.server_memory,
            shards=plan.shards,
            resend_after=1.0,
            resend_longest=4.0,
            replicas=plan.replicas,
            on_worker_loss=plan.on_worker_loss,
            suspect_after=3.0,
            dead_after=plan.dead_after,
            **({} if plan.saves is None else plan.saves.settings()),
            hold_timeout=3.0,
            restore="" if restored is None else restored.path,
        )
        self._started = self._schedulers = 0
        #: when the last message in the pipe arrives: to the scheduler, and from it
        self._pipe_at = [0.0, 0.0]
        #: token -> what the launcher has said, or will say to a scheduler that it starts again
        self._told: dict[str, tuple[m.PeerStarted, int | None]] = {}
        self.processes: list[Process] = []
        #: who has a rank now
        self._current: dict[tuple[Role, int], Process] = {}
        #: a scheduler is about to be started again
        self._restarting = False
        self._joins = list(plan.joins)
        self._cuts: list[tuple[Process, Process, float]] = []
        #: processes on one side of a cut through the whole network, and until when
        self._partitions: list[tuple[set[Process], float]] = []
        #: processes that the scheduler neither hears nor reaches, and until when
        self._outcasts: list[tuple[Process, float]] = []
        self._journal: list[dict[str, Any]] = []
        self.scheduler = self._make(Role.SCHEDULER, 0)

    def of_role(self, role: Role) -> list[Process]:
        """All processes of a role that ever were."""
        return [p for p in self.processes if p.role == role]

    def is_empty(self) -> bool:
        """Whether nobody runs and nobody will be started."""
        return not self._restarting and all(p.ended or not p.alive for p in self.processes)

    # ---- starting -------------------------------------------------------------------------

    def begin(self) -> None:
        """Start everybody, and draw what will befall them."""
        sim, plan = self._sim, self._plan
        sim.at(sim.rng.uniform(0, 0.5), lambda: sim.start(self.scheduler))
        for role, count in ((Role.SERVER, plan.servers), (Role.WORKER, plan.workers)):
            for rank in range(count):
                self._launch(role, rank, sim.rng.uniform(0, 0.5))
        for fault in plan.faults:
            sim.at(fault.when, lambda f=fault: self._befall(f))  # type: ignore[misc]

    def _make(self, role: Role, rank: int) -> Process:
        sim, plan = self._sim, self._plan
        self._started += 1
        number = self._started
        token = f"{role.name.lower()}-{rank}.{number}"
        kind = self._cores[role.name.lower()]
        if role == Role.SCHEDULER:
            self._schedulers += 1
            core = kind(self.settings, sim.now, self._schedulers)
            if self._restored is not None:
                core.resume(self._restored.job)
        elif role == Role.SERVER:
            kernel = f"sim-{number % 2}" if plan.kernels else "sim"
            identity = Identity("host", number, token, rank, f"sim://{number}", kernel)
            observe = sim.witness.committed
            core = kind(
                identity,
                1000 + number,
                self.settings,
                sim.now,
                _make_optimizer,
                observe=observe,
                memory=ScribblingMemory() if may_map(plan) else None,
            )
        else:
            identity = Identity("host", number, token if rank >= 0 else "", rank)
            # servers read contributions in the worker's own memory, as over shared memory, or
            # where memory is short get copies, as from another host
            copies = self._plan.tight and rank % 3 < 2
            memory = HeapMemory() if copies else ScribblingMemory()
            core = kind(identity, 1000 + number, self.settings, sim.now, memory)
        process = Process(role, rank, token, core, sim.witness)
        if role == Role.WORKER:
            process.mapped = MappedReads() if may_map(plan) else None
        if role == Role.WORKER and rank >= 0:
            mine = lambda: int(process.core.node.incarnation)  # noqa: E731
            process.program = program(plan, rank, process.seen, process.begins_at, mine)
        self.processes.append(process)
        self._current[(role, rank)] = process
        return process

    def _launch(self, role: Role, rank: int, delay: float) -> None:
        """Start a process and tell the scheduler its token."""
        sim = self._sim
        process = self._make(role, rank)
        started = m.PeerStarted(
            role=role, rank=rank, launch_token=process.token, host="host", pid=self._started
        )
        self._told[process.token] = (started, None)
        self._tell_scheduler(started, 0.0)
        sim.at(sim.now + delay, lambda: sim.start(process))

    def step_ended(self, step: int) -> None:
        """A worker has ended a step: now some others are started."""
        due = [join for join in self._joins if join.step <= step]
        self._joins = [join for join in self._joins if join not in due]
        for join in due:
            self._sim.at(self._sim.now, lambda j=join: self._join(j))  # type: ignore[misc]

    def _join(self, join: Join) -> None:
        """Somebody starts a worker by hand."""
        sim = self._sim
        process = self._make(Role.WORKER, -1)
        process.by_hand = True
        del self._current[Role.WORKER, -1]
        process.program = self._program_of(process)
        sim.start(process)
        if join.lives is not None:
            sim.at(sim.now + join.lives, lambda: self._kill_joiner(process))

    def _program_of(self, process: Process) -> Any:
        """Begins when it is known who the process is."""
        me, last = process.core.node, max(self._plan.steps)
        mine = lambda: int(me.incarnation)  # noqa: E731
        yield from program(self._plan, me.rank, process.seen, process.begins_at, mine, last)

    def _kill_joiner(self, process: Process) -> None:
        """Nobody sees it end: it is silent from now on."""
        if process.alive and not process.core.left:
            self._sim.note(f"kill {process.name}")
            # the scheduler may confirm it before it knows
            self._sim.witness.gone |= {-1, process.core.node.rank}
            self.exit(process, -9)

    def _tell_scheduler(self, message: m.Message, delay: float) -> None:
        """Through the launcher's pipe: late perhaps, but in order."""
        self._pipe_at[0] = self._through_pipe(self._pipe_at[0], delay)
        sim = self._sim
        sim.at(self._pipe_at[0], lambda: sim.deliver(self.scheduler, LAUNCHER, message))

    def _through_pipe(self, last: float, delay: float) -> float:
        if self._plan.pipe and self._sim.now < self._plan.faults_end:
            delay += self._sim.rng.uniform(0, self._plan.pipe)
        return max(last, self._sim.now + delay)

    def on_launcher_message(self, process: Process, message: m.Message) -> None:
        """What the scheduler says to the launcher."""
        if process is not self.scheduler:
            return
        match message:
            case m.JobFailed():
                self._sim.failed_text = message.text
            case m.JobFinished():
                self._sim.finished = True
            case m.StartProcess():
                self._pipe_at[1] = self._through_pipe(self._pipe_at[1], 0.0)
                self._sim.at(self._pipe_at[1], lambda: self._start_again(message))

    def _start_again(self, wish: m.StartProcess) -> None:
        sim = self._sim
        if sim.finished or sim.failed_text:
            return
        held = self._current.get((Role(wish.role), wish.rank))
        if held is not None and held.token != wish.replaces and held.alive:
            return  # asked for again by a scheduler that does not know that it was started
        old = next((p for p in self.processes if p.token == wish.replaces), None)
        if old is not None and old.alive and old.paused_until > sim.now:
            old.zombie = True
        self._launch(Role(wish.role), wish.rank, sim.rng.uniform(0, 0.5))

    # ---- ending ---------------------------------------------------------------------------

    def exit(self, process: Process, status: int) -> None:
        """A process ends; the launcher tells the scheduler a moment later."""
        if process.ended:
            return
        sim = self._sim
        process.alive, process.ended = False, True
        if process is self.scheduler:
            # the launcher ends servers that are left over: they sleep, or missed the last word
            for left in self.of_role(Role.SERVER):
                if left.alive:
                    sim.at(sim.now + 30.0, lambda p=left: self._end(p))  # type: ignore[misc]
            return
        if process.by_hand:
            return
        self._told[process.token] = (self._told[process.token][0], status)
        news = m.PeerExited(launch_token=process.token, status=status)
        self._tell_scheduler(news, sim.rng.uniform(0, NEWS))

    def _end(self, process: Process) -> None:
        process.alive, process.ended = False, True

    def journal(self, process: Process, record: dict[str, Any]) -> None:
        """A record of the scheduler is on the disk; it may die while it writes it, or before it
        tells anybody."""
        if not process.dies_at_journal or self._sim.rng.random() < 0.5:
            self._journal.append(json.loads(json.dumps(record)))
        if process.dies_at_journal:
            self._sim.note(f"{process.name} dies after {record['kind']}")
            self._kill_scheduler(process)

    def _kill_scheduler(self, process: Process) -> None:
        """The launcher starts another one, which reads the journal (R52)."""
        process.alive, process.ended = False, True
        self._restarting = True
        self._sim.at(self._sim.now + self._sim.rng.uniform(0.1, 2.0), self._next_scheduler)

    def _next_scheduler(self) -> None:
        sim = self._sim
        self._restarting = False
        self.scheduler = successor = self._make(Role.SCHEDULER, 0)
        sim.note(f"the scheduler is started again, after {len(self._journal)} records")
        successor.core.recover(list(self._journal), sim.now)
        sim.start(successor)
        for started, status in list(self._told.values()):
            sim.deliver(successor, LAUNCHER, started)
            if status is not None:
                news = m.PeerExited(launch_token=started.launch_token, status=status)
                sim.deliver(successor, LAUNCHER, news)

    # ---- faults ---------------------------------------------------------------------------

    def _befall(self, fault: Fault) -> None:
        sim = self._sim
        if sim.finished or sim.failed_text:
            return
        role = Role[fault.role.upper()]
        victims = [p for (r_, _), p in self._current.items() if r_ == role and p.alive]
        if not victims:
            return
        victim = victims[int(fault.pick * len(victims))]
        if role == Role.SCHEDULER and fault.kind == "kill":
            if fault.seconds > 1.0:
                victim.dies_at_journal = True
            else:
                sim.note(f"kill {victim.name}")
                self._kill_scheduler(victim)
            return
        match fault.kind:
            case "kill" if role == Role.WORKER or self._may_lose(victim):
                if self._plan.on_worker_loss == "restart" and not victim.core.welcomed:
                    return
                sim.note(f"kill {victim.name}")
                if role == Role.WORKER and self._plan.on_worker_loss != "restart":
                    sim.witness.gone.add(victim.rank)
                self.exit(victim, -9)
            case "pause":
                sim.note(f"pause {victim.name} for {fault.seconds:.1f} s")
                victim.paused_until = max(victim.paused_until, sim.now + fault.seconds)
            case "sleep" if role == Role.WORKER or self._may_lose(victim):
                if role == Role.WORKER and not victim.core.welcomed:
                    return
                sim.note(f"{victim.name} sleeps {fault.seconds:.1f} s")
                victim.paused_until = sim.now + fault.seconds
                victim.zombie = True
            case "outcast" if role == Role.WORKER or self._may_lose(victim):
                if role == Role.WORKER and not victim.core.welcomed:
                    return
                sim.note(f"cut {victim.name} from the scheduler for {fault.seconds:.1f} s")
                self._outcasts.append((victim, sim.now + fault.seconds))
                victim.zombie = True
            case "partition":
                side = {p for p in self.processes if p.alive and sim.rng.random() < 0.5}
                names = sorted(p.name for p in side)
                sim.note(f"{names} cut off from the others for {fault.seconds:.1f} s")
                self._partitions.append((side, sim.now + fault.seconds))
            case "cut" | "deaf":
                others = [p for p in self.processes if p.alive and p is not victim]
                if not others:
                    return
                other = others[int(fault.pick * 7919) % len(others)]
                sim.note(f"{fault.kind} {victim.name}, {other.name} for {fault.seconds:.1f} s")
                self._cuts.append((other, victim, sim.now + fault.seconds))
                if fault.kind == "cut":
                    self._cuts.append((victim, other, sim.now + fault.seconds))
            case "terminate" if victim.core.table and not victim.core._handing_over:
                sim.note(f"terminate {victim.name}")
                sim.carry_out(victim, victim.core.hand_over(sim.now))

    def _may_lose(self, server: Process) -> bool:
        """Whether all shards have another replica that is well; else the job would be lost."""
        table = self.scheduler.core.table
        if table is None:
            return False
        bad = {p.token for p in self.of_role(Role.SERVER) if not p.alive or p.zombie}
        bad.add(server.token)
        roster = self.scheduler.core.roster
        well = {id_ for id_, node in roster.by_id.items() if node.hello.launch_token not in bad}
        return all(set(info.replicas) & well for info in table.shards)

    def is_cut(self, source: Process, target: Process) -> bool:
        """Whether nothing gets through from one process to another now."""
        if not (self._cuts or self._partitions or self._outcasts):
            return False
        now = self._sim.now
        if self.scheduler in (source, target):
            other = target if source is self.scheduler else source
            if any(other is victim and now < until for victim, until in self._outcasts):
                return True
        if any(now < until and (source in s) != (target in s) for s, until in self._partitions):
            return True
        return any(source is a and target is b and now < until for a, b, until in self._cuts)

    # ---- predicates on the servers --------------------------------------------------------

    def check(self, process: Process) -> None:
        """I3 and I4, after a server has done something."""
        if process.role == Role.SERVER and process.core.table is not None:
            for shard in process.core._shards:
                self._sim.witness.holds(process.core.node, shard)


def _make_optimizer(name: str, config: dict[str, Any]) -> Any:
    return Optimizer.from_config(name, config)

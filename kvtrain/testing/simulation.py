# SPDX-License-Identifier: Apache-2.0
"""A job on a seeded network that delays, reorders, drops and doubles messages.

The real cores, a virtual clock, no sockets. After every event the cores' own invariants and
PROTOCOL's predicates are checked. A failure names the seed and the command that replays it.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.errors import JobError, JobStopped, KVTrainError, ServerLost, WorkerLost
from kvtrain.optimizer import Optimizer
from kvtrain.ps.core import messages as m
from kvtrain.ps.core import requests as r
from kvtrain.ps.core.effects import Complete, Copy, Effect, Fail, Send, Stop
from kvtrain.ps.core.joining import Identity
from kvtrain.ps.core.membership import LAUNCHER, SCHEDULER, NodeId, Role
from kvtrain.ps.core.scheduler import SchedulerCore
from kvtrain.ps.core.server import ServerCore
from kvtrain.ps.core.settings import JobSettings
from kvtrain.ps.core.worker import JOIN, WorkerCore
from kvtrain.testing.memory import ScribblingMemory
from kvtrain.testing.plans import Plan, program
from kvtrain.testing.predicates import Witness

#: virtual seconds after which the network stops losing messages, and a job must have ended
FAULTS_END = 30.0
LIMIT = 400.0
_STORY = 60


class SimulationFailure(AssertionError):
    """A predicate does not hold; the text replays it."""


class _Process:
    """A core and, for a worker, its program."""

    def __init__(self, name: str, core: Any) -> None:
        self.name = name
        self.core = core
        self.alive = True
        self.program: Any = None
        self.waits_for: int | None = None
        self.results: dict[int, Any] = {}
        self.error: Exception | None = None
        self.ended = False
        self.status: int | None = None
        self.seen: dict[tuple[int, int], list[Any]] = {}
        #: barriers that the program has called, by store
        self.barriers: dict[int, int] = {}
        self.requests: dict[int, tuple[r.Request, Any]] = {}
        #: own clock at the time of each read that is not answered
        self.clocks: dict[int, int] = {}
        self.ticks = 0


class Simulation:
    """One job under one seed.

    Parameters
    ----------
    seed : int
        Draws the plan (unless given) and every fault.
    cores : dict, optional
        Other classes for "scheduler", "server", "worker": mutations.
    """

    def __init__(
        self, seed: int, plan: Plan | None = None, cores: dict[str, Any] | None = None
    ) -> None:
        self.seed = seed
        self.plan = plan or Plan.draw(seed)
        self.rng = random.Random(seed * 7919 + 1)
        self.now = 0.0
        self.witness = Witness(self.plan)
        self.story: deque[str] = deque(maxlen=_STORY)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._addresses: dict[NodeId, _Process] = {}
        self.failed_text = ""
        self.finished = False
        chosen = {"scheduler": SchedulerCore, "server": ServerCore, "worker": WorkerCore}
        chosen.update(cores or {})
        plan = self.plan
        settings = JobSettings(
            workers=plan.workers,
            servers=plan.servers,
            chunk_bytes=64,
            shards=8,
            resend_after=1.0,
            resend_longest=4.0,
        )
        self.scheduler = _Process("scheduler", chosen["scheduler"](settings, self.now))
        self.servers = []
        self.workers = []
        for rank in range(plan.servers):
            identity = Identity("host", 100 + rank, f"s{rank}", rank, f"sim://{rank}", "sim")
            core = chosen["server"](
                identity,
                1000 + rank,
                settings,
                self.now,
                _make_optimizer,
                observe=self.witness.committed,
            )
            self.servers.append(_Process(f"server-{rank}", core))
        for rank in range(plan.workers):
            identity = Identity("host", 200 + rank, f"w{rank}", rank)
            # servers read contributions in the worker's own memory, as over shared memory
            core = chosen["worker"](identity, 2000 + rank, settings, self.now, ScribblingMemory())
            process = _Process(f"worker-{rank}", core)
            process.program = program(plan, rank, process.seen)
            self.workers.append(process)
        self.processes = [self.scheduler, *self.servers, *self.workers]
        self._addresses[SCHEDULER] = self.scheduler

    # ---- time -----------------------------------------------------------------------------

    def _at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), action))

    def run(self) -> None:
        """Until everything has ended; raises SimulationFailure."""
        try:
            self._begin()
            while self._events:
                when, _, action = heapq.heappop(self._events)
                self.now = max(self.now, when)
                assert self.now < LIMIT, f"I13: hangs; {self._who_waits()}"
                action()
                self._check()
                if all(p.ended or not p.alive for p in self.processes):
                    break
            self._conclude()
        except (AssertionError, KVTrainError) as error:
            lines = "\n".join(self.story)
            raise SimulationFailure(
                f"seed {self.seed}: {type(error).__name__}: {error}\n"
                f"replay: python -m kvtrain.testing.simulate --seed {self.seed}\n"
                f"plan: {self.plan}\nlast events:\n{lines}"
            ) from error

    def _begin(self) -> None:
        for process in self.processes:
            delay = self.rng.uniform(0, 0.5)
            self._at(delay, lambda p=process: self._start(p))  # type: ignore[misc]
        for process in (*self.servers, *self.workers):
            role, rank = process.name.split("-")
            started = m.PeerStarted(
                role=Role[role.upper()],
                rank=int(rank),
                launch_token=f"{role[0]}{rank}",
                host="host",
                pid=1,
            )
            self._at(0.0, lambda s=started: self._deliver(self.scheduler, LAUNCHER, s))  # type: ignore[misc]
        if self.plan.kill is not None:
            kind, number, when = self.plan.kill
            victim = (self.workers if kind == "worker" else self.servers)[number]
            self._at(when, lambda: self._kill(victim))

    def _start(self, process: _Process) -> None:
        if process.alive:
            self._addresses[process.core.node] = process
            self._carry_out(process, process.core.start(self.now))

    def _kill(self, process: _Process) -> None:
        if not process.ended:
            self.story.append(f"{self.now:8.3f} kill {process.name}")
            self.witness.lost = True
            self._exit(process, -9)

    def _exit(self, process: _Process, status: int) -> None:
        """A process ends; the launcher tells the scheduler a moment later."""
        if process.ended and process.status is not None:
            return
        process.alive, process.ended, process.status = False, True, status
        if process is self.scheduler:
            return
        role, rank = process.name.split("-")
        news = m.PeerExited(launch_token=f"{role[0]}{rank}", status=status)
        self._at(
            self.now + self.rng.uniform(0, 0.1),
            lambda: self._deliver(self.scheduler, LAUNCHER, news),
        )

    def _arm(self, process: _Process) -> None:
        """Call on_tick when the core wants it."""
        deadline = process.core.next_deadline()
        if deadline is None or not process.alive:
            return
        process.ticks += 1
        turn = process.ticks

        def tick() -> None:
            if process.alive and process.ticks == turn:
                process.core.joining.turns += 1 if hasattr(process.core, "joining") else 0
                self._carry_out(process, process.core.on_tick(self.now))

        if not hasattr(process.core, "joining"):

            def tick() -> None:
                if process.alive and process.ticks == turn:
                    self._carry_out(process, process.core.on_tick(self.now))

        self._at(max(deadline, self.now + 1e-6), tick)

    # ---- the network ----------------------------------------------------------------------

    def _send(self, process: _Process, to: NodeId, message: m.Message) -> None:
        if to.role == Role.LAUNCHER:
            if isinstance(message, m.JobFailed):
                self.failed_text = message.text
            self.finished = self.finished or isinstance(message, m.JobFinished)
            return
        faults = self.now < FAULTS_END
        copies = 1
        if faults and self.rng.random() < self.plan.drop:
            copies = 0
        elif faults and self.rng.random() < self.plan.double:
            copies = 2
        sender = process.core.node
        for _ in range(copies):
            delay = self.rng.uniform(0, self.plan.longest_delay if faults else 0.01)
            self._at(self.now + delay, lambda: self._arrive(to, sender, message, process))

    def _arrive(self, to: NodeId, sender: NodeId, message: m.Message, source: _Process) -> None:
        self._addresses.setdefault(sender, source)
        target = self.scheduler if to.role == Role.SCHEDULER else self._addresses.get(to)
        if target is None:
            target = next((p for p in self.processes if p.core.node == to), None)
        if target is not None:
            self._deliver(target, sender, message)

    def _deliver(self, target: _Process, sender: NodeId, message: m.Message) -> None:
        if not target.alive:
            return
        self.story.append(f"{self.now:8.3f} {sender} -> {target.name}: {message!r:.150}")
        self._carry_out(target, target.core.on_message(sender, message, self.now))

    # ---- effects and programs -------------------------------------------------------------

    def _carry_out(self, process: _Process, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(to, message):
                    table = getattr(message, "table", None)
                    if table is not None:
                        self.witness.tables[table.epoch] = table
                    if isinstance(message, m.Init | m.Declared):
                        for entry in message.entries:
                            self.witness.entries[entry.id] = entry
                    self._send(process, to, message)
                case Copy(target, source):
                    np.copyto(target, source)
                case Complete(number, value):
                    self._completed(process, number, value)
                case Fail(number, error):
                    process.results[number] = error
                case Stop(error):
                    self._exit(process, 0 if error is None else 1)
        if process.program is not None and process.alive:
            self._advance(process)
        self._arm(process)

    def _completed(self, process: _Process, number: int, value: Any) -> None:
        process.results[number] = value
        known = process.requests.pop(number, None)
        if known is None:
            return
        request, rounds = known
        rank = process.core.node.rank
        if isinstance(request, r.PushRequest):
            for chunk, round_ in rounds:
                self.witness.acknowledged(rank, chunk, round_)
        if isinstance(request, r.PushRequest | r.PullRequest) and request.outs is not None:
            clock = process.clocks.pop(number, None)
            self._look_at_values(process, request, dict(rounds), clock)
        if isinstance(request, r.BarrierRequest):
            mine = rounds[0]
            for other in self.workers:
                there = other.barriers.get(request.store, 0)
                assert other.ended or there >= mine, f"{process.name} passed barrier {mine} alone"

    def _look_at_values(
        self, process: _Process, request: Any, after: dict[Any, Any], clock: int | None
    ) -> None:
        for name, out in zip(request.names, request.outs, strict=True):
            entry = process.core.entry(request.store, name)
            for chunk in entry:
                low, high = entry.bounds(chunk.part)
                least = self.witness.version_of(chunk, after[chunk], process.core.node.rank)
                self.witness.value(chunk, out[low:high], least)
                if clock is not None and self.plan.staleness is not None:
                    gate = clock - self.plan.staleness
                    self.witness.fresh_enough(chunk, out[low:high], gate)

    def _advance(self, process: _Process) -> None:
        """Run the program until it waits for something that is not there."""
        if process.ended:
            return
        if process.waits_for is None and JOIN not in process.results:
            return
        try:
            if process.waits_for is None:
                self._ask(process, next(process.program))
            while process.waits_for in process.results:
                value = process.results.pop(process.waits_for)
                if isinstance(value, Exception):
                    raise value
                self._ask(process, process.program.send(value))
        except StopIteration:
            self._exit(process, 0)
        except KVTrainError as error:
            process.error = error
            self._exit(process, 1)

    def _ask(self, process: _Process, asked: tuple[str, Any]) -> None:
        while asked[0] == "submit":
            request = asked[1]
            rounds: list[Any] = []
            if isinstance(request, r.PushRequest):
                rounds = process.core.rounds_of(request)
            elif isinstance(request, r.PullRequest):
                entries = [process.core.entry(request.store, name) for name in request.names]
                rounds = [(c, process.core.last_round(c)) for entry in entries for c in entry]
            elif isinstance(request, r.BarrierRequest):
                process.barriers[request.store] = process.barriers.get(request.store, 0) + 1
                rounds = [process.barriers[request.store]]
            number, effects = process.core.submit(request, self.now)
            process.requests[number] = (request, rounds)
            if isinstance(request, r.PullRequest):
                process.clocks[number] = process.core.step_of(request.store)
            process.waits_for = -1
            held, process.program = process.program, None
            self._carry_out(process, effects)
            process.program = held
            asked = held.send(number)
        process.waits_for = asked[1]

    # ---- checks ---------------------------------------------------------------------------

    def _check(self) -> None:
        for process in self.processes:
            if process.alive:
                process.core.check_invariants()

    def _who_waits(self) -> str:
        return ", ".join(p.name for p in self.processes if p.alive and not p.ended)

    def _conclude(self) -> None:
        """Every process has ended: as it should have?"""
        waiting = [p.name for p in self.processes if not p.ended]
        assert not waiting, f"I13: no event is left and {waiting} have not ended"
        errors = [w.error for w in self.workers if w.error is not None]
        if not self.witness.lost:
            assert not errors, f"nobody was killed, and a worker failed: {errors[0]}"
            assert self.finished, f"the scheduler did not finish: {self.failed_text}"
            self.witness.finished()
            return
        for error in errors:
            assert isinstance(error, WorkerLost | ServerLost | JobError | JobStopped), error


def _make_optimizer(name: str, config: dict[str, Any]) -> Any:
    return Optimizer.from_config(name, config)

# SPDX-License-Identifier: Apache-2.0
"""A job in a seeded machine room on a seeded network; the real cores, a virtual clock.

The network delays, reorders, drops, doubles and cuts; the machine room kills, pauses and
starts processes as a launcher would (``room``). After every event the cores' own invariants
and PROTOCOL's predicates are checked. A failure names the seed and the command that replays
it.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.errors import CheckpointError, JobError, KeyNotInitialized, KVTrainError
from kvtrain.ps.core import messages as m
from kvtrain.ps.core import requests as r
from kvtrain.ps.core.effects import (
    Complete,
    Copy,
    Discard,
    Effect,
    Fail,
    Journal,
    LoadShards,
    Publish,
    SavePart,
    Send,
    Stop,
)
from kvtrain.ps.core.membership import NodeId, Role
from kvtrain.ps.core.worker import JOIN
from kvtrain.testing.backups import BackupWitness
from kvtrain.testing.disk import Disks, Saved
from kvtrain.testing.joins import Joined
from kvtrain.testing.plans import Plan
from kvtrain.testing.predicates import Witness, elements
from kvtrain.testing.programs import by_rows
from kvtrain.testing.resuming import go_on
from kvtrain.testing.room import Process, Room

#: virtual seconds after which a job must have ended
LIMIT = 400.0
_STORY = 80


class SimulationFailure(AssertionError):
    """A predicate does not hold; the text replays it."""


class Simulation:
    """One job under one seed.

    Parameters
    ----------
    seed : int
        Draws the plan (unless given) and every fault.
    cores : dict, optional
        Other classes for "scheduler", "server", "worker": mutations.
    restored : Saved, optional
        A checkpoint of another simulation that this job goes on from.
    """

    def __init__(
        self,
        seed: int,
        plan: Plan | None = None,
        cores: dict[str, Any] | None = None,
        restored: Saved | None = None,
    ) -> None:
        self.seed = seed
        self.plan = plan or Plan.draw(seed)
        self.rng = random.Random(seed * 7919 + 1)
        self.now = 0.0
        self.witness = BackupWitness(self.plan) if self.plan.backups else Witness(self.plan)
        self._story: deque[tuple[float, Any]] = deque(maxlen=_STORY)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._addresses: dict[NodeId, Process] = {}
        #: store -> highest barrier that somebody has passed
        self._passed: dict[int, int] = {}
        self.failed_text = ""
        self.finished = False
        self.disks = Disks(self, restored)
        self.room = Room(self, cores or {}, restored)

    # ---- time -----------------------------------------------------------------------------

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do `action` at `when`."""
        heapq.heappush(self._events, (when, next(self._order), action))

    def run(self) -> None:
        """Until everything has ended; raises SimulationFailure."""
        try:
            self.room.begin()
            while self._events:
                when, _, action = heapq.heappop(self._events)
                self.now = max(self.now, when)
                assert self.now < LIMIT, f"I13: hangs; {self._who_waits()}"
                action()
                if self.room.is_empty():
                    break
            self._conclude()
            if not self.witness.lost:
                go_on(self.plan, self.witness, self.disks.published, Simulation)
        except Exception as error:
            # whatever a core raises: the seed that leads there is what is wanted
            lines = "\n".join(self.story)
            raise SimulationFailure(
                f"seed {self.seed}: {type(error).__name__}: {error}\n"
                f"replay: python -m kvtrain.testing.simulate --seed {self.seed}\n"
                f"plan: {self.plan}\nlast events:\n{lines}"
            ) from error

    @property
    def story(self) -> list[str]:
        """The last events."""
        return [f"{when:8.3f} {_spelled(what)}" for when, what in self._story]

    def note(self, text: str) -> None:
        """A line of the transcript."""
        self._story.append((self.now, text))

    def start(self, process: Process) -> None:
        """A process begins to run."""
        if process.alive:
            self._addresses[process.core.node] = process
            self.carry_out(process, process.core.start(self.now))

    def _arm(self, process: Process) -> None:
        """Call on_tick when the core wants it."""
        deadline = process.core.next_deadline()
        if deadline is None or not process.alive:
            return
        process.ticks += 1
        turn = process.ticks
        self.at(max(deadline, self.now + 1e-6), lambda: self._tick(process, turn))

    def _tick(self, process: Process, turn: int) -> None:
        if not process.alive or process.ticks != turn:
            return
        if process.paused_until > self.now:
            self.at(process.paused_until, lambda: self._tick(process, turn))
            return
        process.spins = process.spins + 1 if self.now - process.ticked_at < 1e-4 else 0
        process.ticked_at = self.now
        assert process.spins < 1000, f"I13: {process.name} wakes again and again for nothing"
        if process.role != Role.SCHEDULER:
            process.core.joining.turns += 1
        self.carry_out(process, process.core.on_tick(self.now))

    # ---- the network ----------------------------------------------------------------------

    def _send(self, process: Process, to: NodeId, message: m.Message) -> None:
        if to.role == Role.LAUNCHER:
            self.room.on_launcher_message(process, message)
            return
        plan, faults = self.plan, self.now < self.plan.faults_end
        copies = 1
        if faults and self.rng.random() < plan.drop:
            copies = 0
        elif faults and self.rng.random() < plan.double:
            copies = 2
        sender = process.core.node
        for _ in range(copies):
            delay = self.rng.uniform(0, plan.longest_delay if faults else 0.01)
            self.at(self.now + delay, lambda: self._arrive(to, sender, message, process))

    def _arrive(self, to: NodeId, sender: NodeId, message: m.Message, source: Process) -> None:
        self._addresses.setdefault(sender, source)
        target = self.room.scheduler if to.role == Role.SCHEDULER else self._addresses.get(to)
        if target is None:
            target = next((p for p in self.room.processes if p.core.node == to), None)
        if target is not None and not self.room.is_cut(source, target):
            self.deliver(target, sender, message)

    def deliver(self, target: Process, sender: NodeId, message: m.Message) -> None:
        """A message is there; a paused process reads it when it wakes."""
        if not target.alive:
            return
        if target.paused_until > self.now:
            self.at(target.paused_until, lambda: self.deliver(target, sender, message))
            return
        # told only at a failure: a message takes longer to spell than to handle
        self._story.append((self.now, (sender, target.name, message)))
        self.carry_out(target, target.core.on_message(sender, message, self.now))

    # ---- effects and programs -------------------------------------------------------------

    def carry_out(self, process: Process, effects: list[Effect]) -> None:
        """What a core asked for; then the checks."""
        for effect in effects:
            if not process.alive:
                break
            match effect:
                case Send(to, message):
                    self._remember(process.core.node, message)
                    self._send(process, to, message)
                case Copy(target, source):
                    np.copyto(target, source)
                case Journal(record):
                    self.room.journal(process, record)
                case SavePart() | Publish() | LoadShards() | Discard():
                    self.disks.carry_out(process, effect)
                case Complete(number, value):
                    self._completed(process, number, value)
                case Fail(number, error):
                    process.results[number] = error
                case Stop(error):
                    self.room.exit(process, 0 if error is None else 1)
        if process.program is not None and process.alive:
            self._advance(process)
        if process.alive:
            process.core.check_invariants()
            self.room.check(process)
        if process.role == Role.SERVER:
            self._check_mapped()
        self._arm(process)

    def _check_mapped(self) -> None:
        """A server may have written: nobody who may read notices."""
        for worker in self.room.of_role(Role.WORKER):
            reads = worker.mapped
            if reads is not None and worker.alive and not worker.zombie and not worker.ended:
                reads.check(worker.name)

    def _remember(self, sender: NodeId, message: m.Message) -> None:
        if isinstance(message, m.Push):
            self.witness.sent(sender, message)
        elif isinstance(message, m.Clock):
            self.witness.clock_told(sender, message)
        elif isinstance(message, m.TableUpdate | m.Welcome):
            self.witness.tables[message.table.epoch] = message.table
        elif isinstance(message, m.Init | m.Declared):
            for entry in message.entries:
                self.witness.entries[entry.id] = entry

    def _completed(self, process: Process, number: int, value: Any) -> None:
        process.results[number] = value
        if number == JOIN and process.by_hand:
            core = process.core
            begins = tuple(core.begins_at(store) for store in range(len(self.plan.stores)))
            self.witness.joined[core.node] = Joined(core.node.rank, begins)
        known = process.requests.pop(number, None)
        if known is None:
            return
        request, rounds, floor = known
        if process.mapped is not None:
            process.mapped.show(number)
        node = process.core.node
        if isinstance(request, r.PushRequest):
            for chunk, round_ in rounds:
                dropped = (chunk, round_) in (value or ())
                self.witness.acknowledged(node, chunk, round_, dropped)
        if isinstance(request, r.PushRequest | r.PullRequest) and request.outs is not None:
            clock = process.clocks.pop(number, None)
            self._look_at_values(process, request, dict(rounds), floor, clock)
        if isinstance(request, r.BarrierRequest):
            mine, passed_by_some = rounds[0], self._passed.get(request.store, 0)
            self._passed[request.store] = max(mine, passed_by_some)
            # who comes later may be told although a successor of one of them is not so far again
            for other in self.room.of_role(Role.WORKER) if mine > passed_by_some else ():
                there = other.barriers.get(request.store)
                passed = other.ended or other.zombie or there is None or there >= mine
                assert passed, f"{process.name} passed barrier {mine} alone"

    def _look_at_values(
        self,
        process: Process,
        request: Any,
        after: dict[Any, Any],
        floor: dict[Any, int],
        clock: int | None,
    ) -> None:
        """I2: committed, not older than the own push, nor than what was seen before asking."""
        node = process.core.node
        for name, out in zip(request.names, request.outs, strict=True):
            entry = process.core.entry(request.store, name)
            for chunk in entry:
                mine = elements(entry, chunk.part)
                least = self.witness.version_of(chunk, after[chunk], node)
                least = max(least, floor.get(chunk, 0))
                if after[chunk] is None:
                    self.witness.first_read(chunk, out[mine], node)
                version = self.witness.value(chunk, out[mine], least)
                process.read[chunk] = max(version, process.read.get(chunk, 0))
                bound = self.plan.bound(*self.witness.key_of(chunk))
                if clock is not None and bound is not None:
                    self.witness.fresh_enough(chunk, out[mine], clock - bound)

    def _advance(self, process: Process) -> None:
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
                if isinstance(value, Exception) and not isinstance(value, CheckpointError):
                    raise value
                self._ask(process, process.program.send(value))
        except StopIteration:
            process.done = True
            self.room.exit(process, 0)
        except KVTrainError as error:
            process.error = error
            self.room.exit(process, 1)

    def _ask(self, process: Process, asked: tuple[str, Any]) -> None:
        while asked[0] == "submit":
            request = asked[1]
            rounds: list[Any] = []
            if isinstance(request, r.PushRequest):
                rounds = process.core.rounds_of(request)
                self.witness.posted(process.core.node.rank, request, rounds)
            elif isinstance(request, r.PullRequest):
                entries = [process.core.entry(request.store, name) for name in request.names]
                rounds = [(c, process.core.last_round(c)) for entry in entries for c in entry]
            elif isinstance(request, r.BarrierRequest):
                process.barriers[request.store] = process.barriers.get(request.store, 0) + 1
                rounds = [process.barriers[request.store]]
            elif isinstance(request, r.TickRequest):
                self.room.step_ended(process.core.step_of(request.store))
            asks = by_rows(self.plan, request) if self.plan.rows else request
            if process.mapped is not None:
                asks = process.mapped.before(asks)
            number, effects = process.core.submit(asks, self.now)
            if process.mapped is not None:
                process.mapped.asked(number, asks)
            process.requests[number] = (request, rounds, dict(process.read))
            if isinstance(request, r.PullRequest):
                process.clocks[number] = process.core.step_of(request.store)
            process.waits_for = -1
            held, process.program = process.program, None
            self.carry_out(process, effects)
            process.program = held
            asked = held.send(number)
        if asked[0] == "sleep":
            self._sleep(process, asked[1])
        else:
            process.waits_for = asked[1]

    def _sleep(self, process: Process, seconds: float) -> None:
        """The program computes: it goes on after a while."""
        process.slept -= 1
        number = process.waits_for = process.slept

        def wake() -> None:
            if process.paused_until > self.now:
                self.at(process.paused_until, wake)
            elif process.alive:
                process.results[number] = None
                self._advance(process)

        self.at(self.now + seconds, wake)

    # ---- the end --------------------------------------------------------------------------

    def _who_waits(self) -> str:
        return ", ".join(p.name for p in self.room.processes if p.alive and not p.ended)

    def _conclude(self) -> None:
        """Every process has ended: as it should have?"""
        waiting = [p.name for p in self.room.processes if not p.ended]
        assert not waiting, f"I13: no event is left and {waiting} have not ended"
        workers = [p for p in self.room.of_role(Role.WORKER) if not p.zombie]
        # a joiner may have come too late, or without weights on the servers
        workers = [p for p in workers if p.core.welcomed or not p.by_hand]
        errors = [p.error for p in workers if p.error is not None]
        text = self.failed_text
        if not self.witness.lost:
            assert not errors, f"nothing was lost, and a worker failed: {errors[0]}"
            assert self.finished, f"the scheduler did not finish: {text}"
        elif (
            self.plan.on_worker_loss == "shrink"
            and 0 not in self.witness.gone  # without it the others wait for its first values
            and self.room.scheduler.core.table is not None  # and not while the job forms
        ):
            left = [p for p in workers if p.rank not in self.witness.gone]
            assert self.finished or all(p.done for p in left), (
                f"shrink: those who are left did not finish: {text}; {errors}"
            )
        for error in errors:
            assert isinstance(error, JobError | KeyNotInitialized), error
        if self.finished:
            self.witness.finished([p.core.node for p in workers if p.error is None and p.done])


def _spelled(what: Any) -> str:
    if isinstance(what, str):
        return what
    sender, target, message = what
    return f"{sender} -> {target}: {message!r:.200}"

# SPDX-License-Identifier: Apache-2.0
"""Servers read contributions in the workers' memory, workers read weights in the servers'.

Real cores, messages handed over by the test; arrays of slots arrive as references with a
generation, as they do over shared memory.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kvtrain.optimizer import Optimizer
from kvtrain.ps.core import messages as m
from kvtrain.ps.core import requests as r
from kvtrain.ps.core.effects import Complete, Copy, Fail, Note, Send
from kvtrain.ps.core.joining import Identity
from kvtrain.ps.core.membership import NodeId, Role
from kvtrain.ps.core.scheduler import SchedulerCore
from kvtrain.ps.core.server import ServerCore
from kvtrain.ps.core.settings import JobSettings
from kvtrain.ps.core.shards import KeySpec
from kvtrain.ps.core.worker import WorkerCore
from kvtrain.testing.memory import ScribblingMemory

SIZE = 24


class Job:
    """A scheduler, a server and two workers; what is `held` back is not delivered."""

    def __init__(self, kind: str = "dist_sync", optimizer: bool = False) -> None:
        self.now = 0.0
        settings = JobSettings(workers=2, servers=1, chunk_bytes=64, shards=4, resend_after=1.0)
        self.memories = [ScribblingMemory(tell=True) for _ in range(3)]
        self.scheduler: Any = SchedulerCore(settings, 0.0)
        self.server: Any = ServerCore(
            Identity("h", 1, "s0", 0, "x://0", "k"),
            1,
            settings,
            0.0,
            Optimizer.from_config,
            memory=self.memories[2],
        )
        self.workers: list[Any] = [
            WorkerCore(Identity("h", 2, f"w{i}", i), 10 + i, settings, 0.0, self.memories[i])
            for i in range(2)
        ]
        self.cores = [self.scheduler, self.server, *self.workers]
        self.queue: deque[tuple[NodeId, NodeId, m.Message]] = deque()
        self.held: Callable[[m.Message], bool] = lambda message: False
        self.kept: list[tuple[NodeId, NodeId, m.Message]] = []
        self.results: dict[tuple[NodeId, int], Any] = {}
        self.notes: list[str] = []
        for core in (self.server, *self.workers):
            self.carry_out(core, core.start(0.0))
        self.run()
        for worker in self.workers:
            self.ask(worker, r.OpenStoreRequest(kind, kind == "dist_sync"))
            if optimizer:
                self.ask(worker, r.SetOptimizerRequest(0, "SGD", {"lr": 1.0}))
        self.run()
        spec = KeySpec(name="w", numeric=False, shape=(SIZE,), dtype="float32")
        for worker in self.workers:
            self.ask(worker, r.InitRequest(0, (spec,), (np.zeros(SIZE, np.float32),)))
        self.run()

    def core(self, node: NodeId) -> Any:
        if node.role == Role.SCHEDULER:
            return self.scheduler
        return next(core for core in self.cores if core.node == node)

    def carry_out(self, core: Any, effects: Any) -> None:
        for effect in effects:
            match effect:
                case Send(to, message) if to.role != Role.LAUNCHER:
                    self.queue.append((core.node, to, self.sent(core, message)))
                case Copy(target, source):
                    np.copyto(target, source)
                case Complete(number, value):
                    self.results[core.node, number] = value
                case Fail(number, error):
                    self.results[core.node, number] = error
                case Note(text):
                    self.notes.append(text)

    def sent(self, core: Any, message: m.Message) -> m.Message:
        """Arrays of the sender's slots become references with a generation."""
        memory = core._memory if hasattr(core, "_memory") else None
        if memory is None or not getattr(message, "arrays", ()):
            return message
        arrays = tuple(memory.lent(array) for array in message.arrays)  # type: ignore[attr-defined]
        return replace(message, arrays=arrays)  # type: ignore[call-arg]

    def run(self) -> None:
        for worker in self.workers:
            self.carry_out(worker, worker.flush(self.now))
        while self.queue:
            sender, to, message = item = self.queue.popleft()
            if self.held(message):
                self.kept.append(item)
                continue
            core = self.core(to)
            self.carry_out(core, core.on_message(sender, message, self.now))

    def release(self) -> None:
        self.held = lambda message: False
        self.queue.extend(self.kept)
        self.kept = []
        self.run()

    def later(self, seconds: float) -> None:
        self.now += seconds
        for core in self.cores:
            self.carry_out(core, core.on_tick(self.now))
        self.run()

    def ask(self, worker: Any, request: Any) -> int:
        number, effects = worker.submit(request, self.now)
        self.carry_out(worker, effects)
        return int(number)

    def push(self, rank: int, value: float, out: Any = None) -> int:
        array = np.full(SIZE, value, np.float32)
        outs = None if out is None else (out,)
        return self.ask(self.workers[rank], r.PushRequest(0, ("w",), (array,), outs))

    def done(self, rank: int, number: int) -> bool:
        return (self.workers[rank].node, number) in self.results


def test_contributions_and_weights_are_read_where_they_lie() -> None:
    job = Job()
    outs = [np.zeros(SIZE, np.float32) for _ in range(2)]
    for turn in range(1, 4):
        numbers = [job.push(rank, 10.0**rank * turn, outs[rank]) for rank in range(2)]
        job.run()
        assert all(job.done(rank, number) for rank, number in enumerate(numbers))
        assert all((out == 11 * turn).all() for out in outs)
    assert not any(memory._slots for memory in job.memories[:2]), "every slot was given back"
    assert job.notes == []


def test_a_slot_that_was_rewritten_too_early_is_not_counted_but_asked_for_again() -> None:
    job = Job()
    outs = [np.zeros(SIZE, np.float32) for _ in range(2)]
    first = job.push(0, 1.0, outs[0])
    job.run()
    slot = job.memories[0]._slots[0]
    slot.rewrite()  # as a process that breaks the rules would
    slot.data[:] = 0xFF
    second = job.push(1, 10.0, outs[1])
    job.run()
    assert not job.done(0, first) and not job.done(1, second), "nothing closes on such bytes"
    slot.data[:] = np.full(SIZE, 1.0, np.float32).view(np.uint8)
    for _ in range(4):
        job.later(3.0)
    assert job.done(0, first) and job.done(1, second)
    assert all((out == 11).all() for out in outs)


def test_bytes_that_change_under_the_server_end_its_part_in_the_shard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = Job()
    arithmetic = type(job.server._arithmetic)
    real = arithmetic.assign_sum

    def disturbed(self: Any, chunk: Any, arrays: Any) -> None:
        real(self, chunk, arrays)
        job.memories[0]._slots[0].rewrite()

    monkeypatch.setattr(arithmetic, "assign_sum", disturbed)
    out = np.zeros(SIZE, np.float32)
    first = job.push(0, 1.0, out)
    job.push(1, 10.0)
    job.run()
    assert any("changed while it was read" in note for note in job.notes)
    assert not job.done(0, first) and (out == 0).all(), "nothing of it became visible"
    job.later(0.5)  # and the role lives


def test_a_worker_does_not_contribute_while_it_reads() -> None:
    job = Job()
    numbers = [job.push(rank, 10.0**rank) for rank in range(2)]
    job.run()
    assert all(job.done(rank, number) for rank, number in enumerate(numbers))
    job.held = lambda message: isinstance(message, m.PullReply)
    out = np.zeros(SIZE, np.float32)
    read = job.ask(job.workers[0], r.PullRequest(0, ("w",), (out,)))
    job.run()
    assert job.kept, "the value is on its way, a reference to the server's memory"
    later = [job.push(rank, 10.0**rank * 5) for rank in range(2)]
    job.run()
    assert not job.done(1, later[1]), "the next round waits for the reader"
    job.release()
    assert job.done(0, read) and (out == 11).all()
    assert all(job.done(rank, number) for rank, number in enumerate(later))


def test_an_asynchronous_reader_gets_a_copy() -> None:
    job = Job("dist_async", optimizer=True)
    job.push(0, 1.0)
    job.run()
    job.held = lambda message: isinstance(message, m.PullReply)
    out = np.zeros(SIZE, np.float32)
    job.ask(job.workers[0], r.PullRequest(0, ("w",), (out,)))
    job.run()
    job.push(1, 1.0)
    job.run()
    job.release()
    assert (out == -1).all(), "the value of when it was read, whole"


def test_a_late_answer_to_a_finished_request_is_ignored() -> None:
    job = Job()
    outs = [np.zeros(SIZE, np.float32) for _ in range(2)]
    copies: list[Any] = []

    def double(message: m.Message) -> bool:
        if isinstance(message, m.PushReply):
            copies.append(message)
        return False

    job.held = double
    numbers = [job.push(rank, 1.0, outs[rank]) for rank in range(2)]
    job.run()
    more = [job.push(rank, 5.0) for rank in range(2)]
    job.run()
    assert all(job.done(i, n) for i, n in enumerate(numbers))
    assert all(job.done(i, n) for i, n in enumerate(more))
    for reply in copies:  # its arrays are the server's memory, which holds round 2 by now
        for worker in job.workers:
            job.carry_out(worker, worker.on_message(job.server.node, reply, job.now))
    assert all((out == 2).all() for out in outs)

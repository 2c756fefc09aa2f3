# SPDX-License-Identifier: Apache-2.0
"""A worker process's place in the job: the worker core on real sockets.

Whoever calls drives the sockets, under one lock; a second thread takes the lock a few times a
second for heartbeats and for what arrives while the program computes.
"""

from __future__ import annotations

import atexit
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np

from kvtrain import platform
from kvtrain.config import Config
from kvtrain.errors import JobStopped, KVTrainError, SchedulerLost
from kvtrain.ps.core.effects import Complete, Copy, Effect, Fail, Note, Send, Stop
from kvtrain.ps.core.joining import Identity
from kvtrain.ps.core.membership import SCHEDULER, Role
from kvtrain.ps.core.memory import HeapMemory, Memory
from kvtrain.ps.core.requests import LeaveRequest, Request
from kvtrain.ps.core.settings import JobSettings
from kvtrain.ps.core.story import Story, is_broken
from kvtrain.ps.core.worker import JOIN, WorkerCore
from kvtrain.ps.core.worker.onetrip import DELAY
from kvtrain.ps.net.lanes import LOOK
from kvtrain.ps.net.sharing import shared_memory
from kvtrain.ps.net.token import read_token
from kvtrain.ps.net.transport import Links

#: seconds between two looks of the second thread while requests keep coming, and how many
#: looks without a request end that
TICK, LIVELY = 0.003, 100
#: longest time that a waiting thread keeps the lock, and that the second thread sleeps
SLICE = 0.2


class _Turnstile:
    """A lock that is handed on: who releases it and wants it again queues behind others."""

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._gate:
            self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()


class WorkerNode:
    """This process as a worker of the job.

    Parameters
    ----------
    config : Config
        Scheduler's address, token file, rank and deadlines.
    """

    def __init__(self, config: Config, note: Callable[[str], None]) -> None:
        assert config.scheduler is not None
        now = time.monotonic()
        settings = JobSettings(workers=0, servers=0, join_timeout=config.join_timeout)
        identity = Identity(
            host=platform.host_name(),
            pid=os.getpid(),
            launch_token=config.launch_token or "",
            rank=-1 if config.rank is None else config.rank,
        )
        arena, sharing = shared_memory(config, lambda: self._core.node, note)
        self._core = WorkerCore(identity, secrets.randbits(48), settings, now, arena)
        self._note = note
        self._story = Story() if config.trace else None
        self._links = Links(read_token(config), note, sharing=sharing)
        self._links.connect(SCHEDULER, config.scheduler)
        self._lock = _Turnstile()
        self._results: dict[int, tuple[Any, Exception | None]] = {}
        #: requests that nobody will wait for: only their failure matters
        self._detached: set[int] = set()
        self._late: Exception | None = None
        self._closed = False
        #: called before this worker leaves: rounds go on without it then
        self.before_leaving: list[Callable[[], None]] = []
        self._over = threading.Event()
        #: something waits to be sent, by the second thread if the program does not wait
        self._hurry = threading.Event()
        #: requests so far; whether the second thread looks often because they keep coming
        self._submitted = 0
        self._lively = False
        if config.lifeline_fd is not None:
            self._links.watch(config.lifeline_fd, self._launcher_gone)
        self._thread = threading.Thread(target=self._attend, name="kvtrain-control", daemon=True)

    # ---- what the job says ------------------------------------------------------------------

    @property
    def rank(self) -> int:
        """This worker's rank."""
        return self._core.node.rank

    @property
    def num_workers(self) -> int:
        """Workers of the job at its start."""
        return self._core.settings.workers

    def members(self, store: int) -> tuple[int, ...]:
        """Ranks of the workers that take part in this worker's present step of a store."""
        return self._core.members_of(store)

    @property
    def memory(self) -> Memory:
        """Where contributions lie until they are acknowledged."""
        return self._core.memory

    def reserve(self, sizes: list[int]) -> None:
        """Get memory for contributions of so many bytes ready: made, touched, to be offered
        with the next message."""
        if not isinstance(self.memory, HeapMemory):
            for slot in [self.memory.take(size) for size in sizes]:
                self.memory.give(slot)

    @property
    def replicas(self) -> int:
        """Servers beside the primary that hold each shard."""
        return self._core.settings.replicas

    @property
    def on_worker_loss(self) -> str:
        """What the loss of a worker means in this job."""
        return self._core.settings.on_worker_loss

    def step_of(self, store: int) -> int:
        """This worker's step in a store."""
        return self._core.step_of(store)

    def round_of(self, store: int, name: str) -> tuple[int, int]:
        """The round that the next push of a key belongs to."""
        return self._core.round_of(store, name)

    def same_host(self) -> bool:
        """Whether every server is a process of this host."""
        return self._core.servers_on(platform.host_name())

    def note(self, text: str) -> None:
        """Tell the user."""
        self._note(text)

    def resume_step(self, store: int) -> int:
        """The step at which this worker began in a store."""
        return self._core.resume_step_of(store)

    # ---- requests ---------------------------------------------------------------------------

    def join(self) -> None:
        """Say Hello and wait until the job is complete.

        Raises
        ------
        JoinRefused, DeadlineExceeded, SchedulerLost
            As the scheduler says, or as it says nothing.
        """
        with self._lock:
            self._carry_out(self._core.start(time.monotonic()))
        self.wait(JOIN)
        self._thread.start()

    def submit(self, request: Request, detached: bool = False) -> int:
        """Begin `request`; with `detached` nobody waits for it, and a failure raises later."""
        with self._lock:
            self._check()
            number, effects = self._core.submit(request, time.monotonic())
            if detached:
                self._detached.add(number)
            self._carry_out(effects)
            self._submitted += 1
            if self._core.corked and not self._lively:
                self._hurry.set()
            return number

    def wait(self, number: int) -> Any:
        """The value of a request, once it is there; raises its error."""
        while True:
            with self._lock:
                if self._core.corked:
                    self._carry_out(self._core.flush(time.monotonic()))
                if number not in self._results:
                    self._check()
                    self._pump(SLICE, number)
                if number in self._results:
                    value, error = self._results.pop(number)
                    if error is not None:
                        raise error
                    return value

    def call(self, request: Request) -> Any:
        """Submit and wait."""
        return self.wait(self.submit(request))

    def _check(self) -> None:
        if self._late is not None:
            late, self._late = self._late, None
            raise late
        if self._closed:
            raise JobStopped("this worker has left the job")

    # ---- driving the core -------------------------------------------------------------------

    def _pump(self, timeout: float, awaited: int = -1) -> None:
        """Receive and let time pass, once; the lock is held. What comes after the answer to the
        `awaited` request is left to the next call."""
        now = time.monotonic()
        deadline = self._core.next_deadline()
        if deadline is not None:
            timeout = min(timeout, max(0.0, deadline - now))
        self._links.poll(timeout)
        self._core.joining.turns += 1
        for sender, message in self._links.receive(self._core.node):
            now = time.monotonic()
            if self._story is not None:
                self._story.heard(sender, message, now)
            self._carry_out(self._core.on_message(sender, message, now))
            if awaited in self._results:
                break
        now = time.monotonic()
        deadline = self._core.next_deadline()
        if deadline is not None and deadline <= now:
            self._carry_out(self._core.on_tick(now))

    def _carry_out(self, effects: list[Effect]) -> None:
        if self._story is not None:
            self._story.asked(effects, time.monotonic())
            if is_broken(effects):
                lines = (f"the last events of {self._core.node}:", *self._story.lines())
                self._note("\nkvtrain: ".join(lines))
        for effect in effects:
            match effect:
                case Send(to, message, priority):
                    if to.role == Role.SERVER and not self._links.has_peer(to):
                        address = self._core.address_of(to)
                        if address is None:
                            continue  # it is gone; the core will send where the table says
                        for peer in self._links.peers():
                            if peer.role == Role.SERVER and self._core.address_of(peer) is None:
                                self._links.disconnect(peer)
                        self._links.connect(to, address, share=True)
                    self._links.send(to, message, self._core.node, priority)
                case Copy(target, source):
                    np.copyto(target, source)
                case Complete(number, value):
                    if number in self._detached:
                        self._detached.discard(number)
                    else:
                        self._results[number] = (value, None)
                case Fail(number, error):
                    if number in self._detached:
                        self._detached.discard(number)
                        self._late = self._late or error
                    else:
                        self._results[number] = (None, error)
                case Note(text):
                    self._note(text)
                case Stop(error):
                    self._late = self._late or error
                case _:
                    self._note(f"a worker cannot carry out {effect!r}")

    def _attend(self) -> None:
        """The second thread: heartbeats and control, also while the program computes."""
        seen, quiet, attended = -1, 0, 0.0
        while not self._over.is_set():
            if self._lively:
                self._over.wait(TICK)
            elif self._hurry.wait(LOOK if self._links.waiting else SLICE):
                self._hurry.clear()
                self._over.wait(DELAY)
            if self._over.is_set():
                return
            # taking the lock for nothing would hold up a program that waits for an answer
            quiet = 0 if self._submitted != seen else quiet + 1
            seen, self._lively = self._submitted, quiet < LIVELY
            now = time.monotonic()
            due = self._core.cork_is_due(now) or self._links.waiting
            if not due and now - attended < SLICE:
                continue
            attended = now
            try:
                with self._lock:
                    if self._closed:
                        return
                    self._pump(0)
            except KVTrainError as error:
                self._late = self._late or error

    def _launcher_gone(self) -> None:
        """The launcher has died without a word: nobody supervises this process any more."""
        os.kill(os.getpid(), signal.SIGKILL)

    # ---- the end ----------------------------------------------------------------------------

    def leave(self) -> None:
        """Wait until everything is acknowledged, and leave the job."""
        if self._closed or self._core.failed is not None:
            return
        for call in self.before_leaving:
            call()
        self.wait(self.submit(LeaveRequest()))

    def close(self) -> None:
        """Close the sockets; the job sees the process end."""
        self._over.set()
        self._hurry.set()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._links.close(linger=0.5)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=2)


_node: WorkerNode | None = None
_crashed = False
_making = threading.Lock()


def worker_node(config: Config) -> WorkerNode:
    """The process's own node; joins the job at the first call."""
    global _node
    with _making:
        if _node is None:
            if config.malloc is not False:
                platform.tune_allocator()
            node = WorkerNode(config, _note)
            try:
                node.join()
            except BaseException:
                node.close()
                raise
            _node = node
            _watch_crashes()
            atexit.register(_finish)
        return _node


def _note(text: str) -> None:
    sys.stderr.write(f"kvtrain: {text}\n")
    sys.stderr.flush()


def _watch_crashes() -> None:
    """A script that ends by an exception does not leave: the job must see it as lost."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        global _crashed
        _crashed = True
        before(kind, error, trace)

    sys.excepthook = hook


def _finish() -> None:
    """At the interpreter's end: leave, unless the script crashed."""
    node = _node
    if node is None:
        return
    status = 0
    if not _crashed:
        try:
            node.leave()
        except (KVTrainError, KeyboardInterrupt) as error:
            if not isinstance(error, JobStopped | SchedulerLost) or isinstance(error, KVTrainError):
                _note(f"{type(error).__name__}: {error}")
            status = 1
    node.close()
    if status:
        # the script ended well, but not all it sent was acknowledged: say so by the status
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

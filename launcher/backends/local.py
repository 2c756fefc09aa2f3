# SPDX-License-Identifier: Apache-2.0
"""Processes on this machine: own sessions, pipes, one lifeline for all."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

from kvtrain import platform
from launcher.backends.base import Caught, Control, Ended, Happening, Wrote, backends
from launcher.spec import ProcessSpec

_READ = 1 << 16
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@backends.decorator("local")
class LocalBackend:
    """Starts processes with the launcher's environment plus their own."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._pipes: dict[int, tuple[str, bool]] = {}
        self._caught: list[int] = []
        # children hold the read end; it closes for them when this process dies in any way
        self._lifeline, self._life = os.pipe()
        self._control_out: int | None = None
        self._control_in: int | None = None
        self._control_rest = b""
        self._wake_read, self._wake_write = os.pipe()
        for descriptor in (self._wake_read, self._wake_write):
            os.set_blocking(descriptor, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._old_wake = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._old = {s: signal.signal(s, self._catch) for s in _SIGNALS}
        self._old[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def _catch(self, number: int, frame: Any) -> None:
        self._caught.append(number)

    def start(self, spec: ProcessSpec) -> int:
        """Start a process; returns its pid."""
        environment = {**os.environ, **spec.environment}
        environment["KVTRAIN_LIFELINE_FD"] = str(self._lifeline)
        handed = [self._lifeline]
        ours: list[int] = []
        if spec.role == "scheduler":
            self._close_control()
            their_in, self._control_out = os.pipe()
            self._control_in, their_out = os.pipe()
            environment["KVTRAIN_CONTROL_FDS"] = f"{their_in},{their_out}"
            handed += [their_in, their_out]
            ours = [their_in, their_out]
            os.set_blocking(self._control_in, False)
            self._selector.register(self._control_in, selectors.EVENT_READ)
        process = subprocess.Popen(
            spec.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            pass_fds=handed,
            start_new_session=True,
        )
        for descriptor in ours:
            os.close(descriptor)
        self._processes[spec.label] = process
        for pipe, error in ((process.stdout, False), (process.stderr, True)):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            self._pipes[pipe.fileno()] = (spec.label, error)
            self._selector.register(pipe.fileno(), selectors.EVENT_READ)
        return process.pid

    def happenings(self, timeout: float | None) -> Iterator[Happening]:
        """What has happened, after waiting up to `timeout` seconds for something."""
        for key, _ in self._selector.select(timeout):
            descriptor = key.fd
            if descriptor == self._wake_read:
                self._drain_wakeups()
            elif descriptor == self._control_in:
                yield from self._read_control()
            elif descriptor in self._pipes:
                yield from self._read_pipe(descriptor)
        caught, self._caught = self._caught, []
        for number in caught:
            yield Caught(number)
        for label, process in list(self._processes.items()):
            status = process.poll()
            if status is not None:
                del self._processes[label]
                yield from self._last_words(label, process)
                if label == "scheduler":
                    # a verdict that it wrote comes before the news of its end
                    while self._control_in is not None and (lines := self._read_control()):
                        yield from lines
                yield Ended(label, status)

    def _drain_wakeups(self) -> None:
        try:
            while os.read(self._wake_read, 4096):
                pass
        except BlockingIOError:
            return

    def _read_pipe(self, descriptor: int) -> Iterator[Happening]:
        label, error = self._pipes[descriptor]
        try:
            data = os.read(descriptor, _READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(descriptor)
            del self._pipes[descriptor]
        yield Wrote(label, error, data)

    def _last_words(self, label: str, process: subprocess.Popen[bytes]) -> Iterator[Happening]:
        """What is left in the pipes; whoever else holds them open dies with the group."""
        platform.kill_group(process.pid, signal.SIGKILL)
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            descriptor = pipe.fileno()
            while descriptor in self._pipes:
                before = len(self._pipes)
                words = list(self._read_pipe(descriptor))
                yield from words
                if not words and len(self._pipes) == before:
                    self._selector.unregister(descriptor)
                    error = self._pipes.pop(descriptor)[1]
                    yield Wrote(label, error, b"")
            pipe.close()

    def _read_control(self) -> list[Control]:
        assert self._control_in is not None
        try:
            data = os.read(self._control_in, _READ)
        except BlockingIOError:
            return []
        if not data:
            self._close_reading()
            return []
        lines = (self._control_rest + data).split(b"\n")
        self._control_rest = lines.pop()
        return [Control(line) for line in lines]

    def _close_reading(self) -> None:
        if self._control_in is not None:
            self._selector.unregister(self._control_in)
            os.close(self._control_in)
            self._control_in = None
        self._control_rest = b""

    def _close_control(self) -> None:
        """The pipe of a scheduler that has ended; its successor gets a new one."""
        self._close_reading()
        if self._control_out is not None:
            os.close(self._control_out)
            self._control_out = None

    def tell(self, line: bytes) -> None:
        """Write a line to the scheduler's pipe."""
        if self._control_out is None:
            return
        try:
            os.write(self._control_out, line + b"\n")
        except OSError:
            os.close(self._control_out)
            self._control_out = None

    def signal(self, label: str, number: int) -> None:
        """Signal a process and its group."""
        process = self._processes.get(label)
        if process is not None:
            platform.kill_group(process.pid, number)

    def lives(self, label: str) -> bool:
        """Whether a process under this label runs."""
        return label in self._processes

    def close(self) -> None:
        """Kill what is left and give everything back."""
        for process in self._processes.values():
            platform.kill_group(process.pid, signal.SIGKILL)
        for process in self._processes.values():
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        self._processes.clear()
        signal.set_wakeup_fd(self._old_wake)
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._selector.close()
        descriptors = [self._lifeline, self._life, self._wake_read, self._wake_write]
        for descriptor in (*descriptors, self._control_in, self._control_out):
            if descriptor is not None:
                os.close(descriptor)

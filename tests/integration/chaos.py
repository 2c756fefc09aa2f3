# SPDX-License-Identifier: Apache-2.0
"""Running jobs whose processes are killed, paused and started again from outside."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.integration.jobs import ROOT, Result, environment


def pause(seconds: float) -> None:
    """Let the job run: the moment of a fault is part of what is tested."""
    with selectors.DefaultSelector() as nothing:
        nothing.select(seconds)


class Running:
    """A job that runs; its output goes to files, so that it never waits for a reader."""

    def __init__(self, run_base: Path, name: str, *arguments: str, **env: str) -> None:
        self.run_dir = run_base / f"kvtrain-{os.getuid()}" / name
        self.out = tempfile.TemporaryFile("w+")
        self.err = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kvtrain", "launch", "--name", name, *arguments],
            stdout=self.out,
            stderr=self.err,
            env=environment(run_base, **env),
            cwd=ROOT,
        )

    def processes(self) -> dict[str, int]:
        """Label -> pid of the processes that the launcher has started last."""
        try:
            held: dict[str, Any] = json.loads((self.run_dir / "job.json").read_text())
        except (OSError, ValueError):
            return {}
        return {p["label"]: p["pid"] for p in held.get("processes", [])}

    def pid(self, label: str, other_than: int = 0, seconds: float = 20) -> int:
        """The pid under a label, once there is one other than `other_than`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            found = self.processes().get(label, other_than)
            if found != other_than:
                return found
            pause(0.02)
        raise AssertionError(f"{label} was not started\n{self.text(self.err)}")

    def signal(self, label: str, number: int) -> int:
        """Signal a process alone, not its group; returns its pid."""
        pid = self.pid(label)
        os.kill(pid, number)
        return pid

    def wait_for(self, text: str, seconds: float = 60, count: int = 1) -> None:
        """Until the job has printed `text` so many times."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.text(self.out).count(text) >= count:
                return
            assert self.process.poll() is None, self.text(self.err) + self.text(self.out)
            pause(0.02)
        raise AssertionError(f"{text!r} was not printed\n{self.text(self.err)}")

    @staticmethod
    def text(file: Any) -> str:
        """What is in a file by now."""
        with open(f"/proc/self/fd/{file.fileno()}") as again:
            return again.read()

    def end(self, seconds: float = 90) -> Result:
        """Wait for the job's end."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                "the job hangs\n" + self.text(self.err) + self.text(self.out)
            ) from None
        return Result(code, self.text(self.out), self.text(self.err))

    def close(self) -> None:
        """End it whatever it does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.out.close()
        self.err.close()


@contextmanager
def running(run_base: Path, name: str, *arguments: str, **env: str) -> Iterator[Running]:
    """A job for the time of a block."""
    job = Running(run_base, name, *arguments, **env)
    try:
        yield job
    finally:
        job.close()

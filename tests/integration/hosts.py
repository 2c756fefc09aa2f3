# SPDX-License-Identifier: Apache-2.0
"""Hosts as network namespaces: made and removed by the test that uses them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.chaos import pause
from tests.integration.jobs import ROOT, environment


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def why_not() -> str:
    """Why namespaces cannot be made here; empty if they can."""
    name = f"kvt{os.getpid()}x"
    try:
        _ip("netns", "add", name)
        _ip("netns", "exec", name, "ip", "link", "set", "lo", "up")
    except OSError as error:
        return str(error)
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return ""


class Hosts:
    """Two hosts with one wire between them."""

    def __init__(self) -> None:
        number = os.getpid()
        self.names = [f"kvt{number}{letter}" for letter in "ab"]
        net = f"10.{200 + number % 50}.{number // 50 % 250}"
        self.addresses = [f"{net}.1", f"{net}.2"]
        self._processes: list[subprocess.Popen[str]] = []

    def make(self) -> None:
        """Two namespaces, a pair of devices, an address on each."""
        for name in self.names:
            _ip("netns", "add", name)
        wires = [f"kv{os.getpid() % 100000}{letter}" for letter in "ab"]
        _ip("link", "add", wires[0], "type", "veth", "peer", "name", wires[1])
        for name, wire, address in zip(self.names, wires, self.addresses, strict=True):
            _ip("link", "set", wire, "netns", name, "name", "eth0")
            self._in(name, "addr", "add", f"{address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                self._in(name, "link", "set", device, "up")

    @staticmethod
    def _in(name: str, *arguments: str) -> str:
        return _ip("netns", "exec", name, "ip", *arguments)

    def cut(self) -> None:
        """Nothing gets from one host to the other, and nobody is told."""
        for name, other in zip(self.names, reversed(self.addresses), strict=True):
            self._in(name, "route", "add", "blackhole", f"{other}/32")

    def heal(self) -> None:
        """The wire is whole again."""
        for name, other in zip(self.names, reversed(self.addresses), strict=True):
            self._in(name, "route", "del", "blackhole", f"{other}/32")

    def slow(self, rate: str) -> None:
        """At most `rate` (``20mbit``) in each direction."""
        for name in self.names:
            shape = ("tbf", "rate", rate, "burst", "64kb", "latency", "50ms")
            _ip("netns", "exec", name, "tc", "qdisc", "add", "dev", "eth0", "root", *shape)

    def start(self, host: int, base: Path, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """``kvtrain ARGUMENTS`` on a host."""
        command = ["ip", "netns", "exec", self.names[host], sys.executable, "-m", "kvtrain"]
        log = open(base / f"{len(self._processes)}.log", "w+")
        process = subprocess.Popen(
            [*command, *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(
                base, KVTRAIN_TRANSPORT="tcp", KVTRAIN_TOKEN_FILE=str(base / "token"), **env
            ),
            cwd=ROOT,
        )
        process.log = log  # type: ignore[attr-defined]
        self._processes.append(process)
        return process

    @staticmethod
    def said(process: subprocess.Popen[str]) -> str:
        """What a process has written so far."""
        with open(f"/proc/self/fd/{process.log.fileno()}") as again:  # type: ignore[attr-defined]
            return again.read()

    def wait_for(self, process: subprocess.Popen[str], pattern: str, seconds: float = 30) -> str:
        """Until a process has written something that matches; the first group."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = re.search(pattern, self.said(process))
            if found:
                return found.group(1)
            assert process.poll() is None, self.said(process)
            pause(0.02)
        raise AssertionError(f"{pattern} did not come: {self.said(process)}")

    def close(self) -> None:
        """End what runs, remove the namespaces."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            process.log.close()  # type: ignore[attr-defined]
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@contextmanager
def two_hosts() -> Iterator[Hosts]:
    """For the time of a block."""
    hosts = Hosts()
    try:
        hosts.make()
        yield hosts
    finally:
        hosts.close()

# SPDX-License-Identifier: Apache-2.0
"""What a backend does: start processes, tell of their output and end, signal them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from kvtrain.registry import Registry
from launcher.spec import ProcessSpec


@dataclass(frozen=True, slots=True)
class Wrote:
    """A process wrote bytes; none: that pipe has ended."""

    label: str
    error: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """A process has ended: exit code, or minus the signal."""

    label: str
    status: int


@dataclass(frozen=True, slots=True)
class Control:
    """A line from the scheduler's pipe."""

    line: bytes


@dataclass(frozen=True, slots=True)
class Caught:
    """The launcher itself got a signal."""

    signal: int


Happening = Wrote | Ended | Control | Caught


class Backend(Protocol):
    """Starts the processes of a job and watches them."""

    def start(self, spec: ProcessSpec) -> int:
        """Start a process; returns its pid."""

    def happenings(self, timeout: float | None) -> Iterator[Happening]:
        """What has happened, after waiting up to `timeout` seconds for something."""

    def tell(self, line: bytes) -> None:
        """Write a line to the scheduler's pipe."""

    def signal(self, label: str, number: int) -> None:
        """Signal a process and its group."""

    def lives(self, label: str) -> bool:
        """Whether a process under this label runs."""

    def close(self) -> None:
        """Kill what is left and give everything back."""


backends: Registry[type[Backend]] = Registry("launcher backend")

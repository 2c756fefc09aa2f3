# SPDX-License-Identifier: Apache-2.0
"""Pure: what to do when processes start, end, or the user wants to stop.

running -> ending -> done. The launcher supervises and the scheduler decides: the scheduler is
told of every start and end; the first failure ends the job. In, events; out, actions.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

#: seconds from the first failure, or from the end of the last worker, to a polite signal
SETTLE = 1.5
#: seconds from the polite signal to SIGKILL
GRACE = 1.5


@dataclass(frozen=True, slots=True)
class Started:
    """A process runs."""

    label: str
    role: str
    pid: int


@dataclass(frozen=True, slots=True)
class Exited:
    """A process has ended: exit code, or minus the signal."""

    label: str
    status: int


@dataclass(frozen=True, slots=True)
class Told:
    """The scheduler said `event` (failed, finished, note)."""

    event: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The launcher got a signal."""

    signal: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = Started | Exited | Told | Interrupted | Tick


@dataclass(frozen=True, slots=True)
class Tell:
    """Write a line to the scheduler's pipe."""

    event: str
    label: str = ""
    status: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Signal:
    """Send a signal to a process and its group."""

    label: str
    signal: int


@dataclass(frozen=True, slots=True)
class Print:
    """Say something to the user."""

    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """All is over: exit with `code`; `blame` is the process whose traceback comes last."""

    code: int
    blame: str = ""
    reason: str = ""


Action = Tell | Signal | Print | Finish


def exit_code(status: int) -> int:
    """A shell's exit code for a status."""
    return 128 - status if status < 0 else status


def describe(status: int) -> str:
    """``exited with status 3``, ``was killed by signal 9 (SIGKILL)``."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        name = f" ({signal.Signals(-status).name})"
    except ValueError:
        name = ""
    return f"was killed by signal {-status}{name}"


class Supervisor:
    """Keeps the list of what runs and decides what happens to it."""

    def __init__(self) -> None:
        self._alive: dict[str, Started] = {}
        self._workers_seen = 0
        self._code = 0
        self._blame = ""
        self._reason = ""
        #: the job's own verdict, from the scheduler
        self._verdict = ""
        self._interrupts = 0
        self._polite_at: float | None = None
        self._kill_at: float | None = None
        self._done = False

    @property
    def deadline(self) -> float | None:
        """When the next Tick is wanted."""
        times = [t for t in (self._polite_at, self._kill_at) if t is not None]
        return min(times, default=None)

    def on(self, event: Event, now: float) -> list[Action]:
        """Take an event."""
        match event:
            case Started():
                self._alive[event.label] = event
                self._workers_seen += event.role == "worker"
                return [Tell("started", event.label)]
            case Exited():
                return self._exited(event, now) + self._finish()
            case Told():
                return self._told(event, now)
            case Interrupted():
                return self._interrupted(event.signal, now)
            case Tick():
                return self._tick(now)

    def _exited(self, event: Exited, now: float) -> list[Action]:
        gone = self._alive.pop(event.label, None)
        if gone is None:
            return []
        actions: list[Action] = [Tell("exited", event.label, event.status)]
        ending = self._kill_at is not None
        failed = event.status != 0 and not ending
        if failed and not self._code and gone.role == "worker":
            self._code = exit_code(event.status)
            self._blame = event.label
            self._reason = f"{event.label} (pid {gone.pid}) {describe(event.status)}"
        elif failed and not self._code and not self._verdict:
            self._code = 1
            self._blame = event.label
            self._reason = f"{event.label} (pid {gone.pid}) {describe(event.status)}"
        left = [p for p in self._alive.values() if p.role == "worker"]
        if self._code or not left or gone.role == "scheduler":
            self._wind_down(now)
        return actions

    def _told(self, event: Told, now: float) -> list[Action]:
        if event.event == "note":
            return [Print(event.text)]
        if event.event == "failed" and not self._verdict:
            self._verdict = event.text
            self._wind_down(now)
        return []

    def _wind_down(self, now: float) -> None:
        """The processes may end by themselves for a moment, then they are asked to."""
        if self._polite_at is None and self._kill_at is None:
            self._polite_at = now + SETTLE

    def _interrupted(self, number: int, now: float) -> list[Action]:
        self._interrupts += 1
        if not self._code:
            self._code = 128 + number
            self._blame = ""
            self._reason = f"stopped by {signal.Signals(number).name}"
        if self._interrupts > 1:
            return self._kill_all()
        actions: list[Action] = [Tell("stop", text=self._reason)]
        return actions + self._terminate(now) + self._finish()

    def _terminate(self, now: float) -> list[Action]:
        self._polite_at = None
        self._kill_at = now + GRACE
        # the scheduler says goodbye to the servers and ends by itself
        return [
            Signal(p.label, signal.SIGTERM) for p in self._alive.values() if p.role != "scheduler"
        ]

    def _kill_all(self) -> list[Action]:
        self._polite_at = None
        self._kill_at = None if not self._alive else self._kill_at
        return [Signal(label, signal.SIGKILL) for label in self._alive]

    def _tick(self, now: float) -> list[Action]:
        if self._polite_at is not None and now >= self._polite_at:
            return self._terminate(now)
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = now + GRACE
            return [Signal(label, signal.SIGKILL) for label in self._alive]
        return []

    def _finish(self) -> list[Action]:
        if self._alive or self._done:
            return []
        self._done = True
        if not self._code and self._verdict:
            self._code = 1
        reason = self._reason
        if self._verdict and self._verdict not in reason:
            reason = f"{reason}; {self._verdict}" if reason else self._verdict
        return [Finish(self._code, self._blame, reason if self._code else "")]

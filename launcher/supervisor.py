# SPDX-License-Identifier: Apache-2.0
"""Pure: what to do when processes start, end, or the user wants to stop.

running -> ending -> done. The launcher supervises and the scheduler decides: the scheduler is
told of every start and end, and asks for processes in the place of lost ones. Only the
scheduler itself is started again without being asked for. A loss that the job's policy does
not survive ends the job. In, events; out, actions.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

#: seconds from the first failure, or from the end of the last worker, to a polite signal
SETTLE = 1.5
#: seconds from the polite signal to SIGKILL
GRACE = 1.5
#: seconds after the last worker in which the scheduler must have said how the job ended
PATIENCE = 120.0
#: a process that fails by itself so soon after its start, so many times in a row, ends the job
SOON = 10.0
TIMES = 3


@dataclass(frozen=True, slots=True)
class Policy:
    """Which losses the job survives."""

    replicas: int = 0
    on_worker_loss: str = "abort"
    #: whether a scheduler finds what it needs to go on from
    scheduler: bool = True

    def survives(self, role: str) -> bool:
        """Whether the scheduler is left to decide what the loss of such a process means."""
        if role == "scheduler":
            return self.scheduler
        return self.replicas > 0 if role == "server" else self.on_worker_loss != "abort"


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
class Wanted:
    """The scheduler wants a process; one of that label that still lives is to be killed."""

    label: str


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


Event = Started | Exited | Wanted | Told | Interrupted | Tick


@dataclass(frozen=True, slots=True)
class Tell:
    """Write a line to the scheduler's pipe."""

    event: str
    label: str = ""
    status: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """Start a process in the place of the one that had this label."""

    label: str


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


Action = Tell | Start | Signal | Print | Finish


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

    def __init__(self, policy: Policy | None = None) -> None:
        self._policy = policy or Policy()
        self._alive: dict[str, Started] = {}
        self._since: dict[str, float] = {}
        #: labels to be started as soon as the process that has the label is reaped
        self._awaited: set[str] = set()
        #: failures in a row, each soon after a start, by label
        self._failures: dict[str, int] = {}
        self._code = 0
        self._blame = ""
        self._reason = ""
        #: the last loss that was survived: it explains a later verdict
        self._survived: Exited | None = None
        #: the job's own verdict, from the scheduler
        self._verdict = ""
        self._finished = False
        #: workers that were started by hand and joined
        self._guests = 0
        self._interrupts = 0
        self._polite_at: float | None = None
        self._kill_at: float | None = None
        self._patience_at: float | None = None
        self._done = False

    @property
    def deadline(self) -> float | None:
        """When the next Tick is wanted."""
        times = [t for t in (self._polite_at, self._kill_at, self._patience_at) if t is not None]
        return min(times, default=None)

    @property
    def ending(self) -> bool:
        """Whether nothing is to be started any more."""
        over = bool(self._code or self._verdict)
        return over or self._finished or self._polite_at is not None or self._kill_at is not None

    def on(self, event: Event, now: float) -> list[Action]:
        """Take an event."""
        match event:
            case Started():
                self._alive[event.label] = event
                self._since[event.label] = now
                if event.role == "worker":
                    self._patience_at = None
                return [Tell("started", event.label)]
            case Exited():
                return self._exited(event, now) + self._finish()
            case Wanted():
                return self._wanted(event)
            case Told():
                return self._told(event, now)
            case Interrupted():
                return self._interrupted(event.signal, now)
            case Tick():
                return self._tick(now)

    # ---- starts and ends ------------------------------------------------------------------

    def _wanted(self, event: Wanted) -> list[Action]:
        if self.ending:
            return []
        if event.label in self._alive:
            self._awaited.add(event.label)
            return [Signal(event.label, signal.SIGKILL)]
        return [Start(event.label)]

    def _exited(self, event: Exited, now: float) -> list[Action]:
        gone = self._alive.pop(event.label, None)
        if gone is None:
            return []
        actions: list[Action] = [Tell("exited", event.label, event.status)]
        awaited = event.label in self._awaited
        self._awaited.discard(event.label)
        if event.status != 0 and self._kill_at is None:
            actions += self._failed(event, gone, now, awaited)
        elif gone.role == "scheduler":
            self._wind_down(now)
        if self._all_done():
            self._wind_down(now)
        elif not self._has_workers() and not self._guests:
            # a last checkpoint may be written; the scheduler will say that it has finished
            self._patience_at = now + PATIENCE
        if awaited and not self.ending:
            actions.append(Start(event.label))
        return actions

    def _all_done(self) -> bool:
        """No worker lives, and the scheduler has said that this is the end."""
        return self._finished and not self._has_workers()

    def _has_workers(self) -> bool:
        return any(p.role == "worker" for p in self._alive.values())

    def _failed(self, event: Exited, gone: Started, now: float, awaited: bool) -> list[Action]:
        """A process ended badly, and not because it was told to end."""
        what = f"{event.label} (pid {gone.pid}) {describe(event.status)}"
        soon = event.status > 0 and now - self._since[event.label] < SOON
        count = self._failures[event.label] = self._failures.get(event.label, 0) + 1 if soon else 0
        survived = self._policy.survives(gone.role)
        if survived and count >= TIMES:
            what += f", for the {count}rd time in a row soon after its start"
        if self._code:
            self._wind_down(now)
            return []
        if gone.role == "worker":
            if survived and count < TIMES and not self._verdict:
                self._survived = event
                return [] if awaited else [Print(what)]
        elif self._verdict:
            self._wind_down(now)
            return []
        elif survived and count < TIMES and not (self.ending and event.status > 0):
            if self.ending or awaited:
                return []
            if gone.role == "scheduler":
                return [Print(f"{what}; it is started again"), Start(event.label)]
            return [Print(what)]
        self._code = exit_code(event.status) if gone.role == "worker" else 1
        self._blame = event.label
        self._reason = what
        self._wind_down(now)
        return []

    def _told(self, event: Told, now: float) -> list[Action]:
        if event.event == "note":
            return [Print(event.text)]
        if event.event == "failed" and not self._verdict:
            self._verdict = event.text
            if self._survived is not None and not self._code:
                self._code = exit_code(self._survived.status)
                self._blame = self._survived.label
            self._wind_down(now)
        if event.event == "guests":
            # while some work that were started by hand, the scheduler says when it is over
            self._guests = int(event.text or 0)
            if self._guests:
                self._patience_at = None
            elif not self._has_workers() and not self.ending:
                self._patience_at = now + PATIENCE
        if event.event == "finished":
            self._finished = True
            if self._all_done():
                self._wind_down(now)
        return []

    # ---- the end --------------------------------------------------------------------------

    def _wind_down(self, now: float) -> None:
        """The processes may end by themselves for a moment, then they are asked to."""
        self._patience_at = None
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
        if self._patience_at is not None and now >= self._patience_at:
            self._patience_at = None
            if not self._has_workers():
                self._wind_down(now)
        if self._polite_at is not None and now >= self._polite_at:
            return self._terminate(now)
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = now + GRACE
            return [Signal(label, signal.SIGKILL) for label in self._alive]
        return []

    def _finish(self) -> list[Action]:
        if self._alive or self._done or not self.ending:
            return []
        self._done = True
        if not self._code and self._verdict:
            self._code = 1
        reason = self._reason
        if self._verdict and self._verdict not in reason:
            reason = f"{reason}; {self._verdict}" if reason else self._verdict
        return [Finish(self._code, self._blame, reason if self._code else "")]

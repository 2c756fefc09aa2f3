# SPDX-License-Identifier: Apache-2.0
"""Between the launcher and the scheduler, over their pipe, never over a socket."""

from __future__ import annotations

from dataclasses import dataclass

from kvtrain.ps.core.membership import Role
from kvtrain.ps.core.messages.base import Message, Plain, message


@message(60, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class PeerStarted(Message):
    """The launcher started a process under `launch_token`."""

    role: Role
    rank: int
    launch_token: str
    host: str
    pid: int
    #: token of the process in whose place it was started; that one is dead (PROTOCOL R28)
    replaces: str = ""


@message(61, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class PeerExited(Message):
    """That process has ended: exit code, or minus the signal (PROTOCOL R28)."""

    launch_token: str
    status: int


@message(62, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class LauncherStop(Message):
    """The launcher wants the job to end."""

    reason: str


@message(65, Role.LAUNCHER)
@dataclass(frozen=True, slots=True, kw_only=True)
class StartProcess(Message):
    """Start a process in the place of one that has ended; PeerStarted tells its new token."""

    role: Role
    rank: int
    #: launch token of the process that it replaces
    replaces: str
    #: that one lives and hands over; it is not killed
    beside: bool = False


@message(63, Role.LAUNCHER)
@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailed(Message):
    """The job cannot go on."""

    text: str


@message(64, Role.LAUNCHER)
@dataclass(frozen=True, slots=True, kw_only=True)
class JobFinished(Message):
    """All workers have left."""


@message(68, Role.LAUNCHER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Guests(Message):
    """So many workers take part that the launcher has not started: the job goes on for them."""

    count: int


@message(66, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRequest(Message):
    """``kvtrain status`` asks how the job stands; it is no member of the job."""


@message(67, Role.LAUNCHER)
@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReply(Message):
    """The state of the job, as :func:`kvtrain.ps.core.scheduler.status.status` gives it."""

    state: Plain

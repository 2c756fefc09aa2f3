# SPDX-License-Identifier: Apache-2.0
"""Between everybody and the scheduler: joining, liveness, tables, barriers, the end."""

from __future__ import annotations

from dataclasses import dataclass

from kvtrain.ps.core.membership import NodeId, Role, StoreClock, Table
from kvtrain.ps.core.messages.base import Message, Plain, message


@message(1, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Hello(Message):
    """I want to take part. Repeated until answered; the launch token tells repeats apart."""

    role: Role
    #: rank wanted, -1: any
    rank: int
    version: str
    host: str
    pid: int
    launch_token: str
    #: where a server listens for workers; empty for workers
    address: str = ""
    kernel: str = ""


@message(2, Role.SERVER, Role.WORKER, by=(Role.SCHEDULER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome(Message):
    """You are `node`; this is the job."""

    node: NodeId
    table: Table
    settings: Plain
    #: a worker that takes a lost one's place: the step it goes on in, by store
    resume: tuple[StoreClock, ...] | None = None


@message(3, Role.SERVER, Role.WORKER, by=(Role.SCHEDULER, Role.SERVER))
@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(Message):
    """You may not take part."""

    reason: str


@dataclass(frozen=True, slots=True)
class PassedBarrier:
    """The n-th barrier call at that clock of that store."""

    store: int
    clock: int
    n: int


@message(40, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(Message):
    """I am alive; `epoch` is the table that I have installed."""

    #: turns of the data loop (PROTOCOL R21)
    turns: int = 0
    clocks: tuple[StoreClock, ...] = ()
    #: workers: the last barrier of each store that they have passed (R48)
    passed: tuple[PassedBarrier, ...] = ()
    #: last key and round that the sender worked on, for error texts
    last: str = ""


@message(41, Role.SERVER, Role.WORKER, by=(Role.SCHEDULER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatAck(Message):
    """The scheduler is alive."""


@message(42, Role.SERVER, Role.WORKER, by=(Role.SCHEDULER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class TableUpdate(Message):
    """Install this table; sent again until Installed says so."""

    table: Table


@dataclass(frozen=True, slots=True)
class SeenStep:
    """The highest step of a store of which something of `node`'s rank is in a record."""

    node: NodeId
    store: int
    step: int


@dataclass(frozen=True, slots=True)
class Progress(StoreClock):
    """How far a store is: the step that a worker is in, or the highest round that has closed on
    a server's shards."""

    #: of a round, which push of its step
    n: int = 0
    #: a round has closed on a key without an optimizer
    bare: bool = False


@message(43, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Installed(Message):
    """The table of `epoch` is installed here."""

    #: while somebody wants to join: how far each store is (R23)
    progress: tuple[Progress, ...] = ()

    #: servers: the highest step that their shards have seen of each member that resumes
    seen: tuple[SeenStep, ...] = ()


@message(44, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Barrier(Message):
    """Arrived at the n-th barrier call of `store` at clock `step` (PROTOCOL R48)."""

    n: int


@message(45, Role.WORKER, by=(Role.SCHEDULER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class Released(Message):
    """Everybody arrived."""

    n: int


@message(46, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Leave(Message):
    """The script has ended and everything was acknowledged (PROTOCOL R22)."""

    until: tuple[StoreClock, ...]


@message(47, Role.WORKER, Role.SERVER, by=(Role.SCHEDULER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveAck(Message):
    """You may exit."""


@message(48, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Failure(Message):
    """The sender saw something after which the job cannot go on."""

    name: str
    fields: tuple[str, ...]


@message(49, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting(Message):
    """A server's round waits for members; sent again while it does."""

    what: str
    missing: tuple[int, ...]
    seconds: float


@message(50, Role.SERVER, Role.WORKER, by=(Role.SCHEDULER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class StopJob(Message):
    """The job ends; an empty `name` is a normal end."""

    name: str = ""
    fields: tuple[str, ...] = ()


@message(51, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(Message):
    """Answer to StopJob: the sender is about to exit."""

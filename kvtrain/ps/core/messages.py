# SPDX-License-Identifier: Apache-2.0
"""Every message of the protocol, once (PROTOCOL section 2).

A message is a frozen dataclass with a wire tag and the roles that receive it; the codec is
derived from the fields. Field types are limited to int, float, str, bool, bytes, optional
values, named tuples, frozen dataclasses, tuples of one of these, ``Plain`` for small trees
of plain data, and ``Arrays``: flat arrays that travel as raw frames beside the header and
are never compared. ``store``, ``step``, ``request`` and ``epoch`` are in every header; job
token and sender are added by the shell.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import numpy as np

from kvtrain.ps.core.membership import NO_EPOCH, Epoch, NodeId, Role, Round, StoreClock, Table
from kvtrain.ps.core.shards import ChunkId, KeyEntry, KeySpec

Plain = dict[str, Any]
Arrays = tuple["np.ndarray[Any, Any]", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What every message carries."""

    TAG: ClassVar[int] = 0
    RECEIVERS: ClassVar[tuple[Role, ...]] = ()

    store: int = 0
    step: int = 0
    request: int = 0
    epoch: Epoch = NO_EPOCH


M = TypeVar("M", bound=type[Message])
#: wire tag -> message class
MESSAGES: dict[int, type[Message]] = {}


def _message(tag: int, *receivers: Role) -> Any:
    def add(cls: M) -> M:
        if tag in MESSAGES:
            raise ValueError(f"message tag {tag} is taken by {MESSAGES[tag].__name__}")
        cls.TAG = tag
        cls.RECEIVERS = receivers
        MESSAGES[tag] = cls
        return cls

    return add


# ---- join ----------------------------------------------------------------------------------


@_message(1, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Hello(Message):
    """I want to take part. Repeated until answered; the launch token tells repeats apart."""

    role: int
    #: rank wanted, -1: any
    rank: int
    version: str
    host: str
    pid: int
    launch_token: str
    #: where a server listens for workers; empty for workers
    address: str = ""
    kernel: str = ""


@_message(2, Role.SERVER, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome(Message):
    """You are `node`; this is the job."""

    node: NodeId
    table: Table
    settings: Plain


@_message(3, Role.SERVER, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(Message):
    """You may not take part."""

    reason: str


# ---- data ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HyperCommand:
    """A numbered change of one hyper-parameter by one worker (PROTOCOL R44)."""

    number: int
    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Contribution:
    """One worker's part of one round of one chunk; its array has the same place in `arrays`."""

    chunk: ChunkId
    view: Epoch
    round: Round
    #: counts as one and adds nothing; its array has no elements
    empty: bool = False
    #: how the array is encoded; 0: as it is
    codec: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a contribution."""

    chunk: ChunkId
    view: Epoch
    round: Round
    counted: bool
    version: int


@dataclass(frozen=True, slots=True)
class ChunkRead:
    """A chunk to read, at the earliest after the reader's own round `after`."""

    chunk: ChunkId
    view: Epoch
    after: Round | None = None


@dataclass(frozen=True, slots=True)
class ChunkVersion:
    """A chunk's committed version; its array has the same place in `arrays`."""

    chunk: ChunkId
    view: Epoch
    version: int


@_message(10, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStore(Message):
    """The `store`-th kv.create of this worker; type and settings must agree between workers."""

    type: str
    sync: bool


@_message(11, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOpened(Message):
    """Answer to OpenStore."""


@_message(12, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Declare(Message):
    """Keys that this worker initialises; answered with their directory entries."""

    keys: tuple[KeySpec, ...]


@_message(13, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Declared(Message):
    """Directory entries in the order of Declare."""

    entries: tuple[KeyEntry, ...]


@_message(14, Role.SERVER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Init(Message):
    """First values of chunks, from rank 0 (PROTOCOL R47)."""

    sync: bool
    entries: tuple[KeyEntry, ...]
    chunks: tuple[ChunkId, ...]
    arrays: Arrays = field(default=(), compare=False)


@_message(15, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class InitDone(Message):
    """Answer to Init."""


@_message(16, Role.SERVER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Push(Message):
    """Contributions of the sender; `want`: answer with the values, in one trip."""

    want: bool
    chunks: tuple[Contribution, ...]
    #: rescale_grad of the Trainer, None where there is none
    rescale_grad: float | None = None
    #: commands that the sender does not know to be in force for these chunks
    hyper: tuple[HyperCommand, ...] = ()
    arrays: Arrays = field(default=(), compare=False)


@_message(17, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class PushReply(Message):
    """Committed contributions, with values if they were wanted."""

    chunks: tuple[Verdict, ...]
    arrays: Arrays = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Query:
    """Asks what became of a contribution, without sending it again."""

    chunk: ChunkId
    view: Epoch
    round: Round
    want: bool


@_message(18, Role.SERVER)
@dataclass(frozen=True, slots=True, kw_only=True)
class PushQuery(Message):
    """Committed ones are answered with PushReply, unknown ones with Missing, held ones not."""

    chunks: tuple[Query, ...]


@_message(19, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Missing(Message):
    """The server does not hold these: send them again."""

    chunks: tuple[Query, ...]


@_message(20, Role.SERVER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Pull(Message):
    """Read committed chunks."""

    chunks: tuple[ChunkRead, ...]


@_message(21, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class PullReply(Message):
    """Values of chunks; many replies may answer one Pull."""

    chunks: tuple[ChunkVersion, ...]
    arrays: Arrays = field(default=(), compare=False)


@_message(22, Role.SERVER)
@dataclass(frozen=True, slots=True, kw_only=True)
class SetOptimizer(Message):
    """The sender's `number`-th optimizer of the store; rank 0's is installed."""

    number: int
    name: str
    config: Plain


@_message(23, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSet(Message):
    """Rank 0's optimizer of that number is installed."""

    number: int


@_message(24, Role.SERVER)
@dataclass(frozen=True, slots=True, kw_only=True)
class StatsRequest(Message):
    """Asks a server for its counters of one store."""


@_message(25, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class StatsReply(Message):
    """Counters of one server, of committed state only."""

    stats: Plain


@_message(26, Role.SERVER, Role.WORKER, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorReply(Message):
    """What `request` asked cannot be done; `name` and `fields` as errors.to_wire gives them."""

    name: str
    fields: tuple[str, ...]


# ---- control -------------------------------------------------------------------------------


@_message(40, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(Message):
    """I am alive; `epoch` is the table that I have installed."""

    #: turns of the data loop (PROTOCOL R21)
    turns: int = 0
    clocks: tuple[StoreClock, ...] = ()
    #: last key and round that the sender worked on, for error texts
    last: str = ""


@_message(41, Role.SERVER, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatAck(Message):
    """The scheduler is alive."""


@_message(42, Role.SERVER, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class TableUpdate(Message):
    """Install this table; sent again until Installed says so."""

    table: Table


@_message(43, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Installed(Message):
    """The table of `epoch` is installed here."""


@_message(44, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Barrier(Message):
    """Arrived at the n-th barrier call of `store` at clock `step` (PROTOCOL R48)."""

    n: int


@_message(45, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Released(Message):
    """Everybody arrived."""

    n: int


@_message(46, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Leave(Message):
    """The script has ended and everything was acknowledged (PROTOCOL R22)."""

    until: tuple[StoreClock, ...]


@_message(47, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveAck(Message):
    """You may exit."""


@_message(48, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Failure(Message):
    """The sender saw something after which the job cannot go on."""

    name: str
    fields: tuple[str, ...]


@_message(49, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting(Message):
    """A server's round waits for members; sent again while it does."""

    what: str
    missing: tuple[int, ...]
    seconds: float


@_message(50, Role.SERVER, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class StopJob(Message):
    """The job ends; an empty `name` is a normal end."""

    name: str = ""
    fields: tuple[str, ...] = ()


@_message(51, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(Message):
    """Answer to StopJob: the sender is about to exit."""


# ---- launcher (over its pipe, never over a socket) -----------------------------------------


@_message(60, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class PeerStarted(Message):
    """The launcher started a process under `launch_token`."""

    role: int
    rank: int
    launch_token: str
    host: str
    pid: int


@_message(61, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class PeerExited(Message):
    """That process has ended: exit code, or minus the signal (PROTOCOL R28)."""

    launch_token: str
    status: int


@_message(62, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class LauncherStop(Message):
    """The launcher wants the job to end."""

    reason: str


@_message(63, Role.LAUNCHER)
@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailed(Message):
    """The job cannot go on."""

    text: str


@_message(64, Role.LAUNCHER)
@dataclass(frozen=True, slots=True, kw_only=True)
class JobFinished(Message):
    """All workers have left."""

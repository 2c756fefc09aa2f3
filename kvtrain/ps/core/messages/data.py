# SPDX-License-Identifier: Apache-2.0
"""Between workers and servers: keys, contributions, reads, optimizers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from kvtrain.ps.core.membership import Epoch, Role, Round
from kvtrain.ps.core.messages.base import Arrays, Message, Plain, message
from kvtrain.ps.core.shards import ChunkId, KeyEntry, KeySpec


@dataclass(frozen=True, slots=True)
class HyperCommand:
    """A numbered change of one hyper-parameter by one worker (PROTOCOL R44)."""

    number: int
    name: str
    value: float


class Contribution(NamedTuple):
    """One worker's part of one round of one chunk; its array has the same place in `arrays`."""

    chunk: ChunkId
    view: Epoch
    round: Round
    #: counts as one and adds nothing; its array has no elements
    empty: bool = False
    #: how the array is encoded; 0: as it is
    codec: int = 0


class Verdict(NamedTuple):
    """What became of a contribution."""

    chunk: ChunkId
    view: Epoch
    round: Round
    #: False: dropped, its round has closed without it (PROTOCOL R39)
    counted: bool
    version: int
    #: with backup workers the highest step that has closed on this chunk; else -1
    closed: int = -1


class ChunkRead(NamedTuple):
    """A chunk to read, at the earliest after the reader's own round `after`."""

    chunk: ChunkId
    view: Epoch
    after: Round | None = None
    #: lowest clock that every live worker must have told; -1: none
    gate: int = -1
    #: the weights from before the first round of this step (PROTOCOL R25); -1: the present ones
    cut: int = -1


class ChunkVersion(NamedTuple):
    """A chunk's committed version; its array has the same place in `arrays`."""

    chunk: ChunkId
    view: Epoch
    version: int


@message(10, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStore(Message):
    """The `store`-th kv.create of this worker; type and settings must agree between workers."""

    type: str
    sync: bool


@message(11, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOpened(Message):
    """Answer to OpenStore."""


@message(12, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Declare(Message):
    """Keys that this worker initialises; answered with their directory entries."""

    keys: tuple[KeySpec, ...]


@message(13, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Declared(Message):
    """Directory entries in the order of Declare."""

    entries: tuple[KeyEntry, ...]


@message(14, Role.SERVER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Init(Message):
    """First values of chunks, from rank 0 (PROTOCOL R47)."""

    sync: bool
    entries: tuple[KeyEntry, ...]
    chunks: tuple[ChunkId, ...]
    arrays: Arrays = field(default=(), compare=False)


@message(15, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class InitDone(Message):
    """These chunks of Init exist, and are committed."""

    chunks: tuple[ChunkId, ...]


@message(16, Role.SERVER)
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


@message(17, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class PushReply(Message):
    """Committed contributions, with values if they were wanted."""

    chunks: tuple[Verdict, ...]
    arrays: Arrays = field(default=(), compare=False)


class Query(NamedTuple):
    """Asks what became of a contribution, without sending it again."""

    chunk: ChunkId
    view: Epoch
    round: Round
    want: bool


@message(18, Role.SERVER)
@dataclass(frozen=True, slots=True, kw_only=True)
class PushQuery(Message):
    """Committed ones are answered with PushReply, unknown ones with Missing, held ones not."""

    chunks: tuple[Query, ...]


@message(19, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Missing(Message):
    """The server does not hold these: send them again."""

    chunks: tuple[Query, ...]


@message(20, Role.SERVER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Pull(Message):
    """Read committed chunks."""

    chunks: tuple[ChunkRead, ...]


@message(21, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class PullReply(Message):
    """Values of chunks; many replies may answer one Pull."""

    chunks: tuple[ChunkVersion, ...]
    arrays: Arrays = field(default=(), compare=False)


@message(22, Role.SERVER)
@dataclass(frozen=True, slots=True, kw_only=True)
class SetOptimizer(Message):
    """The sender's `number`-th optimizer of the store; rank 0's is installed."""

    number: int
    name: str
    config: Plain


@message(23, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSet(Message):
    """Rank 0's optimizer of that number is installed."""

    number: int


@message(24, Role.SERVER)
@dataclass(frozen=True, slots=True, kw_only=True)
class StatsRequest(Message):
    """Asks a server for its counters of one store."""


@message(25, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class StatsReply(Message):
    """Counters of one server, of committed state only."""

    stats: Plain


@message(26, Role.SERVER, Role.WORKER, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorReply(Message):
    """What `request` asked cannot be done; `name` and `fields` as errors.to_wire gives them."""

    name: str
    fields: tuple[str, ...]
    #: of a Push: the chunks that are meant
    chunks: tuple[ChunkId, ...] = ()

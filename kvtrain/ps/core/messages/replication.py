# SPDX-License-Identifier: Apache-2.0
"""Between servers, and between servers and the scheduler about shards: logs, views, learners."""

from __future__ import annotations

from dataclasses import dataclass, field

from kvtrain.ps.core.membership import Epoch, NodeId, Role, Round
from kvtrain.ps.core.messages.base import Arrays, Message, Plain, message
from kvtrain.ps.core.shards import ChunkId, KeyEntry


@dataclass(frozen=True, slots=True)
class HyperValue:
    """A hyper-parameter that was changed from the optimizer's own."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class HyperSeen:
    """The last command of a worker that is in force."""

    rank: int
    incarnation: int
    number: int


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One position of a shard's log; its arrays are the next `arrays` ones of the message.

    `kind` is ``round`` (the reduced gradient, or the resulting weight and state, R8), ``init``
    (a chunk's first value), ``optimizer``, or ``states`` (a worker's, for a chunk's optimizer).
    """

    shard: int
    lsn: int
    kind: str
    store: int
    arrays: int = 0
    chunk: ChunkId | None = None
    #: init: the chunk's key
    key: KeyEntry | None = None
    sync: bool = True
    round: Round | None = None
    version: int = 0
    #: who was counted, with incarnations (R5)
    members: tuple[NodeId, ...] = ()
    rescale_grad: float | None = None
    #: the arrays are the resulting weight and state, not the gradient
    result: bool = False
    hyper: tuple[HyperValue, ...] = ()
    seen: tuple[HyperSeen, ...] = ()
    #: of the resulting weights; -1: not taken
    checksum: int = -1
    #: optimizer: its number, registered name and config; of a result `config` is what else is
    #: needed to take it over
    number: int = 0
    name: str = ""
    config: Plain = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LogHead:
    """Which view the entries of a shard are sent in, and what every replica holds already."""

    shard: int
    view: Epoch
    #: lsn of the first entry in this message (the next one, if there is none)
    first: int
    committed: int


@dataclass(frozen=True, slots=True)
class LogHeld:
    """How far a server holds a shard's log."""

    shard: int
    view: Epoch
    lsn: int
    #: something is missing: send again from here
    again: bool = False


@message(80, Role.SERVER, by=(Role.SERVER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class Replicate(Message):
    """Log entries of shards, from their primary; answered with ReplicateAck (PROTOCOL R4)."""

    heads: tuple[LogHead, ...]
    entries: tuple[LogEntry, ...]
    arrays: Arrays = field(default=(), compare=False)


@message(81, Role.SERVER, by=(Role.SERVER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicateAck(Message):
    """What the sender holds."""

    held: tuple[LogHeld, ...]


@dataclass(frozen=True, slots=True)
class ShardView:
    """A shard and a view of it."""

    shard: int
    view: Epoch


@message(82, Role.SERVER, Role.WORKER, by=(Role.SERVER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class ViewRefused(Message):
    """Sent in a view that does not hold here; these do (PROTOCOL R16)."""

    shards: tuple[ShardView, ...]


@message(83, Role.SERVER, by=(Role.SCHEDULER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class Fence(Message):
    """Take part in no older view of these shards, and say how far you hold them (R15)."""

    shards: tuple[ShardView, ...]


@message(84, Role.SCHEDULER, by=(Role.SERVER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class FenceAck(Message):
    """Fenced."""

    held: tuple[LogHeld, ...]


@dataclass(frozen=True, slots=True)
class CountedRound:
    """The last round of a worker that is in a chunk's record."""

    rank: int
    incarnation: int
    round: Round


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    """A chunk for a learner; its arrays are the weight and then the optimizer's state."""

    chunk: ChunkId
    key: KeyEntry
    sync: bool
    arrays: int
    #: what else is needed to take them over
    image: Plain
    version: int
    optimizer_number: int
    base_version: int
    hyper: tuple[HyperValue, ...]
    seen: tuple[HyperSeen, ...]
    counted: tuple[CountedRound, ...]
    last_closed: Round | None


@dataclass(frozen=True, slots=True)
class SnapshotOptimizer:
    """The optimizer of one store."""

    store: int
    number: int
    name: str
    config: Plain


@message(85, Role.SERVER, by=(Role.SERVER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(Message):
    """Part `part` of `parts` of a shard as it was at log position `lsn` (PROTOCOL R14)."""

    shard: int
    view: Epoch
    lsn: int
    part: int
    parts: int
    optimizers: tuple[SnapshotOptimizer, ...]
    chunks: tuple[SnapshotChunk, ...]
    arrays: Arrays = field(default=(), compare=False)


@message(86, Role.SERVER, by=(Role.SERVER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotAck(Message):
    """That part has arrived."""

    shard: int
    view: Epoch
    lsn: int
    part: int


@message(87, Role.SCHEDULER, by=(Role.SERVER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class AddInSync(Message):
    """The primary already waits for this learner's acknowledgements: make it a replica (R14)."""

    shard: int
    view: Epoch
    learner: NodeId


@message(88, Role.SCHEDULER, by=(Role.SERVER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect(Message):
    """`node` has not acknowledged records for `seconds` (PROTOCOL R3)."""

    node: NodeId
    seconds: float


@message(89, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class TableRequest(Message):
    """Send the table, if it is newer than `epoch`."""


@message(90, Role.SCHEDULER, by=(Role.SERVER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class Handover(Message):
    """This server wants to end: give its shards to others (PROTOCOL R18)."""


@message(91, Role.SCHEDULER, by=(Role.SERVER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed(Message):
    """Nothing closes in these shards any more and all is committed: they may change hands."""

    shards: tuple[ShardView, ...]

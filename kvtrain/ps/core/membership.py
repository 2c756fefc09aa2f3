# SPDX-License-Identifier: Apache-2.0
"""Who is in the job: identities, epochs and the table (PROTOCOL section 1).

Everything here is a value. The scheduler makes tables; everybody else installs them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import NamedTuple


class Role(enum.IntEnum):
    """The kinds of process in a job."""

    SCHEDULER = 0
    SERVER = 1
    WORKER = 2
    LAUNCHER = 3


class NodeId(NamedTuple):
    """One process of the job. A restarted node keeps its rank and gets a new incarnation.

    A process that has not been welcomed yet is (role, -1, random number).
    """

    role: Role
    rank: int
    incarnation: int

    def __str__(self) -> str:
        name = f"{Role(self.role).name.lower()}-{self.rank}"
        return name if self.incarnation <= 1 else f"{name} (incarnation {self.incarnation})"


class Epoch(NamedTuple):
    """Names one table: compares lexicographically and never repeats. Also used for views."""

    scheduler: int
    counter: int


class Round(NamedTuple):
    """The n-th push of a key within a step (sync); (0, sequence number) in async."""

    step: int
    n: int


NO_EPOCH = Epoch(0, 0)
SCHEDULER = NodeId(Role.SCHEDULER, 0, 1)
LAUNCHER = NodeId(Role.LAUNCHER, 0, 1)


@dataclass(frozen=True, slots=True)
class StoreClock:
    """A worker's step in one store."""

    store: int
    step: int


@dataclass(frozen=True, slots=True)
class Member:
    """A worker and the interval of steps in which it takes part."""

    node: NodeId
    host: str
    pid: int
    #: per store the first step in which it contributes (a store not named: 0)
    begins: tuple[StoreClock, ...] = ()
    #: set when it left: per store the first step without it (a store not named: 0)
    until: tuple[StoreClock, ...] | None = None
    lost: bool = False
    #: takes the place of a lost incarnation and is not told yet where to go on
    resuming: bool = False
    #: joins the running job, and is not told before every primary knows it (PROTOCOL R23)
    proposed: bool = False

    def from_step(self, store: int) -> int:
        """First step of `store` in which it contributes."""
        return next((c.step for c in self.begins if c.store == store), 0)

    @property
    def gone(self) -> bool:
        """True when it left or was lost."""
        return self.lost or self.until is not None

    def takes_part(self, store: int, step: int) -> bool:
        """Whether it is in L(step) of `store`."""
        if self.lost or step < self.from_step(store):
            return False
        if self.until is None:
            return True
        return step < next((c.step for c in self.until if c.store == store), 0)


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A server and where it listens."""

    node: NodeId
    host: str
    pid: int
    address: str
    #: backend, version and instruction set of its arithmetic (PROTOCOL R8)
    kernel: str


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """A fixed bucket of chunks: its view and its servers, primary first."""

    view: Epoch
    replicas: tuple[NodeId, ...]
    learners: tuple[NodeId, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """Live workers and shard placement under one epoch."""

    epoch: Epoch
    members: tuple[Member, ...]
    servers: tuple[ServerInfo, ...]
    shards: tuple[ShardInfo, ...]

    def problem(self) -> str:
        """Why nobody can mean this; empty if it makes sense."""
        if not self.shards or not all(shard.replicas for shard in self.shards):
            return "a table with shards that nobody holds"
        return ""

    def live(self, store: int, step: int) -> tuple[int, ...]:
        """L(step): ranks that contribute to rounds of `step`, ascending."""
        return tuple(m.node.rank for m in self.members if m.takes_part(store, step))

    def counted(self, store: int, step: int) -> tuple[int, ...]:
        """Ranks that a worker in `step` counts: those that left by themselves included, since
        when others hear of it depends on time."""
        members = (m for m in self.members if not m.lost and m.from_step(store) <= step)
        return tuple(m.node.rank for m in members)

    def member(self, rank: int) -> Member | None:
        """The member with this rank, or None."""
        return next((m for m in self.members if m.node.rank == rank), None)

    def primary(self, shard: int) -> NodeId:
        """The server that decides for `shard`."""
        return self.shards[shard].replicas[0]

    def server(self, node: NodeId) -> ServerInfo | None:
        """A server that takes part, or None."""
        return next((info for info in self.servers if info.node == node), None)

    def with_member(self, epoch: Epoch, member: Member) -> Table:
        """A later table in which the member of that rank is replaced by `member`."""
        members = tuple(member if m.node.rank == member.node.rank else m for m in self.members)
        return replace(self, epoch=epoch, members=members)


def with_joiner(table: Table, epoch: Epoch, member: Member) -> Table:
    """A later table with one more member, who may have the rank of one that is gone."""
    others = (m for m in table.members if m.node.rank != member.node.rank)
    members = sorted((*others, member), key=lambda m: m.node.rank)
    return replace(table, epoch=epoch, members=tuple(members))


def form_table(
    epoch: Epoch,
    members: tuple[Member, ...],
    servers: tuple[ServerInfo, ...],
    shards: int,
    replicas: int = 0,
) -> Table:
    """The first table of a job: shards dealt to the servers in turn, backups to the others."""
    count = len(servers)
    placed = []
    for shard in range(shards):
        primary = shard % count
        # another server's shards have their backups on all the rest, not on one neighbour
        turn = shard // count
        others = [(primary + 1 + (turn + i) % (count - 1)) % count for i in range(count - 1)]
        nodes = [servers[i].node for i in (primary, *others[:replicas])]
        placed.append(ShardInfo(view=epoch, replicas=tuple(nodes)))
    return Table(epoch=epoch, members=members, servers=servers, shards=tuple(placed))

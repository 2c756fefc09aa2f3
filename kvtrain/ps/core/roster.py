# SPDX-License-Identifier: Apache-2.0
"""The scheduler's roster: who was started, who joined, when each was last heard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from kvtrain.ps.core import messages as m
from kvtrain.ps.core.membership import NO_EPOCH, Epoch, NodeId, Role, StoreClock

#: begins the token of a process to which no launcher gave one
NONCE = "nonce-"


@dataclass(slots=True, eq=False)
class Node:
    """A process that said Hello."""

    id: NodeId
    #: how to reach it until it has used `id` itself
    provisional: NodeId
    hello: m.Hello
    last_seen: float
    installed: Epoch = NO_EPOCH
    clocks: tuple[StoreClock, ...] = ()
    last: str = ""
    turns: int = -1
    turned_at: float = 0.0
    suspect: bool = False
    left: bool = False
    exited: bool = False
    stopped: bool = False
    #: declared dead: whatever it still says is refused (R20, R29)
    dead: bool = False
    #: a server that hands its shards over and ends (R18)
    draining: bool = False
    drain_until: float = 0.0
    #: why it may not take part
    refused: str = ""
    #: where a worker goes on that takes a lost one's place, or begins that joins
    resume: tuple[StoreClock, ...] | None = None

    def is_here(self) -> bool:
        """Whether it takes part and is to be told things."""
        return not (self.left or self.exited or self.dead or self.stopped)

    @property
    def by_hand(self) -> bool:
        """Whether no launcher has started it."""
        token = self.hello.launch_token
        return not token or token.startswith(NONCE)

    def where(self) -> str:
        """``worker-1 (host h, pid 12)``."""
        return f"{self.id} (host {self.hello.host}, pid {self.hello.pid})"

    def story(self, now: float) -> str:
        """Who, where, last seen, last step and key: for every error text."""
        steps = ", ".join(f"step {c.step} of store {c.store}" for c in self.clocks)
        parts = [self.where(), f"last seen {now - self.last_seen:.1f} s ago"]
        if steps:
            parts.append(steps)
        if self.last:
            parts.append(f"last {self.last}")
        return ", ".join(parts)


@dataclass(slots=True)
class Roster:
    """All processes of the job, by launch token and by id."""

    started: dict[str, m.PeerStarted] = field(default_factory=dict)
    exited: dict[str, int] = field(default_factory=dict)
    by_token: dict[str, Node] = field(default_factory=dict)
    by_id: dict[NodeId, Node] = field(default_factory=dict)
    #: highest incarnation given for (role, rank)
    incarnations: dict[tuple[int, int], int] = field(default_factory=dict)

    def next_incarnation(self, role: Role, rank: int) -> int:
        """Higher than any that was given for this rank."""
        return self.incarnations.get((int(role), rank), 0) + 1

    def of_role(self, role: Role) -> list[Node]:
        """Joined processes of a role that nobody declared dead, by rank."""
        found = (n for n in self.by_id.values() if n.id.role == role and not n.dead)
        return sorted(found, key=lambda n: n.id)

    def __iter__(self) -> Iterator[Node]:
        return iter(sorted(self.by_id.values(), key=lambda n: n.id))

    def free_rank(self, role: Role, wanted: int, count: int, launched: bool = True) -> int | None:
        """The wanted rank if it is free (-1: the lowest that nobody was started for; a process
        that no launcher started gets no other one)."""
        taken = {n.id.rank for n in self.of_role(role) if not (n.draining or n.left)}
        if wanted >= 0:
            return wanted if wanted < count and wanted not in taken else None
        reserved = {
            s.rank
            for s in self.started.values()
            if s.role == role and s.launch_token not in self.by_token
        }
        free = [r for r in range(count) if r not in taken]
        other = next(iter(free), None) if launched else None
        return next((r for r in free if r not in reserved), other)

    def join(
        self, provisional: NodeId, token: str, id_: NodeId, hello: m.Hello, now: float
    ) -> Node:
        """Enter a process."""
        node = Node(id=id_, provisional=provisional, hello=hello, last_seen=now, turned_at=now)
        place = (int(id_.role), id_.rank)
        self.incarnations[place] = max(self.incarnations.get(place, 0), id_.incarnation)
        self.by_token[token] = node
        self.by_id[id_] = node
        return node

    def forget(self, node: Node) -> None:
        """As if this process had never said Hello; its incarnation is not given again."""
        del self.by_id[node.id]
        for token in [t for t, held in self.by_token.items() if held is node]:
            del self.by_token[token]

    def missing(self, role: Role, count: int) -> list[str]:
        """Names of those of a role that have not joined, with what is known of them."""
        present = {n.id.rank for n in self.of_role(role)}
        known = {s.rank: s for s in self.started.values() if s.role == role}
        names = []
        for rank in range(count):
            if rank in present:
                continue
            name = f"{role.name.lower()}-{rank}"
            if rank in known:
                start = known[rank]
                name += f" (host {start.host}, pid {start.pid}, started but never said Hello)"
            else:
                name += " (never said Hello)"
            names.append(name)
        return names

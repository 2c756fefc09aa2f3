# SPDX-License-Identifier: Apache-2.0
"""A scheduler in the place of one that died: it goes on from the journal (PROTOCOL R52-R55).

Every shard gets a new view, an election where the primary was already judged dead; joins that
were not confirmed begin again; everybody has a full ``dead_after`` before being judged. What
the journal does not hold, clocks and barriers passed, the nodes' heartbeats tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from kvtrain.errors import JobError, WorkerLost
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect, Note
from kvtrain.ps.core.membership import (
    Epoch,
    Member,
    NodeId,
    Role,
    ServerInfo,
    ShardInfo,
    StoreClock,
    Table,
)
from kvtrain.ps.core.scheduler.checkpoints import Checkpoints
from kvtrain.ps.core.scheduler.state import Joiner, Phase, Resuming
from kvtrain.ps.core.shards import KeyEntry, KeySpec

Plain = dict[str, Any]


class Recovery(Checkpoints):
    """Reads the journal of the schedulers before this one."""

    def recover(self, records: Iterable[Plain], now: float) -> None:
        """Take over what was journalled; call before :meth:`start`.

        Raises
        ------
        JobError
            A record makes no sense: the journal is not one of this version.
        """
        for record in records:
            try:
                self._take_record(record, now)
            except (KeyError, TypeError, ValueError, IndexError) as error:
                raise JobError(f"the scheduler's journal: {record!r:.200}: {error}") from None
        self._recovering = True

    def _take_record(self, record: Plain, now: float) -> None:
        match record["kind"]:
            case "node":
                self._take_node(record, now)
            case "table":
                self.table = table_from_plain(record["table"])
            case "store":
                held = (str(record["type"]), bool(record["sync"]), int(record["rank"]))
                self.directory.stores[int(record["store"])] = held
            case "keys":
                for plain in record["entries"]:
                    self._take_key(entry_from_plain(plain))
            case "draining":
                node = self.roster.by_id.get(node_from_plain(record["node"]))
                if node is not None:
                    node.draining = True
                    node.drain_until = now + self.settings.drain_timeout
            case "resume":
                node = self.roster.by_id[node_from_plain(record["node"])]
                node.resume = tuple(StoreClock(int(s), int(t)) for s, t in record["steps"])
            case "checkpoint":
                self._newest = str(record["path"])
            case "verdict":
                self.failure = JobError(str(record["error"]))

    def _take_node(self, record: Plain, now: float) -> None:
        id_ = node_from_plain(record["node"])
        hello = m.Hello(
            role=id_.role,
            rank=id_.rank,
            version=str(record["version"]),
            host=str(record["host"]),
            pid=int(record["pid"]),
            launch_token=str(record["token"]),
            address=str(record["address"]),
            kernel=str(record["kernel"]),
        )
        provisional = node_from_plain(record["provisional"])
        self.roster.join(provisional, hello.launch_token, id_, hello, now)

    def _take_key(self, entry: KeyEntry) -> None:
        directory = self.directory
        directory.keys[entry.store, entry.spec.name] = entry
        directory.declared_by.setdefault((entry.store, entry.spec.name), 0)
        directory.next_shard = (entry.first_shard + entry.chunks) % directory.shards

    # ---- going on --------------------------------------------------------------------------

    def _go_on(self, now: float) -> list[Effect]:
        """What a scheduler does first that has read a journal."""
        self._recovering = False
        effects: list[Effect] = [
            Note(f"the scheduler goes on as incarnation {self.node.incarnation}")
        ]
        if self.failure is not None:
            failure, self.failure = self.failure, None
            return effects + self._fail(failure, now)
        if self.table is None:
            self._forming_since = now if self.roster.of_role(Role.WORKER) else None
            return effects + ([] if self._who_is_missing() else self._form(now))
        self.phase = Phase.RUNNING
        self._recheck_at = now + 2 * self.settings.heartbeat
        self._who_is_who(now)
        self._counter = 1
        gone = [member for member in self.table.members if member.lost and not member.proposed]
        lost = [str(member.node) for member in gone]
        if lost and self.settings.on_worker_loss == "abort":
            # the scheduler before this one died between the table and the verdict
            self.table = replace(self.table, epoch=self.epoch)
            return effects + self._fail(WorkerLost(f"lost {', '.join(lost)}"), now)
        here = {info.node for info in self.table.servers}
        elections: dict[int, tuple[NodeId, ...]] = {}
        shards: list[ShardInfo] = []
        for number, info in enumerate(self.table.shards):
            alive = tuple(n for n in info.replicas if n in here)
            if info.replicas[0] in here:
                info = replace(info, view=self.epoch, replicas=alive)
            else:
                elections[number] = alive
            shards.append(info)
        self.table = replace(self.table, epoch=self.epoch, shards=tuple(shards))
        effects += self._publish(now)
        effects += self._elect(elections, self.epoch, now)
        if self._resuming or self._joiners:
            effects += self._outbox.ask("resume", self._unanswered, now)
        if self._all_gone():
            return effects + self._finish(now)
        return effects + self._plan_learners(now) + self._drain(now)

    def _who_is_who(self, now: float) -> None:
        """Who of the roster takes part by the last table."""
        assert self.table is not None
        servers = {info.node for info in self.table.servers}
        members = {member.node: member for member in self.table.members}
        for member in self.table.members:
            place = (int(Role.WORKER), member.node.rank)
            held = self.roster.incarnations.get(place, 0)
            self.roster.incarnations[place] = max(held, member.node.incarnation)
            if member.proposed and not member.lost and member.node in self.roster.by_id:
                # its answers are asked for again (R53)
                self._joiners[member.node.rank] = Joiner(self.roster.by_id[member.node], now)
            self._expect_no_barriers(member)
            node = self.roster.by_id.get(member.node)
            for clock in (node.resume if node is not None else None) or ():
                self.barriers.reached[clock.store, member.node.rank] = (clock.step, 1 << 62)
            if member.resuming:
                self._resuming[member.node.rank] = Resuming(
                    member.node, self.roster.by_id.get(member.node)
                )
        taken = {member.node[:2]: member for member in self.table.members}
        for node in list(self.roster):
            before = taken.get(node.id[:2])
            if node.id.role == Role.WORKER and (before is None or before.node < node.id):
                # it was about to be proposed: it says Hello again, as if for the first time
                self.roster.forget(node)
                continue
            member_of = members.get(node.id)
            if node.id.role == Role.SERVER:
                node.dead = node.exited = node.id not in servers
            elif member_of is None or member_of.lost:
                node.dead = node.exited = True
            else:
                node.left = member_of.until is not None

    def _start_what_is_missing(self) -> list[Effect]:
        """A wish to the launcher may have died with the scheduler before this one."""
        assert self.table is not None
        self._recheck_at = None
        wanted = {(Role.WORKER, rank) for rank, r in self._resuming.items() if r.node is None}
        present = {info.node.rank for info in self.table.servers}
        if self.settings.replicas:
            ranks = range(self.settings.servers)
            wanted |= {(Role.SERVER, rank) for rank in ranks if rank not in present}
        for token, start in self.roster.started.items():
            if token not in self.roster.exited and token not in self.roster.by_token:
                wanted.discard((Role(start.role), start.rank))
        effects: list[Effect] = []
        for role, rank in sorted(wanted):
            before = [n for n in self.roster.by_id.values() if n.id[:2] == (role, rank)]
            if before:
                effects.append(self._start_process(max(before, key=lambda n: n.id)))
        return effects


# ---- records -----------------------------------------------------------------------------------


def node_from_plain(plain: Any) -> NodeId:
    """A node's id."""
    role, rank, incarnation = plain
    return NodeId(Role(role), int(rank), int(incarnation))


def _epoch(plain: Any) -> Epoch:
    scheduler, counter = plain
    return Epoch(int(scheduler), int(counter))


def _clocks(plain: Any) -> tuple[StoreClock, ...]:
    return tuple(StoreClock(int(c["store"]), int(c["step"])) for c in plain)


def table_from_plain(plain: Plain) -> Table:
    """A table as :func:`dataclasses.asdict` and JSON have made it."""
    members = []
    for given in plain["members"]:
        until = given["until"]
        fields = {**given, "node": node_from_plain(given["node"])}
        if until is not None:
            fields["until"] = _clocks(until)
        fields["begins"] = _clocks(given["begins"])
        members.append(Member(**fields))
    servers = [
        ServerInfo(**{**given, "node": node_from_plain(given["node"])})
        for given in plain["servers"]
    ]
    shards = [
        ShardInfo(
            _epoch(given["view"]),
            tuple(map(node_from_plain, given["replicas"])),
            tuple(map(node_from_plain, given["learners"])),
        )
        for given in plain["shards"]
    ]
    return Table(_epoch(plain["epoch"]), tuple(members), tuple(servers), tuple(shards))


def entry_from_plain(plain: Plain) -> KeyEntry:
    """A key's directory entry."""
    spec = {**plain["spec"], "shape": tuple(plain["spec"]["shape"])}
    return KeyEntry(**{**plain, "spec": KeySpec(**spec)})

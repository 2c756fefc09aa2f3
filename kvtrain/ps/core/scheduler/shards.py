# SPDX-License-Identifier: Apache-2.0
"""Servers that are lost, replaced, filled and emptied; elections (PROTOCOL R14-R18).

Per shard: steady, or electing(view, waiting for). A primary that is gone is replaced by the
surviving replica with the longest log, after all survivors are fenced.
"""

from __future__ import annotations

from dataclasses import replace

from kvtrain.errors import ServerLost
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect, Journal, Note, Send
from kvtrain.ps.core.membership import LAUNCHER, Epoch, NodeId, Role, ServerInfo, ShardInfo
from kvtrain.ps.core.roster import Node
from kvtrain.ps.core.scheduler.ending import Ending
from kvtrain.ps.core.scheduler.placement import primaries, promote, with_learners, without
from kvtrain.ps.core.scheduler.state import Election, Phase

#: how long AddInSync messages are collected for one table
TOGETHER = 0.05
#: replacements in a row that may die before they have joined
TRIES = 3


class Shards(Ending):
    """Who holds what."""

    # ---- losing a server -------------------------------------------------------------------

    def _server_lost(self, node: Node, story: str, now: float) -> list[Effect]:
        """Go on with the replicas; a shard without any ends the job."""
        assert self.table is not None
        table = self.table
        alone = [
            number
            for number, info in enumerate(table.shards)
            if node.id in info.replicas and not self._survivors(info, node.id)
        ]
        if alone:
            keys = self._keys_in(set(alone))
            named = f"; it held {keys}" if keys else ""
            replicas = self.settings.replicas
            why = "there are no replicas" if not replicas else "no replica of them is left"
            return self._fail(ServerLost(f"lost {story}{named}; {why}"), now)
        self._counter += 1
        shards = list(table.shards)
        deciding = primaries(i for i in shards if i.replicas[0] != node.id)
        fences: dict[int, tuple[NodeId, ...]] = {}
        for number, info in enumerate(shards):
            learners = tuple(n for n in info.learners if n != node.id)
            info = shards[number] = replace(info, learners=learners)
            if node.id not in info.replicas:
                continue
            rest = self._survivors(info, node.id)
            if info.replicas[0] != node.id and number not in self._elections:
                shards[number] = replace(info, view=self.epoch, replicas=rest)
            elif len(rest) == 1:
                self._elections.pop(number, None)
                alone_now = replace(info, replicas=rest)
                shards[number] = promote(alone_now, self.epoch, lambda n: 0, deciding)
            elif number in self._elections:
                self._elections[number].waiting.discard(node.id)
                self._elections[number].held.pop(node.id, None)
            else:
                fences[number] = rest
        self.table = replace(
            table,
            epoch=self.epoch,
            servers=without(table.servers, node.id),
            shards=tuple(shards),
        )
        effects: list[Effect] = [Note(f"lost {story}; its replicas go on")]
        effects += self._publish(now)
        effects += self._elect(fences, self.epoch, now)
        effects += self._decide(now)
        effects += self._plan_learners(now)
        return effects + self._replace_server(node)

    def _survivors(self, info: ShardInfo, lost: NodeId) -> tuple[NodeId, ...]:
        assert self.table is not None
        return tuple(n for n in info.replicas if n != lost and self.table.server(n) is not None)

    def _keys_in(self, shards: set[int]) -> str:
        """Names of keys that lie in these shards."""
        count = self.settings.shards
        names = [
            entry.spec.name
            for entry in self.directory.keys.values()
            if any(entry.shard(c.part, count) in shards for c in entry)
        ]
        more = f" and {len(names) - 5} more keys" if len(names) > 5 else ""
        return ", ".join(map(repr, names[:5])) + more

    def _replace_server(self, node: Node) -> list[Effect]:
        """Ask the launcher for another one where it stood, if there are too few."""
        assert self.table is not None
        staying = [i for i in self.table.servers if not self._is_draining(i.node)]
        if self.phase is not Phase.RUNNING or len(staying) >= self.settings.servers:
            return []
        return [self._start_process(node)]

    def _start_process(self, node: Node) -> Send:
        """The launcher starts a process in the place of `node`."""
        start = m.StartProcess(
            role=node.id.role, rank=node.id.rank, replaces=node.hello.launch_token
        )
        return Send(LAUNCHER, start)

    def _is_draining(self, id_: NodeId) -> bool:
        node = self.roster.by_id.get(id_)
        return node is not None and node.draining

    def _is_well(self, id_: NodeId) -> bool:
        """Whether a server is there to stay, and was heard of late."""
        node = self.roster.by_id[id_]
        return not (node.draining or node.suspect or node.dead)

    # ---- elections -------------------------------------------------------------------------

    def _elect(
        self, shards: dict[int, tuple[NodeId, ...]], view: Epoch, now: float
    ) -> list[Effect]:
        """Fence the survivors of each shard and ask how far they are (R15)."""
        if not shards:
            return []
        record = {str(number): [list(n) for n in nodes] for number, nodes in shards.items()}
        effects: list[Effect] = [Journal({"kind": "fence", "view": list(view), "shards": record})]
        by_node: dict[NodeId, list[m.ShardView]] = {}
        for number, nodes in shards.items():
            self._elections[number] = Election(view, set(nodes))
            for node in nodes:
                by_node.setdefault(node, []).append(m.ShardView(number, view))
        for node, asked in by_node.items():
            fence = Send(node, m.Fence(epoch=self.epoch, shards=tuple(asked)))
            effects += self._outbox.ask(("fence", node, view), lambda f=fence: [f], now)  # type: ignore[misc]
        return effects

    def _on_fence_ack(self, node: Node, message: m.FenceAck, now: float) -> list[Effect]:
        for held in message.held:
            self._outbox.answered(("fence", node.id, held.view))
            election = self._elections.get(held.shard)
            if election is not None and election.view == held.view:
                if node.id in election.waiting:
                    election.waiting.discard(node.id)
                    election.held[node.id] = held.lsn
        return self._decide(now)

    def _decide(self, now: float) -> list[Effect]:
        """End the elections in which nobody is waited for."""
        assert self.table is not None
        ready = {n: e for n, e in self._elections.items() if not e.waiting}
        if not ready:
            return []
        self._counter += 1
        shards = list(self.table.shards)
        deciding = primaries(i for n, i in enumerate(shards) if n not in self._elections)
        for number, election in sorted(ready.items()):
            del self._elections[number]
            rest = tuple(n for n in shards[number].replicas if n in election.held)
            info = replace(shards[number], replicas=rest)
            shards[number] = promote(info, self.epoch, election.held.__getitem__, deciding)
        self.table = replace(self.table, epoch=self.epoch, shards=tuple(shards))
        return self._publish(now) + self._plan_learners(now)

    # ---- filling servers -------------------------------------------------------------------

    def _plan_learners(self, now: float) -> list[Effect]:
        """Shards that have too few servers get learners (R14)."""
        assert self.table is not None
        leaving = {n.id for n in self.roster if n.draining}
        wanted = self.settings.replicas + 1
        shards = with_learners(self.table, wanted, self._elections, leaving)
        if shards == self.table.shards:
            return []
        self._counter += 1
        self.table = replace(self.table, epoch=self.epoch, shards=shards)
        return self._publish(now)

    def _server_joined(self, node: Node, now: float) -> list[Effect]:
        """A server that came into the running job: it learns what it is given."""
        assert self.table is not None
        self._counter += 1
        info = ServerInfo(
            node.id, node.hello.host, node.hello.pid, node.hello.address, node.hello.kernel
        )
        self.table = replace(self.table, epoch=self.epoch, servers=(*self.table.servers, info))
        return self._publish(now) + self._plan_learners(now)

    def _on_add_in_sync(self, node: Node, message: m.AddInSync, now: float) -> list[Effect]:
        """The primary already waits for the learner; a few of these make one table."""
        if self._is_current(node.id, message.shard, message.view):
            self._in_sync[message.shard] = (message.view, message.learner)
            if self._in_sync_at is None:
                self._in_sync_at = now + TOGETHER
        return []

    def _is_current(self, primary: NodeId, shard: int, view: Epoch) -> bool:
        """Whether that server decides for the shard in that view."""
        if self.table is None or not 0 <= shard < len(self.table.shards):
            return False
        info = self.table.shards[shard]
        return info.replicas[0] == primary and info.view == view and shard not in self._elections

    def _add_in_sync(self, now: float) -> list[Effect]:
        """Learners become replicas, if view and primary are still what they were."""
        assert self.table is not None
        self._in_sync_at = None
        ready, self._in_sync = self._in_sync, {}
        shards = list(self.table.shards)
        self._counter += 1
        for number, (view, learner) in ready.items():
            info = shards[number]
            if info.view != view or learner not in info.learners or number in self._elections:
                continue
            shards[number] = replace(
                info,
                view=self.epoch,
                replicas=(*info.replicas, learner),
                learners=tuple(n for n in info.learners if n != learner),
            )
        self.table = replace(self.table, epoch=self.epoch, shards=tuple(shards))
        return self._publish(now) + self._drain(now)

    def _on_suspect(self, node: Node, message: m.Suspect, now: float) -> list[Effect]:
        """A server that acknowledges nothing is removed although it sends heartbeats (R3)."""
        assert self.table is not None
        other = self.roster.by_id.get(message.node)
        if other is None or other.dead or message.seconds < self.settings.dead_after:
            return []
        if self.table.server(node.id) is None or self.table.server(other.id) is None:
            return []
        if any(
            other.id in info.replicas and not self._survivors(info, other.id)
            for info in self.table.shards
        ):
            return self._cut_off(node.id, other.id, now)
        how = f"has not acknowledged records of {node.id} for {message.seconds:.0f} s"
        return self._lost(other, how, now)

    def _cut_off(self, primary: NodeId, other: NodeId, now: float) -> list[Effect]:
        """What one server holds alone is not given up because another cannot reach it: it only
        leaves the shards of that other one."""
        assert self.table is not None
        self._counter += 1
        shards = list(self.table.shards)
        for number, info in enumerate(shards):
            if info.replicas[0] != primary or number in self._elections:
                continue
            learners = tuple(n for n in info.learners if n != other)
            replicas = tuple(n for n in info.replicas if n != other)
            view = self.epoch if replicas != info.replicas else info.view
            shards[number] = replace(info, view=view, replicas=replicas, learners=learners)
        self.table = replace(self.table, epoch=self.epoch, shards=tuple(shards))
        note = Note(f"{other} does not acknowledge records of {primary}: it leaves its shards")
        return [note, *self._publish(now), *self._plan_learners(now)]

    def _lost(self, node: Node, how: str, now: float) -> list[Effect]:
        """Policy for a lost process."""
        raise NotImplementedError

    # ---- emptying a server -----------------------------------------------------------------

    def _on_handover(self, node: Node, message: m.Handover, now: float) -> list[Effect]:
        """A server wants to end: its shards go to others first (R18)."""
        if node.left:
            return [Send(node.id, m.LeaveAck(epoch=self.epoch))]
        if self._stopping():
            return [self._stop_message(node)]  # the launcher ends what is left of the job
        if node.draining or self.table is None:
            return []
        node.draining = True
        node.drain_until = now + self.settings.drain_timeout
        effects: list[Effect] = [
            Journal({"kind": "draining", "node": list(node.id)}),
            Note(f"{node.where()} hands its shards over"),
        ]
        staying = [i for i in self.table.servers if not self._is_draining(i.node)]
        if len(staying) <= self.settings.replicas:
            start = m.StartProcess(
                role=node.id.role,
                rank=node.id.rank,
                replaces=node.hello.launch_token,
                beside=True,
            )
            effects.append(Send(LAUNCHER, start))
        return effects + self._plan_learners(now) + self._drain(now)

    def _on_sealed(self, node: Node, message: m.Sealed, now: float) -> list[Effect]:
        """These shards of a server that wants to end may change hands."""
        assert self.table is not None
        shards = list(self.table.shards)
        epoch = Epoch(self.epoch.scheduler, self.epoch.counter + 1)
        deciding = primaries(shards)
        changed = False
        for sealed in message.shards:
            if not self._is_current(node.id, sealed.shard, sealed.view):
                continue
            info = shards[sealed.shard]
            rest = self._survivors(info, node.id)
            if any(map(self._is_well, rest)):
                info = replace(info, replicas=rest)
                shards[sealed.shard] = promote(info, epoch, lambda n: 0, deciding)
                changed = True
        if not changed:
            return []
        self._counter += 1
        self.table = replace(self.table, epoch=self.epoch, shards=tuple(shards))
        return self._publish(now) + self._plan_learners(now) + self._drain(now)

    def _drain(self, now: float) -> list[Effect]:
        """Servers that want to end give up what others hold, and go when nothing is left."""
        assert self.table is not None
        effects: list[Effect] = []
        for node in [n for n in self.roster.of_role(Role.SERVER) if n.draining and not n.left]:
            shards = list(self.table.shards)
            epoch = Epoch(self.epoch.scheduler, self.epoch.counter + 1)
            for number, info in enumerate(shards):
                info = replace(info, learners=tuple(n for n in info.learners if n != node.id))
                rest = tuple(n for n in info.replicas if n != node.id)
                staying = [n for n in rest if self._is_well(n)]
                late = bool(staying) and now >= node.drain_until
                safe = len(staying) > self.settings.replicas or late
                if node.id in info.replicas[1:] and number not in self._elections and safe:
                    info = replace(info, view=epoch, replicas=rest)
                shards[number] = info
            servers = self.table.servers
            empty = not any(node.id in info.replicas for info in shards)
            if empty:
                servers = without(servers, node.id)
                node.left = True
                effects.append(Send(node.id, m.LeaveAck(epoch=epoch)))
            if tuple(shards) != self.table.shards or empty:
                self._counter += 1
                self.table = replace(
                    self.table, epoch=self.epoch, servers=servers, shards=tuple(shards)
                )
                effects = self._publish(now) + effects
        return effects

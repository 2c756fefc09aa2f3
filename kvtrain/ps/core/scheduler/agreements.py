# SPDX-License-Identifier: Apache-2.0
"""What workers agree on through the scheduler: stores, keys, barriers, leaving."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from kvtrain.errors import (
    KVTrainError,
)
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.barriers import BarrierId
from kvtrain.ps.core.effects import Effect, Journal, Send
from kvtrain.ps.core.membership import (
    NodeId,
)
from kvtrain.ps.core.roster import Node
from kvtrain.ps.core.scheduler.forming import Forming
from kvtrain.ps.core.scheduler.state import Phase


class Agreements(Forming):
    """The directory, barriers and leaves."""

    def _checked(
        self,
        node: Node,
        message: Any,
        now: float,
        handle: Callable[[Node, Any, float], list[Effect]],
    ) -> list[Effect]:
        """Run a handler; its error goes to who asked and changes nothing else."""
        if self.phase is Phase.STOPPING:
            return [self._stop_message(node)]
        try:
            return handle(node, message, now)
        except KVTrainError as error:
            return [self._error(node.id, message, error)]

    def _on_open_store(self, node: Node, message: m.OpenStore, now: float) -> list[Effect]:
        fresh = message.store not in self.directory.stores
        self.directory.open_store(message.store, message.type, message.sync, node.id.rank)
        opened = m.StoreOpened(
            store=message.store,
            step=self.directory.resume.get(message.store, 0),
            request=message.request,
            epoch=self.epoch,
        )
        effects: list[Effect] = []
        if fresh:
            held = {"store": message.store, "type": message.type, "sync": message.sync}
            effects.append(Journal({"kind": "store", **held, "rank": node.id.rank}))
        return [*effects, Send(node.id, opened)]

    def _on_declare(self, node: Node, message: m.Declare, now: float) -> list[Effect]:
        effects: list[Effect] = []
        found = [self.directory.declare(message.store, s, node.id.rank) for s in message.keys]
        fresh = [asdict(entry) for entry, new in found if new]
        if fresh:
            effects.append(Journal({"kind": "keys", "entries": fresh}))
        declared = m.Declared(
            store=message.store,
            request=message.request,
            epoch=self.epoch,
            entries=tuple(entry for entry, _ in found),
        )
        return [*effects, Send(node.id, declared)]

    def _on_barrier(self, node: Node, message: m.Barrier, now: float) -> list[Effect]:
        barrier = BarrierId(message.store, message.step, message.n)
        if self.barriers.arrive(node.id.rank, barrier, message.request, now):
            return [self._released(node.id, barrier, message.request)]
        return self._complete_barriers()

    def _released(self, to: NodeId, barrier: BarrierId, request: int) -> Send:
        released = m.Released(
            store=barrier.store,
            step=barrier.clock,
            request=request,
            epoch=self.epoch,
            n=barrier.n,
        )
        return Send(to, released)

    def _complete_barriers(self) -> list[Effect]:
        assert self.table is not None
        effects: list[Effect] = []
        for barrier, arrived in self.barriers.complete(self._live()):
            for rank, request in sorted(arrived.items()):
                member = self.table.member(rank)
                assert member is not None
                effects.append(self._released(member.node, barrier, request))
        return effects

    def _on_leave(self, node: Node, message: m.Leave, now: float) -> list[Effect]:
        """A worker's script has ended; rounds of its later steps close without it (R22)."""
        ack = Send(node.id, m.LeaveAck(request=message.request, epoch=self.epoch))
        if node.left or self.table is None or self.phase is Phase.STOPPING:
            return [ack]
        node.left = True
        member = self.table.member(node.id.rank)
        assert member is not None
        self._counter += 1
        self.table = self.table.with_member(self.epoch, replace(member, until=message.until))
        effects = [*self._publish(now), ack]
        if self._all_gone():
            return effects + self._finish(now)
        return effects + self._complete_barriers()

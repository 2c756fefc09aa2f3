# SPDX-License-Identifier: Apache-2.0
"""A server that wants to end gives its shards to others first (PROTOCOL R18).

It seals each shard that another server holds too: nothing closes any more, and when all is
committed the scheduler may give the shard away. It ends when it holds nothing.
"""

from __future__ import annotations

from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect, Send, Stop
from kvtrain.ps.core.membership import SCHEDULER, NodeId
from kvtrain.ps.core.server.state import Stage
from kvtrain.ps.core.server.waits import Waits


class Handovers(Waits):
    """The voluntary end."""

    def hand_over(self, now: float) -> list[Effect]:
        """Somebody wants this process to end (SIGTERM); asked twice, it ends at once."""
        if self.table is None or self._handing_over:
            return [Stop()]
        self._handing_over = True
        self._drain_until = now + self.settings.drain_timeout
        return self._outbox.ask(
            "handover", lambda: [Send(SCHEDULER, m.Handover(epoch=self._epoch()))], now
        )

    def _seal(self, now: float) -> list[Effect]:
        """Seal what others hold too, and say what may be given away."""
        if not self._handing_over or self.table is None:
            return []
        ready: list[m.ShardView] = []
        for shard in self._shards:
            others = sum(p.required and not p.learner for p in shard.peers.values())
            # who is being filled is waited for: others may want to end as well
            filling = any(p.learner for p in shard.peers.values())
            late = others and not filling and now >= self._drain_until
            safe = others > self.settings.replicas or late
            if shard.stage is Stage.PRIMARY and safe:
                shard.sealed = True
                if shard.log.committed == shard.log.lsn:
                    ready.append(m.ShardView(shard.number, shard.view))
        if tuple(ready) == self._sealed:
            return []
        self._sealed = tuple(ready)
        if not ready:
            self._outbox.answered("sealed")
            return []
        sealed = m.Sealed(epoch=self._epoch(), shards=self._sealed)
        return self._outbox.ask("sealed", lambda: [Send(SCHEDULER, sealed)], now)

    def _on_leave_ack(self, sender: NodeId, message: m.LeaveAck) -> list[Effect]:
        """Nothing is held here any more."""
        return [Send(SCHEDULER, m.Stopped(epoch=message.epoch)), Stop()]

    def address_of(self, server: NodeId) -> str | None:
        """Where another server of the table listens; None if it is not in the table."""
        info = None if self.table is None else self.table.server(server)
        return None if info is None else info.address

# SPDX-License-Identifier: Apache-2.0
"""Reads under a gate wait for the clocks of slow workers (PROTOCOL R42)."""

from __future__ import annotations

from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect
from kvtrain.ps.core.membership import NodeId
from kvtrain.ps.core.server.reads import Reads


class Gates(Reads):
    """Takes clocks and lets readers pass."""

    def _on_clock(self, sender: NodeId, message: m.Clock, now: float) -> list[Effect]:
        store = self._store(message.store)
        if store.clocks.tell(sender, message.step):
            self._open_gates(message.store)
        known = store.clocks.told[sender]
        self._replies.send(sender, m.ClockAck(store=message.store, step=known))
        return []

    def _open_gates(self, number: int) -> None:
        """Clocks or members have changed: answer the reads that may be answered now."""
        assert self.table is not None
        store = self._store(number)
        for key, (chunk, reader) in list(store.gated.items()):
            if store.clocks.passes(self.table, reader.gate):
                del store.gated[key]
                self._read(chunk, reader)

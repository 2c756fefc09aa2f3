# SPDX-License-Identifier: Apache-2.0
"""Tells the servers this worker's clock, once what it stands for is acknowledged (R42)."""

from __future__ import annotations

from collections.abc import Callable

from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect, Send
from kvtrain.ps.core.membership import NodeId
from kvtrain.ps.core.worker.keys import StoresAndKeys


class TellsClocks(StoresAndKeys):
    """Every server is told, touched or not, again and again until it answers."""

    def _tell_clock(self, number: int, now: float) -> list[Effect]:
        """Tell the clock of a store with bounded staleness, if it has risen."""
        if not 0 <= number < len(self._stores):
            return []
        store = self._stores[number]
        if not (store.bounded or (self._has_joiners and self._is_waited_for(number))):
            return []
        if store.clock.news(store.step) is None:
            return []
        return self._tell_servers(number, now)

    def _is_waited_for(self, number: int) -> bool:
        """Whether a joiner's first read waits for the step that was ended now (R23)."""
        assert self.table is not None
        told, clock = self._stores[number].clock.told, self._stores[number].clock.reached
        reached = clock(self._stores[number].step)
        return any(told < mem.from_step(number) <= reached for mem in self.table.members)

    def _tell_servers(self, number: int, now: float) -> list[Effect]:
        assert self.table is not None
        effects: list[Effect] = []
        for info in self.table.servers:
            again = self._clock_to(info.node, number)
            effects += self._outbox.ask(("clock", info.node, number, "clock"), again, now)
        return effects

    def _clock_to(self, server: NodeId, number: int) -> Callable[[], list[Effect]]:
        def again() -> list[Effect]:
            clock = self._stores[number].clock.told
            return [Send(server, m.Clock(store=number, step=clock, epoch=self.epoch))]

        return again

    def _tell_clocks_again(self, now: float) -> list[Effect]:
        """A new table may name servers that have not heard of the clocks."""
        effects: list[Effect] = []
        for number, store in enumerate(self._stores):
            if (store.bounded or self._has_joiners) and store.clock.told:
                effects += self._tell_servers(number, now)
            effects += self._tell_clock(number, now)
        return effects

    def _on_clock_ack(self, sender: NodeId, message: m.ClockAck) -> list[Effect]:
        held = 0 <= message.store < len(self._stores)
        if held and message.step >= self._stores[message.store].clock.told:
            self._outbox.answered(("clock", sender, message.store, "clock"))
        return []

# SPDX-License-Identifier: Apache-2.0
"""A worker that waits for others says so: rounds with backup workers close without it (R40)."""

from __future__ import annotations

from collections.abc import Callable

from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect, Send
from kvtrain.ps.core.membership import NodeId
from kvtrain.ps.core.worker.rows import RowRequests


class Standstills(RowRequests):
    """Every server is told, as of clocks: any of them may come to decide for a shard."""

    def _rest(self, request: int, now: float) -> list[Effect]:
        """The program waits for `request`: in each store, once all of it is acknowledged, nothing
        is contributed until the answer has come."""
        effects: list[Effect] = []
        for number, store in enumerate(self._stores):
            if store.backups:
                effects += self._when_drained(number, self._rest_in(number, request), now)
        return effects

    def _rest_in(self, number: int, request: int) -> Callable[[float], list[Effect]]:
        def then(now: float) -> list[Effect]:
            return self._begin_rest(number, now) if request in self._requests else []

        return then

    def _begin_rest(self, number: int, now: float) -> list[Effect]:
        store = self._stores[number]
        store.standstills += 1
        store.resting = store.step
        return self._tell_rest(number, now)

    def _ask_what_became(self, now: float) -> list[Effect]:
        """The program waits long for one store: meanwhile it contributes nothing to others. Two
        workers that are steps apart might else wait for each other, each in another store."""
        effects = super()._ask_what_became(now)
        for number, store in enumerate(self._stores):
            if store.backups and store.resting is None and not self._unacknowledged(number, False):
                effects += self._begin_rest(number, now)
        return effects

    def _go_on(self) -> None:
        for number, store in enumerate(self._stores):
            store.resting = None
            self._outbox.forget(
                lambda key, n=number: isinstance(key, tuple) and key[2:] == (n, "rest")  # type: ignore[misc]
            )

    def _tell_rest(self, number: int, now: float) -> list[Effect]:
        assert self.table is not None
        effects: list[Effect] = []
        for info in self.table.servers:
            again = self._rest_to(info.node, number)
            effects += self._outbox.ask(("clock", info.node, number, "rest"), again, now)
        return effects

    def _rest_to(self, server: NodeId, number: int) -> Callable[[], list[Effect]]:
        store = self._stores[number]
        step, n = store.step, store.standstills

        def again() -> list[Effect]:
            return [Send(server, m.Resting(store=number, step=step, n=n, epoch=self.epoch))]

        return again

    def _tell_rests_again(self, now: float) -> list[Effect]:
        """A new table may name servers that have not heard of it."""
        effects: list[Effect] = []
        for number, store in enumerate(self._stores):
            if store.resting is not None:
                effects += self._tell_rest(number, now)
        return effects

    def _on_resting_known(self, sender: NodeId, message: m.RestingKnown) -> list[Effect]:
        if 0 <= message.store < len(self._stores):
            if message.n == self._stores[message.store].standstills:
                self._outbox.answered(("clock", sender, message.store, "rest"))
        return []

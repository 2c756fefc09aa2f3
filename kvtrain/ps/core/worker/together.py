# SPDX-License-Identifier: Apache-2.0
"""What workers do together: barriers, optimizers, hyper-parameters, steps, statistics."""

from __future__ import annotations

from kvtrain.ps.core import messages as m
from kvtrain.ps.core import requests as r
from kvtrain.ps.core.effects import Effect
from kvtrain.ps.core.membership import NodeId, StoreClock
from kvtrain.ps.core.worker.standstills import Standstills


class Together(Standstills):
    """Requests that concern the whole store."""

    def _barrier(self, number: int, request: r.BarrierRequest, now: float) -> list[Effect]:
        """Of async keys everything of before is applied first; of sync keys that might wait for
        others who push only after the barrier."""
        store = self._stores[request.store]
        if store.resumed:
            return self._done(number)  # those who were there have passed it (R48)
        # workers that jump are in steps of different numbers: their barriers are counted
        clock = 0 if store.backups else store.step
        message = m.Barrier(store=request.store, step=clock, request=number, n=store.barriers)
        store.barriers += 1

        def then(at: float) -> list[Effect]:
            asked = self._ask_scheduler("barrier", number, message, at)
            return asked + self._rest(number, at)

        return self._when_drained(request.store, then, now, free_only=not store.backups)

    def _on_released(self, message: m.Released) -> list[Effect]:
        """Everybody arrived; who has passed can prove it to another scheduler (R48)."""
        if ("barrier", message.request) in self._outbox and message.store < len(self._stores):
            self._stores[message.store].passed = (message.step, message.n)
            self._go_on()
        return self._answered(("barrier", message.request), message.request)

    def _set_optimizer(
        self, number: int, request: r.SetOptimizerRequest, now: float
    ) -> list[Effect]:
        store = self._stores[request.store]
        store.optimizers += 1
        message = m.SetOptimizer(
            store=request.store,
            request=number,
            epoch=self.epoch,
            number=store.optimizers,
            name=request.name,
            config=request.config,
        )

        def then(at: float) -> list[Effect]:
            return self._ask_servers("optimizer", number, message, at)

        return self._when_drained(request.store, then, now)

    def _on_optimizer_set(
        self, sender: NodeId, message: m.OptimizerSet, now: float
    ) -> list[Effect]:
        """An answer counts for the shards of the table under which it was asked: by an older one
        the server may have held fewer, by a newer one others hold them (R19)."""
        open_ = self._requests.get(message.request)
        if open_ is None or open_.to_servers is None or message.epoch < open_.to_servers[1].epoch:
            return []
        if message.epoch > self.epoch:
            return self._want_table(now)
        return self._part_done(message.request, ("optimizer", sender))

    def _set_hyper(self, number: int, request: r.SetHyperRequest, now: float) -> list[Effect]:
        store = self._stores[request.store]
        store.hyper_number += 1
        command = m.HyperCommand(store.hyper_number, request.name, float(request.value))
        store.hyper[request.name] = command
        return self._done(number)

    def _tick(self, number: int, request: r.TickRequest, now: float) -> list[Effect]:
        store = self._stores[request.store]
        if not store.backups:
            return self._end_step(number, request.store, now)
        # what the next step is, the replies of this one say
        return self._when_drained(
            request.store, lambda at: self._end_step(number, request.store, at), now
        )

    def _end_step(self, number: int, ordinal: int, now: float) -> list[Effect]:
        store = self._stores[ordinal]
        store.step, store.closed, store.was_dropped = store.next_step(), -1, False
        store.pushed.clear()
        if store.backups:
            self._go_on()
        else:
            store.barriers = 0
        self._count_members(ordinal)
        told = self._tell_clock(ordinal, now)
        return [*told, *self._tell_hold(now), *self._done(number)]

    def _save_checkpoint(
        self, number: int, request: r.SaveCheckpointRequest, now: float
    ) -> list[Effect]:
        """With everything acknowledged this worker stands still until the files are there."""

        def then(at: float) -> list[Effect]:
            clocks = tuple(StoreClock(i, s.step) for i, s in enumerate(self._stores))
            message = m.SaveCheckpoint(
                request=number, epoch=self.epoch, directory=request.directory, clocks=clocks
            )
            asked = self._ask_scheduler("save", number, message, at)
            return asked + self._tell_hold(at) + self._rest(number, at)

        return self._when_drained(None, then, now)

    def _stats(self, number: int, request: r.StatsRequestOf, now: float) -> list[Effect]:
        self._requests[number].value = []
        message = m.StatsRequest(store=request.store, request=number, epoch=self.epoch)
        return self._ask_servers("stats", number, message, now)

    def _on_stats_reply(self, sender: NodeId, message: m.StatsReply) -> list[Effect]:
        open_ = self._requests.get(message.request)
        if open_ is not None and ("stats", sender) in open_.parts:
            open_.value.append(message.stats)
            open_.value.sort(key=lambda stats: int(stats.get("server", 0)))
        return self._part_done(message.request, ("stats", sender))

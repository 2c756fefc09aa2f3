# SPDX-License-Identifier: Apache-2.0
"""The optimizers of the stores, and statistics."""

from __future__ import annotations

from typing import Any

from kvtrain._version import __version__
from kvtrain.errors import (
    KeyMismatch,
)
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect
from kvtrain.ps.core.membership import NodeId
from kvtrain.ps.core.rows import StoredRows
from kvtrain.ps.core.server.keys import Keys
from kvtrain.ps.core.server.state import Store


class OptimizersAndStats(Keys):
    """SetOptimizer: rank 0's counts, the others agree with it."""

    def _on_set_optimizer(
        self, sender: NodeId, message: m.SetOptimizer, now: float
    ) -> list[Effect]:
        store = self._store(message.store)
        if sender.rank == 0 and message.number > store.optimizers.number:
            self._account.new_optimizer(
                message.store, self._make_optimizer(message.name, message.config)
            )
            store.optimizers.install(message.number, message.name, message.config)
        if message.number > store.optimizers.number:
            store.waiting[sender] = (message, now)
            return []
        self._optimizer_set(store, sender, message)
        for other, (waiting, _) in list(store.waiting.items()):
            if waiting.number <= store.optimizers.number:
                del store.waiting[other]
                self._optimizer_set(store, other, waiting)
        return []

    def _optimizer_set(self, store: Store, to: NodeId, message: m.SetOptimizer) -> None:
        ours = store.optimizers
        if message.number == ours.number:
            mine, theirs = (ours.name, ours.config), (message.name, message.config)
            if _without_rescale(mine) != _without_rescale(theirs):
                error = KeyMismatch(
                    f"the optimizers of store {message.store} differ: "
                    f"rank 0 set {mine}, {to} {theirs}"
                )
                self._replies.push(self._error(to, message, error))
                return
        self._replies.send(
            to,
            m.OptimizerSet(store=message.store, request=message.request, number=message.number),
        )

    def _on_stats_request(
        self, sender: NodeId, message: m.StatsRequest, now: float
    ) -> list[Effect]:
        store = self._store(message.store)
        keys = [c for c in self._chunks.values() if c.entry.store == message.store]
        stats: dict[str, Any] = {
            "server": self.node.rank,
            "version": __version__,
            "chunks": len(keys),
            "optimizer": store.optimizers.name,
            **store.counters,
            "rows_held": sum(c.stored.held for c in keys if isinstance(c.stored, StoredRows)),
            **self._account.to_plain(),
            "staleness": store.staleness.to_plain(),
            "lead": store.lead.to_plain(),
        }
        self._replies.send(
            sender, m.StatsReply(store=message.store, request=message.request, stats=stats)
        )
        return []


def _without_rescale(optimizer: tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    name, config = optimizer
    return name, {k: v for k, v in config.items() if k != "rescale_grad"}

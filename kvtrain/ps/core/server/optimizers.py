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
from kvtrain.ps.core.row_table import StoredRows
from kvtrain.ps.core.server.keys import Keys
from kvtrain.ps.core.server.state import Shard, Store
from kvtrain.ps.core.store import Optimizers


class OptimizersAndStats(Keys):
    """SetOptimizer: the lowest live rank's counts, the others agree with it."""

    def _on_set_optimizer(
        self, sender: NodeId, message: m.SetOptimizer, now: float
    ) -> list[Effect]:
        assert self.table is not None
        if message.epoch > self.table.epoch:
            # by the sender's table this server may decide for shards that it does not know of
            self._want_table(now)
            return []
        if any(shard.primary == self.node and not shard.decides for shard in self._shards):
            return []  # refused in an older view: the newer table is on its way; asked again
        store = self._store(message.store)
        if sender.rank == self._first() and message.number > store.optimizers.number:
            made = self._optimizers(message.store, message.number, message.name, message.config)
            for effect in self._check_restored(message.store, made):
                self._replies.push(effect)
        if message.number > store.optimizers.number:
            # it asks again and again; its deadline counts from the first time
            known = store.waiting.get(sender)
            since = known[1] if known and known[0].number == message.number else now
            store.waiting[sender] = (message, since)
            return []
        ours = store.optimizers
        mine = [shard for shard in self._shards if shard.decides]
        if any(shard.sealed and not _has(shard, message.store, ours) for shard in mine):
            return []  # nothing is added to what changes hands: asked again, elsewhere (R18)
        for shard in mine:
            held = shard.optimizers.get(message.store)
            if held is None or held.number < ours.number:
                shard.optimizers[message.store] = ours
                self._append(
                    shard,
                    lambda lsn, s=shard: (_entry_of(s, message.store, ours, lsn), ()),  # type: ignore[misc]
                    lambda: None,
                )
        answered, shards = [(sender, message)], self._shards
        for other, (waiting, _) in list(store.waiting.items()):
            if waiting.number <= ours.number:
                del store.waiting[other]
                answered.append((other, waiting))

        def set_() -> None:
            if any(s.primary == self.node and not _has(s, message.store, ours) for s in shards):
                return  # more shards are its own by now: asked again
            for to, asked in answered:
                self._optimizer_set(store, to, asked)

        self._when_all_committed(mine, set_)
        return []

    def _first(self) -> int:
        """Rank of the worker whose optimizer counts: 0, or the lowest one that goes on without."""
        assert self.table is not None
        return min((mem.node.rank for mem in self.table.members if not mem.gone), default=0)

    def _check_restored(self, number: int, ours: Optimizers) -> list[Effect]:
        """The store's first optimizer after a checkpoint: do its saved states belong to it?"""
        raise NotImplementedError

    def _optimizers(
        self, number: int, version: int, name: str, config: dict[str, Any]
    ) -> Optimizers:
        """The store's `version`-th optimizer; the latest is remembered for comparisons."""
        store = self._store(number)
        if store.optimizers.number == version:
            return store.optimizers
        made = Optimizers(self._make_optimizer)
        made.install(version, name, config)
        if version > store.optimizers.number:
            self._account.new_optimizer(number, made.under({}))
            store.optimizers = made
        return made

    def _optimizer_set(self, store: Store, to: NodeId, message: m.SetOptimizer) -> None:
        ours = store.optimizers
        if message.number == ours.number:
            mine, theirs = (ours.name, ours.config), (message.name, message.config)
            if _without_own(mine) != _without_own(theirs):
                error = KeyMismatch(
                    f"the optimizers of store {message.store} differ: "
                    f"rank {self._first()} set {mine}, {to} {theirs}"
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
            "dropped": {str(rank): n for rank, n in sorted(store.dropped.items())},
            "staleness": store.staleness.to_plain(),
            "lead": store.lead.to_plain(),
        }
        self._replies.send(
            sender, m.StatsReply(store=message.store, request=message.request, stats=stats)
        )
        return []


def _has(shard: Shard, store: int, wanted: Optimizers) -> bool:
    """Whether a shard is under that optimizer of the store, or a later one."""
    held = shard.optimizers.get(store)
    return shard.decides and held is not None and held.number >= wanted.number


def _entry_of(shard: Shard, store: int, optimizers: Optimizers, lsn: int) -> m.LogEntry:
    return m.LogEntry(
        shard=shard.number,
        lsn=lsn,
        kind="optimizer",
        store=store,
        number=optimizers.number,
        name=optimizers.name,
        config=optimizers.config,
    )


def _without_own(optimizer: tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    name, config = optimizer
    # each worker's own: its batch, and the seed of its random numbers
    return name, {k: v for k, v in config.items() if k not in ("rescale_grad", "seed")}

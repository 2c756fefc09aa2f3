# SPDX-License-Identifier: Apache-2.0
"""A job that goes on from a checkpoint: every replica reads its shards before it is ready."""

from __future__ import annotations

import numpy as np

from kvtrain.errors import CheckpointError, to_wire
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect, LoadShards, Note, Send
from kvtrain.ps.core.membership import NO_EPOCH, SCHEDULER, Epoch, Table
from kvtrain.ps.core.messages.disk import ShardsLoaded
from kvtrain.ps.core.saved import SavedChunk, SavedStore
from kvtrain.ps.core.server.states import OptimizerStates
from kvtrain.ps.core.shards import KeyEntry
from kvtrain.ps.core.store import Optimizers


class Restoring(OptimizerStates):
    """Chunks, states and counters from a checkpoint."""

    #: shards that are being read; until they are there nothing is installed
    _restoring = False
    #: optimizers that made the restored states, by store
    _restored: dict[int, SavedStore]

    def _begin_restore(self, table: Table) -> list[Effect]:
        """Only in the first table of the job: later servers are filled by a primary."""
        if not self.settings.restore or table.epoch.counter != 1:
            return []
        mine = tuple(n for n, info in enumerate(table.shards) if self.node in info.replicas)
        if not mine:
            return []
        self._restoring = True
        return [LoadShards(self.settings.restore, mine)]

    def _told_epoch(self) -> Epoch:
        """The epoch that the scheduler may know to be installed."""
        assert self.table is not None
        return NO_EPOCH if self._restoring else self.table.epoch

    def _on_shards_loaded(self, message: ShardsLoaded, now: float) -> list[Effect]:
        if not self._restoring:
            return []
        if message.job is None or message.error:
            error = CheckpointError(f"{self.node} cannot go on from it: {message.error}")
            name, fields = to_wire(error)
            failure = m.Failure(name=name, fields=tuple(map(str, fields)))
            return self._outbox.ask("failure", lambda: [Send(SCHEDULER, failure)], now)
        entries = {entry.id: entry for entry in message.job.keys}
        self._restored = {store.number: store for store in message.job.stores}
        for saved in message.chunks:
            entry = entries[saved.chunk.key]
            self._restore_chunk(entry, self._restored[entry.store].sync, saved)
        self._restoring = False
        assert self.table is not None
        return [Send(SCHEDULER, m.Installed(epoch=self.table.epoch))]

    def _restore_chunk(self, entry: KeyEntry, sync: bool, saved: SavedChunk) -> None:
        low, high = entry.bounds(saved.chunk.part)
        dtype = np.uint8 if entry.row_parts else entry.spec.dtype
        nothing = np.empty(0 if entry.row_parts else high - low, dtype)
        chunk = self._make_chunk(saved.chunk, entry, sync, nothing, saved.weight.nbytes)
        stored = chunk.stored
        stored.version = saved.version
        stored.restore(saved.arrays, saved.image)
        self._recount(chunk)
        hyper = saved.extra.get("hyper", {})
        stored.hyper = {str(name): float(value) for name, value in hyper.items()}
        if saved.extra.get("optimizer_number"):
            # the script that goes on sets its optimizer for the first time
            stored.optimizer_number = 1
            stored.base_version = int(saved.extra.get("base_version", 0))

    def _check_restored(self, number: int, ours: Optimizers) -> list[Effect]:
        """A first optimizer of another class than the saved one begins with fresh states."""
        saved = getattr(self, "_restored", {}).pop(number, None)
        if saved is None or not saved.optimizer or saved.optimizer == ours.name:
            return []
        for chunk in self._chunks.values():
            if chunk.entry.store == number:
                chunk.stored.state, chunk.stored.optimizer_number = None, 0
        return [
            Note(
                f"store {number} goes on with optimizer {ours.name}; the states in the checkpoint "
                f"are {saved.optimizer}'s and are not used"
            )
        ]

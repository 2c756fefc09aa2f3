# SPDX-License-Identifier: Apache-2.0
"""Keys come into being once, at version 0 (PROTOCOL R47)."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.errors import (
    KVTrainError,
    RemoteProtocolError,
)
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.clocks import is_sync
from kvtrain.ps.core.codecs import check_plain
from kvtrain.ps.core.effects import Effect
from kvtrain.ps.core.membership import NodeId
from kvtrain.ps.core.rounds import AsyncLedger, SyncLedger
from kvtrain.ps.core.rows import PACKED, check_packed, make_rows
from kvtrain.ps.core.server.contributions import Contributions
from kvtrain.ps.core.server.state import Chunk
from kvtrain.ps.core.shards import ChunkId
from kvtrain.ps.core.store import StoredChunk


class Keys(Contributions):
    """Init, and what came before it."""

    def _on_init(self, sender: NodeId, message: m.Init, now: float) -> list[Effect]:
        """Create chunks at version 0; one that exists is never touched again (R47)."""
        entries = {entry.id: entry for entry in message.entries}
        if len(message.arrays) != len(message.chunks):
            raise RemoteProtocolError("Init: as many arrays as chunks are needed")
        fresh: list[ChunkId] = []
        for chunk_id, array in zip(message.chunks, message.arrays, strict=True):
            if chunk_id in self._chunks:
                continue
            entry = entries.get(chunk_id.key)
            if entry is None or not 0 <= chunk_id.part < entry.chunks:
                raise RemoteProtocolError(f"Init: {chunk_id} is not in the directory it came with")
            self._check_primary(entry, chunk_id)
            if entry.row_parts:
                check_packed(entry, chunk_id, PACKED, array, "init")
            else:
                check_plain(entry, chunk_id, array, "init")
            ledger = (
                SyncLedger()
                if is_sync(entry.spec.consistency, message.sync)
                else AsyncLedger(window=self.settings.async_window)
            )
            name: str | int = int(entry.spec.name) if entry.spec.numeric else entry.spec.name
            self._account.new_weights(entry.store, array.nbytes)
            stored: StoredChunk
            if entry.row_parts:
                stored = make_rows(entry, chunk_id, name, np.asarray(array))
            else:
                whole = entry.spec.shape if entry.spec.whole else None
                slot = self._memory.take(array.nbytes)
                weight = slot.data.view(array.dtype)
                np.copyto(weight, array)
                stored = StoredChunk(chunk_id, name, 0, weight, whole, slot=slot)
            self._entries[entry.id] = entry
            self._chunks[chunk_id] = Chunk(stored, entry, ledger)
            fresh.append(chunk_id)
        self._replies.send(
            sender, m.InitDone(store=message.store, step=message.step, request=message.request)
        )
        return self._take_early(set(fresh), now)

    def _take_early(self, fresh: set[ChunkId], now: float) -> list[Effect]:
        effects: list[Effect] = []
        for key in [k for k in self._early if k[1] in fresh]:
            early = self._early.pop(key)
            handle: Any = self._on_pull
            if isinstance(early.message, m.Push | m.RowPull):
                pushed = isinstance(early.message, m.Push)
                handle = self._on_push if pushed else self._on_row_pull
            try:
                effects += handle(early.sender, early.message, now)
            except KVTrainError as error:
                effects.append(self._error(early.sender, early.message, error))
        return effects

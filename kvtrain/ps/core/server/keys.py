# SPDX-License-Identifier: Apache-2.0
"""Keys come into being once, at version 0 (PROTOCOL R47)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.errors import (
    KVTrainError,
    RemoteProtocolError,
)
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.backup import BackupLedger, backups_of
from kvtrain.ps.core.clocks import is_sync
from kvtrain.ps.core.codecs import check_plain
from kvtrain.ps.core.effects import Effect
from kvtrain.ps.core.log import Array
from kvtrain.ps.core.membership import NodeId
from kvtrain.ps.core.memory import PAGED
from kvtrain.ps.core.rounds import AsyncLedger, SyncLedger
from kvtrain.ps.core.row_table import make_rows
from kvtrain.ps.core.rows import PACKED, check_packed
from kvtrain.ps.core.server.contributions import Contributions
from kvtrain.ps.core.server.state import Chunk, Shard
from kvtrain.ps.core.shards import ChunkId, KeyEntry
from kvtrain.ps.core.store import StoredChunk


class Keys(Contributions):
    """Init, and what came before it."""

    def _on_init(self, sender: NodeId, message: m.Init, now: float) -> list[Effect]:
        """Create chunks at version 0; one that exists is never touched again (R47)."""
        entries = {entry.id: entry for entry in message.entries}
        if len(message.arrays) != len(message.chunks):
            raise RemoteProtocolError("Init: as many arrays as chunks are needed")
        made: list[tuple[Chunk, Array]] = []
        shards: dict[Shard, None] = {}
        for chunk_id, array in zip(message.chunks, message.arrays, strict=True):
            entry = entries.get(chunk_id.key)
            if entry is None or not 0 <= chunk_id.part < entry.chunks:
                raise RemoteProtocolError(f"Init: {chunk_id} is not in the directory it came with")
            check_first(entry, chunk_id, array, "init")
            shard = self._shard_of(entry, chunk_id)
            if not self._takes(sender, shard, shard.view, now) or shard.sealed:
                return []  # the sender will learn who decides now, and send everything again
            shards[shard] = None
        for chunk_id, array in zip(message.chunks, message.arrays, strict=True):
            if chunk_id not in self._chunks:
                chunk = self._make_chunk(
                    chunk_id, entries[chunk_id.key], message.sync, array, array.nbytes
                )
                chunk.pending = []
                made.append((chunk, array))
        for chunk, array in made:
            self._append(
                chunk.shard,
                lambda lsn, c=chunk, a=array: _entry_of(c, a, lsn),  # type: ignore[misc]
                lambda c=chunk: self._made(c),  # type: ignore[misc]
            )
        done = m.InitDone(
            store=message.store, step=message.step, request=message.request, chunks=message.chunks
        )
        self._when_all_committed(list(shards), lambda: self._replies.send(sender, done))
        return self._take_early({chunk.stored.id for chunk, _ in made}, now)

    def _make_chunk(
        self, chunk_id: ChunkId, entry: KeyEntry, sync: bool, array: Array, nbytes: int
    ) -> Chunk:
        rounds = is_sync(entry.spec.consistency, sync)
        kept = nbytes if self._keeps and rounds and not entry.row_parts else 0
        self._make_room(self._account.needs(entry.store, nbytes, kept))
        self._account.new_weights(entry.store, nbytes, kept)
        backups = backups_of(entry.spec.consistency)
        ledger: SyncLedger | AsyncLedger
        if backups:
            ledger = BackupLedger(backups=backups)
        else:
            ledger = SyncLedger() if rounds else AsyncLedger(window=self.settings.async_window)
        name: str | int = int(entry.spec.name) if entry.spec.numeric else entry.spec.name
        stored: StoredChunk
        if entry.row_parts:
            stored = make_rows(entry, chunk_id, name, np.asarray(array))
        else:
            whole = entry.spec.shape if entry.spec.whole else None
            # parts of a key begin at pages, so that a worker can map them one behind the other
            room = array.nbytes if entry.chunks == 1 else max(array.nbytes, PAGED)
            slot = self._memory.take(room)
            weight = slot.data[: array.nbytes].view(array.dtype)
            np.copyto(weight, array)
            stored = StoredChunk(chunk_id, name, 0, weight, whole, slot=slot)
        shard = self._shard_of(entry, chunk_id)
        shard.chunks.add(chunk_id)
        self._entries[entry.id] = entry
        chunk = self._chunks[chunk_id] = Chunk(stored, entry, shard, ledger, nbytes, kept)
        self._recount(chunk)
        return chunk

    def _made(self, chunk: Chunk) -> None:
        """A new chunk is committed."""
        chunk.pending = None
        self._settle(chunk)

    def _when_all_committed(self, shards: list[Shard], then: Callable[[], None]) -> None:
        """Call `then` once all that is in these logs now is committed."""
        left = len(shards)

        def one() -> None:
            nonlocal left
            left -= 1
            if not left:
                then()

        if not shards:
            then()
        for shard in shards:
            self._when_committed(shard, one)

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


def _entry_of(chunk: Chunk, array: Array, lsn: int) -> tuple[m.LogEntry, tuple[Array, ...]]:
    entry = m.LogEntry(
        shard=chunk.shard.number,
        lsn=lsn,
        kind="init",
        store=chunk.entry.store,
        arrays=1,
        chunk=chunk.stored.id,
        key=chunk.entry,
        sync=isinstance(chunk.ledger, SyncLedger),
    )
    return entry, (np.array(array),)


def check_first(entry: KeyEntry, chunk_id: ChunkId, array: Array, what: str) -> None:
    """Raise KeyMismatch or RemoteProtocolError unless `array` can be a chunk's first value."""
    if entry.row_parts:
        check_packed(entry, chunk_id, PACKED, array, what)
    else:
        check_plain(entry, chunk_id, array, what)

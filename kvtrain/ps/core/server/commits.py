# SPDX-License-Identifier: Apache-2.0
"""A closed round becomes a record, the record is committed, and only then is anybody told.

collecting -> reduced -> committed (PROTOCOL R1, R2).
"""

from __future__ import annotations

from typing import Any

from kvtrain.ps.core import messages as m
from kvtrain.ps.core.memory import intact
from kvtrain.ps.core.rounds import Part, SyncLedger
from kvtrain.ps.core.rows import StoredRows
from kvtrain.ps.core.server.gates import Gates
from kvtrain.ps.core.server.state import Chunk
from kvtrain.ps.core.shards import ChunkId
from kvtrain.ps.core.store import Record, StoredChunk


class Commits(Gates):
    """From a closed round to its acknowledgements."""

    def _reduce(self, chunk_id: ChunkId, chunk: Chunk, parts: list[Part]) -> None:
        """One record: hyper commands first, then the ordered sum and the update."""
        stored, store = chunk.stored, self._store(chunk.entry.store)
        if not isinstance(chunk.ledger, SyncLedger):
            self._count_push(chunk, parts[0].node.rank)
        self._apply_hyper(stored, parts)
        full = [p for p in parts if p.array is not None]
        arrays = [p.array for p in full if p.array is not None]
        for array in arrays:
            self._account.let_go(array)
        if store.optimizers.installed:
            step = parts[0].round.step
            at = step + 1 if isinstance(chunk.ledger, SyncLedger) and step > 0 else None
            scales = [p.rescale_grad for p in full]
            self._arithmetic_of(stored).update(stored, arrays, scales, store.optimizers, at)
        else:
            self._arithmetic_of(stored).assign_sum(stored, arrays)
        if not all([intact(array) for array in arrays]):
            self._spoiled(chunk_id, chunk)
            return
        record = Record(
            store=chunk.entry.store,
            chunk=chunk_id,
            round=parts[0].round,
            version_before=stored.version,
            version=stored.version + 1,
            members=tuple(p.node for p in parts),
            hyper=tuple(sorted(stored.hyper.items())),
            arrays=tuple(p.array for p in parts),
        )
        # with replicas the record goes to them here, and the commit waits for their answers
        self._commit(chunk, record, parts)

    def _arithmetic_of(self, stored: StoredChunk) -> Any:
        return self._row_arithmetic if isinstance(stored, StoredRows) else self._arithmetic

    def _spoiled(self, chunk_id: ChunkId, chunk: Chunk) -> None:
        """A contribution was written while it was read: its worker has been told that it is
        counted, so another server decides for this chunk and what is here is void (R20, R34)."""
        del self._chunks[chunk_id]
        self._open.discard(chunk_id)
        self._replies.note(
            f"{self.node}: a contribution to key {chunk.entry.spec.name!r} changed while it was "
            "read; this server's copy is dropped, it must have been replaced"
        )

    def _apply_hyper(self, stored: StoredChunk, parts: list[Part]) -> None:
        """Newly carried commands, highest rank first, so that the lowest wins (R45)."""
        for part in sorted(parts, key=lambda p: -p.node.rank):
            incarnation, seen = stored.hyper_seen.get(part.node.rank, (part.node.incarnation, 0))
            if incarnation != part.node.incarnation:
                seen = 0
            for command in sorted(part.hyper, key=lambda c: c.number):
                if command.number > seen:
                    stored.hyper[command.name] = command.value
                    seen = command.number
            stored.hyper_seen[part.node.rank] = (part.node.incarnation, seen)

    def _commit(self, chunk: Chunk, record: Record, parts: list[Part]) -> None:
        """The record is everywhere it must be: make it visible and acknowledge (R1)."""
        chunk.stored.commit(record)
        self._store(record.store).counters["records"] += 1
        if self._observe is not None:
            self._observe(record)
        for part in parts:
            self._answer(chunk, part)
        waiting, chunk.readers = chunk.readers, []
        for reader in waiting:
            self._read(chunk, reader)

    def _answer(self, chunk: Chunk, part: Part) -> None:
        assert self.table is not None
        stored, entry = chunk.stored, chunk.entry
        verdict = m.Verdict(
            chunk=stored.id,
            view=self.table.shards[entry.shard(stored.id.part, len(self.table.shards))].view,
            round=part.round,
            counted=True,
            version=stored.version,
        )
        value = stored.committed(self._may_lend(chunk, part.node)) if part.want else None
        if value is not None and not stored.id.part and not isinstance(chunk.ledger, SyncLedger):
            chunk.read_by[part.node.rank] = stored.version
        if value is not None:
            self._store(entry.store).counters["bytes_out"] += int(value.nbytes)
        self._replies.verdict(part.node, entry.store, part.request, verdict, value)

# SPDX-License-Identifier: Apache-2.0
"""Reads: a value leaves the server only when it is committed and its reader's round is in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from kvtrain.errors import JobError, RemoteProtocolError
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.clocks import staleness_of
from kvtrain.ps.core.effects import Effect
from kvtrain.ps.core.membership import NodeId, Round
from kvtrain.ps.core.rounds import SyncLedger
from kvtrain.ps.core.row_table import StoredRows
from kvtrain.ps.core.rows import check_ids
from kvtrain.ps.core.server.state import EARLY_LIMIT, Chunk, Reader, ServerState, Stage


class Reads(ServerState):
    """Answers pulls (PROTOCOL R2)."""

    def _on_pull(self, sender: NodeId, message: m.Pull, now: float) -> list[Effect]:
        for read in message.chunks:
            chunk = self._chunks.get(read.chunk)
            if chunk is None:
                alone = replace(message, chunks=(read,))
                self._keep_early(sender, read.chunk, None, alone, now)
                continue
            if self._takes(sender, chunk.shard, read.view, now):
                after = read.after if read.after is not None else Round(-1, 0)
                reader = Reader(sender, message.request, after, read.gate, message.step, now)
                reader.cut = read.cut
                if chunk.entry.row_parts:
                    raise RemoteProtocolError(f"Pull of {read.chunk}: its key is row-sparse")
                self._read(chunk, reader)
        return []

    def _on_row_pull(self, sender: NodeId, message: m.RowPull, now: float) -> list[Effect]:
        if len(message.arrays) != len(message.chunks):
            raise RemoteProtocolError("RowPull: as many arrays as chunks are needed")
        for read, ids in zip(message.chunks, message.arrays, strict=True):
            chunk = self._chunks.get(read.chunk)
            if chunk is None:
                alone = replace(message, chunks=(read,), arrays=(ids,))
                self._keep_early(sender, read.chunk, None, alone, now)
                continue
            if not self._takes(sender, chunk.shard, read.view, now):
                continue
            if not chunk.entry.row_parts:
                raise RemoteProtocolError(f"RowPull of {read.chunk}: its key is dense")
            check_ids(chunk.entry, read.chunk.part, ids, "RowPull")
            after = read.after if read.after is not None else Round(-1, 0)
            reader = Reader(sender, message.request, after, read.gate, message.step, now)
            reader.rows, reader.cut = ids, read.cut
            self._read(chunk, reader)
        return []

    def _is_settled(self, chunk: Chunk) -> bool:
        """Whether the chunk's weights are committed and this server may show them."""
        return chunk.pending is None and chunk.shard.stage is Stage.PRIMARY

    def _read(self, chunk: Chunk, reader: Reader) -> None:
        stored, entry = chunk.stored, chunk.entry
        too_early = reader.after.step >= 0 and not chunk.ledger.is_over(reader.node, reader.after)
        if too_early or not self._is_settled(chunk):
            known = any(
                r.node == reader.node and r.request == reader.request for r in chunk.readers
            )
            if not known:
                chunk.readers.append(reader)
            return
        store = self._store(entry.store)
        assert self.table is not None
        if not store.clocks.passes(self.table, reader.gate):
            if len(store.gated) >= EARLY_LIMIT:
                raise JobError(f"{self.node} holds {EARLY_LIMIT} reads that wait for clocks")
            store.gated.setdefault((reader.node, reader.request, stored.id), (chunk, reader))
            return
        self._count_read(chunk, reader)
        if isinstance(stored, StoredRows):
            assert reader.rows is not None
            ids = np.asarray(reader.rows)
            cut = reader.cut >= 0 and self._closed_in(chunk, reader.cut)
            value = stored.before_step(ids) if cut else self._rows_for(chunk, stored, reader, ids)
        elif reader.cut >= 0 and self._closed_in(chunk, reader.cut):
            assert chunk.kept is not None
            value = chunk.kept.copy()
        else:
            value = stored.committed(self._may_lend(chunk, reader.node))
        counters = store.counters
        counters["pulls"] += stored.id.part == 0
        counters["bytes_out"] += int(value.nbytes)
        read = m.ChunkVersion(chunk=stored.id, view=chunk.shard.view, version=stored.version)
        self._replies.value(reader.node, entry.store, reader.request, read, value)

    def _rows_for(
        self, chunk: Chunk, stored: StoredRows, reader: Reader, ids: np.ndarray[Any, Any]
    ) -> np.ndarray[Any, Any]:
        """Rows in a slot that the reader may read in place; in private memory where the answer
        before may not have been read (in sync a worker contributes again only after that)."""
        size = ids.size * stored.width * stored.dtype.itemsize
        held = chunk.row_answers.get(reader.node.rank)
        free = held is None or held[1] < reader.after
        if not isinstance(chunk.ledger, SyncLedger) or reader.after.step < 0 or not (free and size):
            return stored.read(ids)
        if held is not None and held[0].data.nbytes >= size:
            slot = held[0]
            slot.rewrite()
        else:
            if held is not None:
                self._memory.give(held[0])
            slot = self._memory.take(size + size // 4)
        chunk.row_answers[reader.node.rank] = (slot, reader.after)
        out = slot.data[:size].view(stored.dtype)
        return stored.read(ids, out)

    def _closed_in(self, chunk: Chunk, cut: int) -> bool:
        """Whether a round of that step has closed here and what was before it is kept."""
        ledger, stored = chunk.ledger, chunk.stored
        kept = stored.kept if isinstance(stored, StoredRows) else chunk.kept
        if not isinstance(ledger, SyncLedger) or ledger.last_closed is None or kept is None:
            return False
        return ledger.last_closed.step >= cut

    @property
    def _keeps(self) -> bool:
        """Whether weights from before the last step are kept at all."""
        return self.settings.on_worker_loss == "restart"

    def _keep(self, chunk: Chunk, last: Round | None, round_: Round) -> None:
        """The first round of a step is about to change the weights (R25)."""
        if not self._keeps:
            return
        if last is not None and round_.step <= last.step:
            return
        if isinstance(chunk.stored, StoredRows):
            chunk.stored.keep_from_here()
        else:
            chunk.kept = chunk.stored.committed()

    def _count_read(self, chunk: Chunk, reader: Reader) -> None:
        """What statistics say about staleness, by the first chunk of each key."""
        if chunk.stored.id.part or isinstance(chunk.ledger, SyncLedger):
            return
        chunk.read_by[reader.node.rank] = chunk.stored.version
        if staleness_of(chunk.entry.spec.consistency) is not None and self.table is not None:
            store = self._store(chunk.entry.store)
            slowest = store.clocks.slowest(self.table)
            store.lead.add(reader.clock - (reader.clock if slowest is None else slowest))

    def _count_push(self, chunk: Chunk, rank: int) -> None:
        """A push is about to be applied; how many of others came since its sender read?"""
        seen = chunk.read_by.get(rank)
        if chunk.stored.id.part == 0 and seen is not None:
            self._store(chunk.entry.store).staleness.add(chunk.stored.version - seen)
            chunk.read_by[rank] = seen + 1

# SPDX-License-Identifier: Apache-2.0
"""Reads: a value leaves the server only when it is committed and its reader's round is in."""

from __future__ import annotations

from dataclasses import replace

from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect
from kvtrain.ps.core.membership import NodeId, Round
from kvtrain.ps.core.server.state import Chunk, Reader, ServerState


class Reads(ServerState):
    """Answers pulls (PROTOCOL R2)."""

    def _on_pull(self, sender: NodeId, message: m.Pull, now: float) -> list[Effect]:
        for read in message.chunks:
            chunk = self._chunks.get(read.chunk)
            if chunk is None:
                alone = replace(message, chunks=(read,))
                self._keep_early(sender, read.chunk, None, alone, now)
                continue
            self._check_view(chunk, read.chunk, read.view)
            after = read.after if read.after is not None else Round(-1, 0)
            self._read(chunk, Reader(sender, message.request, after))
        return []

    def _read(self, chunk: Chunk, reader: Reader) -> None:
        assert self.table is not None
        stored, entry = chunk.stored, chunk.entry
        if reader.after.step >= 0 and not chunk.ledger.has_counted(reader.node, reader.after):
            known = any(
                r.node == reader.node and r.request == reader.request for r in chunk.readers
            )
            if not known:
                chunk.readers.append(reader)
            return
        view = self.table.shards[entry.shard(stored.id.part, len(self.table.shards))].view
        value = stored.committed()
        counters = self._store(entry.store).counters
        counters["pulls"] += stored.id.part == 0
        counters["bytes_out"] += int(value.nbytes)
        read = m.ChunkVersion(chunk=stored.id, view=view, version=stored.version)
        self._replies.value(reader.node, entry.store, reader.request, read, value)

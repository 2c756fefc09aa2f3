# SPDX-License-Identifier: Apache-2.0
"""Reads, after the worker's own pushes so far."""

from __future__ import annotations

from kvtrain.ps.core import messages as m
from kvtrain.ps.core import requests as r
from kvtrain.ps.core.clocks import gate_of
from kvtrain.ps.core.effects import Effect, Note, Send
from kvtrain.ps.core.membership import NodeId, Round
from kvtrain.ps.core.posting import Packer
from kvtrain.ps.core.shards import ChunkId
from kvtrain.ps.core.worker.pushes import Pushes
from kvtrain.ps.core.worker.state import check_array, fill, fits


class Pulls(Pushes):
    """Pulls and their answers."""

    def _pull(self, number: int, request: r.PullRequest, now: float) -> list[Effect]:
        assert self.table is not None
        entries = [self._entry(request.store, name, "pull") for name in request.names]
        for entry, out in zip(entries, request.outs, strict=True):
            check_array(entry, out, "pull")
        if not entries:
            return self._done(number)
        open_ = self._requests[number]
        order = sorted(
            range(len(entries)), key=lambda i: -request.priorities[i] if request.priorities else 0
        )
        step = self._stores[request.store].step
        wanted: dict[ChunkId, tuple[Round | None, int]] = {}
        cut = step if self._stores[request.store].resumed else -1
        for i in order:
            gate = gate_of(entries[i].spec.consistency, step)
            for chunk_id in entries[i]:
                chunk = self._chunks[chunk_id]
                low, high = entries[i].bounds(chunk_id.part)
                after = chunk.last or Round(-1, 0)
                self._reads[(number, chunk_id)] = (request.outs[i][low:high], after)
                chunk.reading.append(after)
                open_.parts.add(("read", chunk_id))
                wanted[chunk_id] = (chunk.last, self._first_gate(chunk, gate))
        return self._ask_until_done(
            "pull", number, lambda: self._send_reads(number, request.store, step, cut, wanted), now
        )

    def _send_reads(
        self,
        number: int,
        store: int,
        step: int,
        cut: int,
        wanted: dict[ChunkId, tuple[Round | None, int]],
    ) -> list[Effect]:
        """What has not been read yet, asked of each chunk's primary."""
        assert self.table is not None
        packer = Packer(self.table)
        reads: dict[NodeId, list[m.ChunkRead]] = {}
        for chunk_id, (after, gate) in wanted.items():
            if (number, chunk_id) in self._reads:
                server, view = packer.place(self._chunks[chunk_id])
                reads.setdefault(server, []).append(m.ChunkRead(chunk_id, view, after, gate, cut))
        return [
            Send(
                server,
                m.Pull(
                    store=store, step=step, request=number, epoch=self.epoch, chunks=tuple(some)
                ),
            )
            for server, some in reads.items()
        ]

    def _on_pull_reply(self, sender: NodeId, message: m.PullReply, now: float) -> list[Effect]:
        assert self.table is not None
        effects: list[Effect] = []
        number = message.request
        packer = Packer(self.table)
        for read, array in zip(message.chunks, message.arrays, strict=False):
            chunk = self._chunks.get(read.chunk)
            wanted = self._reads.get((number, read.chunk))
            if chunk is None or wanted is None:
                continue
            if not self._is_from_primary(sender, chunk, read.view):
                effects += self._newer_view(chunk, read.view, now)
                continue
            out, after = wanted
            if not fits(out, array):
                effects.append(Note(f"{sender} sent {array.size} elements for {read.chunk}"))
                continue
            if not fill(out, array):
                continue  # asked for again
            del self._reads[(number, read.chunk)]
            chunk.reading.remove(after)
            self._send_queued(chunk, packer, now)
            effects += self._read_done(number, chunk)
        return effects + packer.flush(self.epoch)

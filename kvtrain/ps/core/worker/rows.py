# SPDX-License-Identifier: Apache-2.0
"""Pushes and pulls of some rows of a key (DESIGN section 8.8)."""

from __future__ import annotations

import numpy as np

from kvtrain.errors import KeyMismatch
from kvtrain.ps.core import messages as m
from kvtrain.ps.core import requests as r
from kvtrain.ps.core.clocks import gate_of
from kvtrain.ps.core.effects import Effect, Send
from kvtrain.ps.core.membership import NodeId, Round
from kvtrain.ps.core.posting import Array, Kept, Packer, Posted
from kvtrain.ps.core.rows import PACKED, Placed, check_request, pack_some, row_width
from kvtrain.ps.core.shards import ChunkId, KeyEntry
from kvtrain.ps.core.worker.onetrip import OneTrip


class RowRequests(OneTrip):
    """In sync every chunk of the key gets a contribution, empty where there are no rows."""

    def _row_entry(self, store: int, name: str, ids: Array, what: str) -> KeyEntry:
        entry = self._entry(store, name, what)
        if not entry.row_parts:
            raise KeyMismatch(
                f"{what} of rows of key {name!r}: its storage is {entry.spec.storage}"
            )
        check_request(entry, ids, what)
        return entry

    def _push_rows(self, number: int, request: r.RowPushRequest, now: float) -> list[Effect]:
        assert self.table is not None
        store = self._stores[request.store]
        entry = self._row_entry(request.store, request.name, request.ids, "push")
        width = row_width(entry)
        if request.values.dtype != entry.spec.dtype or request.values.shape != (
            len(request.ids),
            width,
        ):
            raise KeyMismatch(
                f"push of key {request.name!r}: {request.values.shape} of {request.values.dtype} "
                f"for {len(request.ids)} rows of {width} {entry.spec.dtype}"
            )
        sync = store.is_sync(entry)
        n, packer = store.pushed[request.name], Packer(self.table)
        store.pushed[request.name] += 1
        self.last = f"key {request.name!r}, round {(store.step, n)}"
        parts = self._deal(request.ids, entry.row_parts)
        for chunk_id, (places, local) in zip(entry, parts, strict=True):
            chunk = self._chunks[chunk_id]
            if not sync and not local.size and (len(request.ids) or chunk_id.part):
                continue  # elsewhere only chunks with rows, or one that counts an empty push
            last = chunk.last.n if chunk.last else 0
            round_ = Round(store.step, n) if sync else Round(0, last + 1)
            kept = None
            array = None if request.empty else np.empty(0, np.uint8)
            if local.size:
                nbytes = local.size * (8 + width * request.values.itemsize)
                kept = Kept.bytes_of(self._memory, nbytes)
                pack_some(kept.array, local, request.values, places)
                array = kept.array
            self._queue(
                chunk,
                Posted(
                    request=number,
                    round=round_,
                    step=store.step,
                    array=array,
                    codec=PACKED,
                    out=None,
                    rescale_grad=request.rescale_grad,
                    hyper=tuple(c for c in store.hyper.values() if c.number > chunk.hyper_known),
                    priority=request.priority,
                    kept=kept,
                ),
                packer,
                now,
            )
        return packer.flush(self.epoch)

    def _pull_rows(self, number: int, request: r.RowPullRequest, now: float) -> list[Effect]:
        """Completes when every chunk's rows are in `out`."""
        assert self.table is not None
        entry = self._row_entry(request.store, request.name, request.ids, "row_sparse_pull")
        if not len(request.ids):
            return self._done(number)
        open_, width = self._requests[number], row_width(entry)
        step = self._stores[request.store].step
        gate = gate_of(entry.spec.consistency, step)
        cut = step if self._stores[request.store].resumed else -1
        wanted: dict[ChunkId, tuple[Round | None, Array]] = {}
        gate = self._first_gate(self._chunks[next(iter(entry))], gate)
        table = request.out.reshape(len(request.ids), width)
        parts = self._deal(request.ids, entry.row_parts)
        for chunk_id, (places, local) in zip(entry, parts, strict=True):
            if not local.size:
                continue
            chunk = self._chunks[chunk_id]
            target: Array | Placed = request.out
            if not isinstance(places, slice):
                target = Placed(table, places)
            after = chunk.last or Round(-1, 0)
            self._reads[(number, chunk_id)] = (target, after)
            chunk.reading.append(after)
            open_.parts.add(("read", chunk_id))
            wanted[chunk_id] = (chunk.last, np.ascontiguousarray(local))
        return self._ask_until_done(
            "pull",
            number,
            lambda: self._send_row_reads(number, request.store, step, gate, cut, wanted),
            now,
        )

    def _send_row_reads(
        self,
        number: int,
        store: int,
        step: int,
        gate: int,
        cut: int,
        wanted: dict[ChunkId, tuple[Round | None, Array]],
    ) -> list[Effect]:
        """Rows that have not been read yet, asked of each chunk's primary."""
        assert self.table is not None
        packer = Packer(self.table)
        reads: dict[NodeId, list[tuple[m.ChunkRead, Array]]] = {}
        for chunk_id, (after, local) in wanted.items():
            if (number, chunk_id) in self._reads:
                server, view = packer.place(self._chunks[chunk_id])
                read = m.ChunkRead(chunk_id, view, after, gate, cut)
                reads.setdefault(server, []).append((read, local))
        return [
            Send(
                server,
                m.RowPull(
                    store=store,
                    step=step,
                    request=number,
                    epoch=self.epoch,
                    chunks=tuple(read for read, _ in some),
                    arrays=tuple(ids for _, ids in some),
                ),
            )
            for server, some in reads.items()
        ]

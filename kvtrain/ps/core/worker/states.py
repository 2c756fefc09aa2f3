# SPDX-License-Identifier: Apache-2.0
"""Optimizer states from all servers, by key, and back to them."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.errors import KeyMismatch, KeyNotInitialized
from kvtrain.ps.core import messages as m
from kvtrain.ps.core import requests as r
from kvtrain.ps.core.effects import Effect, Send
from kvtrain.ps.core.membership import NodeId
from kvtrain.ps.core.replies import FULL
from kvtrain.ps.core.rows import check_request, deal, rows_in
from kvtrain.ps.core.shards import ChunkId, KeyEntry
from kvtrain.ps.core.worker.together import Together

Array = np.ndarray[Any, Any]
#: states of a chunk: how often it was updated, numbers of rows (None: all), arrays
Found = dict[ChunkId, tuple[int, Array | None, list[Array]]]


class States(Together):
    """ReadStates and WriteStates; both after this worker's earlier pushes, each chunk asked of
    its primary by the table of then until it has answered."""

    def _read_states(self, number: int, request: r.ReadStatesRequest, now: float) -> list[Effect]:
        open_ = self._requests[number]
        open_.value = {}
        wanted = [
            chunk for entry in self._stores[request.store].entries.values() for chunk in entry
        ]
        if not wanted:
            open_.value = []
            return self._done(number, open_.value)
        open_.parts.update(("states", chunk) for chunk in wanted)

        def again() -> list[Effect]:
            packs: dict[NodeId, list[m.ChunkOf]] = {}
            for chunk in wanted:
                if ("states", chunk) in open_.parts:
                    server, of = self._where(chunk)
                    packs.setdefault(server, []).append(of)
            return [
                Send(
                    server,
                    m.ReadStates(
                        store=request.store, request=number, epoch=self.epoch, chunks=tuple(some)
                    ),
                )
                for server, some in packs.items()
            ]

        def then(at: float) -> list[Effect]:
            return self._ask_until_done("states", number, again, at)

        return self._when_drained(request.store, then, now)

    def _where(self, chunk: ChunkId) -> tuple[NodeId, m.ChunkOf]:
        """Who decides for a chunk."""
        assert self.table is not None
        shard = self._chunks[chunk].entry.shard(chunk.part, len(self.table.shards))
        view = self.table.shards[shard].view
        return self.table.primary(shard), m.ChunkOf(chunk, shard, view)

    def _on_states_read(self, sender: NodeId, message: m.StatesRead) -> list[Effect]:
        open_ = self._requests.get(message.request)
        if open_ is None:
            return []
        low = 0
        for states in message.chunks:
            # frames are only good for as long as the message is handled
            arrays = [np.array(array) for array in message.arrays[low : low + states.arrays]]
            low += states.arrays
            part = ("states", states.chunk)
            if part not in open_.parts or not self._counts(sender, states):
                continue
            open_.parts.discard(part)
            rows = arrays.pop(0) if states.rows else None
            open_.value[states.chunk] = states.updates, rows, arrays
        if open_.parts or not self._outbox.answered(("states", message.request)):
            return []
        return self._done(message.request, self._by_key(message.store, open_.value))

    def _counts(self, sender: NodeId, about: m.ChunkOf | m.ChunkStates) -> bool:
        """Whether an answer is the primary's of the installed table, in its view (R19)."""
        if about.chunk not in self._chunks:
            return False
        server, of = self._where(about.chunk)
        return server == sender and of.view == about.view

    def _by_key(self, store: int, found: Found) -> list[r.KeyStates]:
        """Parts of a key put together."""
        keys = []
        for entry in self._stores[store].entries.values():
            parts = [found[chunk] for chunk in entry if chunk in found]
            if len(parts) != entry.chunks:
                continue  # initialised meanwhile
            updates, rows = max(u for u, _, _ in parts), None
            if entry.row_parts:
                arrays, rows = _rows_together(entry, parts)
            else:
                columns = zip(*(arrays for _, _, arrays in parts), strict=True)
                arrays = tuple(np.concatenate(column) for column in columns)
            keys.append(r.KeyStates(entry.spec.name, updates, arrays, rows))
        return keys

    def _write_states(self, number: int, request: r.WriteStatesRequest, now: float) -> list[Effect]:
        entries = self._stores[request.store].entries
        for key in request.keys:
            if key.name not in entries:
                raise KeyNotInitialized(
                    f"load of states: key {key.name!r} was not initialised by this worker"
                )
            sparse = bool(entries[key.name].row_parts)
            if sparse != (key.rows is not None):
                raise KeyMismatch(f"load of states: key {key.name!r}: rows are for row-sparse keys")
            if key.rows is not None:
                check_request(entries[key.name], key.rows, "load of states")
        if not request.keys:
            return self._done(number)
        values: dict[ChunkId, tuple[int, bool, list[Array]]] = {}
        for key in request.keys:
            entry = entries[key.name]
            for chunk, arrays in zip(entry, _cut(entry, key), strict=True):
                values[chunk] = (key.updates, key.rows is not None, arrays)
        open_ = self._requests[number]
        open_.parts.update(("written", chunk) for chunk in values)

        def again() -> list[Effect]:
            packs: dict[NodeId, list[list[tuple[m.ChunkStates, list[Array]]]]] = {}
            sizes: dict[NodeId, int] = {}
            for chunk, (updates, rows, arrays) in values.items():
                if ("written", chunk) not in open_.parts:
                    continue
                server, of = self._where(chunk)
                size = sum(array.nbytes for array in arrays)
                packed = packs.setdefault(server, [])
                if not packed or sizes[server] + size > FULL:
                    packed.append([])
                    sizes[server] = 0
                packed[-1].append((m.ChunkStates(*of, updates, len(arrays), rows), arrays))
                sizes[server] += size
            return [
                Send(
                    server,
                    m.WriteStates(
                        store=request.store,
                        request=number,
                        epoch=self.epoch,
                        chunks=tuple(states for states, _ in pack),
                        arrays=tuple(array for _, arrays in pack for array in arrays),
                    ),
                )
                for server, packed in packs.items()
                for pack in packed
            ]

        def then(at: float) -> list[Effect]:
            return self._ask_until_done("written", number, again, at)

        return self._when_drained(request.store, then, now)

    def _on_states_written(self, sender: NodeId, message: m.StatesWritten) -> list[Effect]:
        open_ = self._requests.get(message.request)
        if open_ is None:
            return []
        for of in message.chunks:
            if self._counts(sender, of):
                open_.parts.discard(("written", of.chunk))
        if open_.parts or ("written", message.request) not in self._outbox:
            return []
        return self._answered(("written", message.request), message.request)


def _rows_together(
    entry: KeyEntry, parts: list[tuple[int, Array | None, list[Array]]]
) -> tuple[tuple[Array, ...], Array]:
    """Flat states of a row-sparse key's rows, and the rows, in their order."""
    numbers: list[Array] = []
    columns: list[list[Array]] = []
    for part, (_, local, arrays) in enumerate(parts):
        if arrays:  # nothing of this chunk was updated otherwise
            local = np.arange(rows_in(entry, part)) if local is None else local
            numbers.append(local * entry.row_parts + part)
            columns.append([array.reshape(local.size, -1) for array in arrays])
    if not numbers:
        return (), np.empty(0, np.int64)
    rows = np.concatenate(numbers)
    order = np.argsort(rows, kind="stable")
    together = (np.concatenate(column) for column in zip(*columns, strict=True))
    return tuple(array[order].reshape(-1) for array in together), rows[order]


def _cut(entry: KeyEntry, key: r.KeyStates) -> list[list[Array]]:
    """What belongs to each chunk of a key."""
    if key.rows is not None:
        count = key.rows.size
        tables = [a.reshape(count, a.size // count if count else 0) for a in key.arrays]
        return [
            [np.ascontiguousarray(local), *(table[places].reshape(-1) for table in tables)]
            for places, local in deal(key.rows, entry.row_parts)
        ]
    if entry.chunks == 1:
        return [list(key.arrays)]
    return [
        [np.ascontiguousarray(array[slice(*entry.bounds(chunk.part))]) for array in key.arrays]
        for chunk in entry
    ]

# SPDX-License-Identifier: Apache-2.0
"""Optimizer states from all servers, by key, and back to them."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.errors import KeyNotInitialized
from kvtrain.ps.core import messages as m
from kvtrain.ps.core import requests as r
from kvtrain.ps.core.effects import Effect
from kvtrain.ps.core.membership import NodeId
from kvtrain.ps.core.shards import ChunkId, KeyEntry
from kvtrain.ps.core.worker.together import Together

Array = np.ndarray[Any, Any]
Found = dict[ChunkId, tuple[int, list[Array]]]


class States(Together):
    """ReadStates and WriteStates; both after this worker's earlier pushes."""

    def _read_states(self, number: int, request: r.ReadStatesRequest, now: float) -> list[Effect]:
        self._requests[number].value = {}
        message = m.ReadStates(store=request.store, request=number, epoch=self.epoch)

        def then(at: float) -> list[Effect]:
            return self._ask_servers("states", number, message, at)

        return self._when_drained(request.store, then, now)

    def _on_states_read(self, sender: NodeId, message: m.StatesRead) -> list[Effect]:
        open_ = self._requests.get(message.request)
        if open_ is None or ("states", sender) not in open_.parts:
            return []
        low = 0
        for chunk, updates, count in message.chunks:
            # frames are only good for as long as the message is handled
            arrays = [np.array(array) for array in message.arrays[low : low + count]]
            open_.value[chunk] = updates, arrays
            low += count
        if len(open_.parts) == 1:
            open_.value = self._by_key(message.store, open_.value)
        return self._part_done(message.request, ("states", sender))

    def _by_key(self, store: int, found: Found) -> list[r.KeyStates]:
        """Parts of a key put together; a key of which a server knows nothing is left out."""
        keys = []
        for entry in self._stores[store].entries.values():
            parts = [found[chunk] for chunk in entry if chunk in found]
            if len(parts) != entry.chunks:
                continue
            columns = zip(*(arrays for _, arrays in parts), strict=True)
            arrays = tuple(np.concatenate(column) for column in columns)
            keys.append(r.KeyStates(entry.spec.name, max(u for u, _ in parts), arrays))
        return keys

    def _write_states(self, number: int, request: r.WriteStatesRequest, now: float) -> list[Effect]:
        assert self.table is not None
        entries = self._stores[request.store].entries
        for key in request.keys:
            if key.name not in entries:
                raise KeyNotInitialized(
                    f"load of states: key {key.name!r} was not initialised by this worker"
                )

        def then(at: float) -> list[Effect]:
            assert self.table is not None
            packs: dict[NodeId, tuple[list[m.ChunkStates], list[Array]]] = {}
            for key in request.keys:
                entry = entries[key.name]
                for chunk in entry:
                    server = self.table.primary(entry.shard(chunk.part, len(self.table.shards)))
                    chunks, arrays = packs.setdefault(server, ([], []))
                    chunks.append(m.ChunkStates(chunk, key.updates, len(key.arrays)))
                    arrays += [_cut(entry, chunk, array) for array in key.arrays]
            effects: list[Effect] = []
            for server, (chunks, arrays) in packs.items():
                message = m.WriteStates(
                    store=request.store,
                    request=number,
                    epoch=self.epoch,
                    chunks=tuple(chunks),
                    arrays=tuple(arrays),
                )
                effects += self._ask_server("written", number, server, message, at)
            return effects or self._done(number)

        return self._when_drained(request.store, then, now)


def _cut(entry: KeyEntry, chunk: ChunkId, array: Array) -> Array:
    """The part of a key's flat state that belongs to a chunk."""
    if entry.chunks == 1:
        return array
    low, high = entry.bounds(chunk.part)
    return np.ascontiguousarray(array[low:high])

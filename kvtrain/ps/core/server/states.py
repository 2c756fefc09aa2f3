# SPDX-License-Identifier: Apache-2.0
"""Optimizer states out to a worker's file and in again.

States are read as they are committed. They are written between two updates of the worker that
sends them, which in sync mode is between two rounds; a repeated message changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kvtrain.errors import ConfigError, RemoteProtocolError
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect
from kvtrain.ps.core.membership import NodeId
from kvtrain.ps.core.server.optimizers import OptimizersAndStats
from kvtrain.ps.core.server.state import Chunk
from kvtrain.ps.core.shards import ChunkId, KeyEntry

Array = np.ndarray[Any, Any]


class OptimizerStates(OptimizersAndStats):
    """ReadStates and WriteStates."""

    def _on_read_states(self, sender: NodeId, message: m.ReadStates, now: float) -> list[Effect]:
        number = self._store(message.store).optimizers.number
        chunks: list[m.ChunkStates] = []
        arrays: list[Array] = []
        for chunk in self._mine(message.store):
            stored = chunk.stored
            states = stored.state if stored.optimizer_number == number else None
            updates = 0 if states is None else stored.version - stored.base_version
            chunks.append(m.ChunkStates(stored.id, updates, len(states or ())))
            arrays += [np.array(state).reshape(-1) for state in states or ()]
        self._replies.send(
            sender,
            m.StatesRead(
                store=message.store,
                request=message.request,
                chunks=tuple(chunks),
                arrays=tuple(arrays),
            ),
        )
        return []

    def _on_write_states(self, sender: NodeId, message: m.WriteStates, now: float) -> list[Effect]:
        store = self._store(message.store)
        if self.settings.replicas:
            raise ConfigError(
                "load_optimizer_states: states cannot be written to servers with replicas; go on "
                "from a checkpoint instead (kvtrain launch --resume DIR)"
            )
        if not store.optimizers.installed:
            raise ConfigError("states were sent, but the store has no optimizer")
        if store.states_from.get(sender, -1) < message.request:
            prepared = [self._prepared(message, given, i) for given, i in _places(message)]
            for (given, _), fresh in zip(_places(message), prepared, strict=True):
                stored = self._chunks[given.chunk].stored
                stored.state = fresh
                stored.optimizer_number = store.optimizers.number
                stored.base_version = stored.version - given.updates
                stored.hyper = {}
            store.states_from[sender] = message.request
        self._replies.send(sender, m.StatesWritten(store=message.store, request=message.request))
        return []

    def _mine(self, store: int) -> Iterator[Chunk]:
        """Dense chunks of a store of which this server is primary."""
        for chunk_id, chunk in self._chunks.items():
            held = chunk.entry.store == store and chunk.entry.spec.storage == "default"
            if held and self._leads(chunk.entry, chunk_id):
                yield chunk

    def _leads(self, entry: KeyEntry, chunk_id: ChunkId) -> bool:
        assert self.table is not None
        shard = entry.shard(chunk_id.part, len(self.table.shards))
        return self.table.primary(shard) == self.node

    def _prepared(self, message: m.WriteStates, given: m.ChunkStates, low: int) -> tuple[Any, ...]:
        """Arrays as the optimizer makes them, with the values that were sent."""
        chunk = self._chunks.get(given.chunk)
        if chunk is None or chunk.entry.store != message.store:
            raise RemoteProtocolError(f"WriteStates: {given.chunk} is not of this store")
        if not self._leads(chunk.entry, given.chunk):
            raise RemoteProtocolError(f"WriteStates: {self.node} is not primary of {given.chunk}")
        stored = chunk.stored
        optimizer = self._store(message.store).optimizers.under({})
        weight = stored.committed()
        if stored.shape is not None and not optimizer.blockwise:
            weight = weight.reshape(stored.shape)
        fresh = optimizer.state_arrays(weight)
        sent = message.arrays[low : low + given.arrays]
        if len(sent) not in (0, len(fresh)):
            raise ConfigError(
                f"key {stored.name!r}: {len(sent)} arrays of state were sent, and this optimizer "
                f"has {len(fresh)}"
            )
        for ours, theirs in zip(fresh, sent, strict=False):
            if ours.size != theirs.size or ours.dtype != theirs.dtype:
                raise ConfigError(
                    f"key {stored.name!r}: a state of {theirs.size} {theirs.dtype} elements was "
                    f"sent for one of {ours.size} {ours.dtype}"
                )
            np.copyto(ours, theirs.reshape(ours.shape))
        return fresh


def _places(message: m.WriteStates) -> Iterator[tuple[m.ChunkStates, int]]:
    """Each chunk with the place of its first array."""
    low = 0
    for given in message.chunks:
        yield given, low
        low += given.arrays

# SPDX-License-Identifier: Apache-2.0
"""Optimizer states out to a worker's file and in again.

Both go chunk by chunk to whoever decides by the worker's table, and are asked again until they
are answered. Written states are a record like any other: in the log, on every replica before
the worker is told (PROTOCOL R1), and a repeat changes nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.errors import ConfigError, RemoteProtocolError
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect
from kvtrain.ps.core.membership import NodeId
from kvtrain.ps.core.replies import FULL
from kvtrain.ps.core.row_table import StoredRows
from kvtrain.ps.core.rows import check_ids
from kvtrain.ps.core.server.optimizers import OptimizersAndStats
from kvtrain.ps.core.server.state import Chunk, Shard
from kvtrain.ps.core.store import Optimizers

Array = np.ndarray[Any, Any]


class OptimizerStates(OptimizersAndStats):
    """ReadStates and WriteStates."""

    def _on_read_states(self, sender: NodeId, message: m.ReadStates, now: float) -> list[Effect]:
        shards: dict[Shard, None] = {}
        found: list[tuple[m.ChunkStates, list[Array]]] = []
        for asked in message.chunks:
            shard = self._states_shard(sender, asked, now)
            chunk = self._chunks.get(asked.chunk)
            if shard is None or (chunk is not None and not self._is_settled(chunk)):
                continue  # asked again
            shards[shard] = None
            found.append(_states_of(asked, chunk))
        replies: list[m.Message] = []
        while found:
            some = [found.pop()]
            size = sum(array.nbytes for array in some[0][1])
            while found and size + sum(a.nbytes for a in found[-1][1]) <= FULL:
                some.append(found.pop())
                size += sum(array.nbytes for array in some[-1][1])
            replies.append(
                m.StatesRead(
                    store=message.store,
                    request=message.request,
                    chunks=tuple(states for states, _ in some),
                    arrays=tuple(array for _, arrays in some for array in arrays),
                )
            )

        def answer() -> None:
            for reply in replies:
                self._replies.send(sender, reply)

        self._when_all_committed(list(shards), answer)
        return []

    def _states_shard(
        self, sender: NodeId, about: m.ChunkOf | m.ChunkStates, now: float
    ) -> Shard | None:
        """The shard of a chunk, if this server decides for it in the sender's view."""
        if not 0 <= about.shard < len(self._shards):
            raise RemoteProtocolError(f"there is no shard {about.shard}")
        shard = self._shards[about.shard]
        return shard if self._takes(sender, shard, about.view, now) else None

    def _on_write_states(self, sender: NodeId, message: m.WriteStates, now: float) -> list[Effect]:
        shards: dict[Shard, None] = {}
        done: list[m.ChunkOf] = []
        ready: list[tuple[Chunk, m.ChunkStates, tuple[Array, ...]]] = []
        low = 0
        for given in message.chunks:
            arrays = tuple(np.array(a) for a in message.arrays[low : low + given.arrays])
            low += given.arrays
            shard = self._states_shard(sender, given, now)
            chunk = self._chunks.get(given.chunk)
            if shard is None or shard.sealed or chunk is None or not self._is_settled(chunk):
                continue  # asked again
            if chunk.entry.store != message.store or chunk.shard is not shard:
                raise RemoteProtocolError(f"WriteStates: {given.chunk} is not of this store")
            shards[shard] = None
            done.append(m.ChunkOf(given.chunk, given.shard, given.view))
            if _is_new(chunk, sender, message.request):
                self._check_states(chunk, given, arrays)
                ready.append((chunk, given, arrays))
        for chunk, given, arrays in ready:
            self._put_states(chunk, given.updates, given.rows, arrays)
            chunk.states_from[sender.rank] = (sender.incarnation, message.request)
            chunk.pending = []
            self._append(
                chunk.shard,
                lambda lsn, c=chunk, g=given, a=arrays: (  # type: ignore[misc]
                    _entry_of(c, g, sender, message.request, lsn, len(a)),
                    a,
                ),
                lambda c=chunk: self._made(c),  # type: ignore[misc]
            )
        written = m.StatesWritten(store=message.store, request=message.request, chunks=tuple(done))
        if done:
            self._when_all_committed(list(shards), lambda: self._replies.send(sender, written))
        return []

    def _states_optimizers(self, chunk: Chunk) -> Optimizers:
        optimizers = chunk.shard.optimizers.get(chunk.entry.store)
        if optimizers is None:
            raise ConfigError("states were sent, but the store has no optimizer")
        return optimizers

    def _check_states(self, chunk: Chunk, given: m.ChunkStates, arrays: tuple[Array, ...]) -> None:
        """Raise ConfigError or RemoteProtocolError unless they fit the chunk and optimizer."""
        stored = chunk.stored
        wanted = _fresh(chunk, self._states_optimizers(chunk))
        count = len(wanted)
        sent = arrays
        if given.rows:
            if not isinstance(stored, StoredRows) or not arrays:
                raise RemoteProtocolError(f"WriteStates: {given.chunk} has no rows")
            check_ids(chunk.entry, given.chunk.part, arrays[0], "states")
            sent = arrays[1:]
        elif isinstance(stored, StoredRows):
            raise RemoteProtocolError(f"WriteStates: {given.chunk} needs numbers of rows")
        if len(sent) not in (0, count):
            raise ConfigError(
                f"key {stored.name!r}: {len(sent)} arrays of state were sent, and this optimizer "
                f"has {count}"
            )
        for ours, theirs in zip(wanted, sent, strict=False):
            size = len(arrays[0]) * ours[:1].size if given.rows else ours.size
            if size != theirs.size or ours.dtype != theirs.dtype:
                raise ConfigError(
                    f"key {stored.name!r}: a state of {theirs.size} {theirs.dtype} elements was "
                    f"sent for one of {size} {ours.dtype}"
                )

    def _put_states(
        self, chunk: Chunk, updates: int, rows: bool, arrays: tuple[Array, ...]
    ) -> None:
        """States that fit, from a worker or from the log."""
        stored, optimizers = chunk.stored, self._states_optimizers(chunk)
        if isinstance(stored, StoredRows):
            stored.put_states(arrays[0], arrays[1:], optimizers.under({}))
            self._recount(chunk)
        else:
            fresh = _fresh(chunk, optimizers)
            for ours, theirs in zip(fresh, arrays, strict=False):
                np.copyto(ours, theirs.reshape(ours.shape))
            stored.state = fresh
        stored.optimizer_number = optimizers.number
        stored.base_version = stored.version - updates
        stored.hyper = {}

    def _apply_states(self, entry: m.LogEntry, arrays: tuple[Array, ...]) -> None:
        """A replica takes over what its primary was sent."""
        assert entry.chunk is not None and len(entry.members) == 1
        chunk = self._chunks[entry.chunk]
        self._put_states(chunk, int(entry.config["updates"]), bool(entry.config["rows"]), arrays)
        sender = entry.members[0]
        chunk.states_from[sender.rank] = (sender.incarnation, entry.number)


def _is_new(chunk: Chunk, sender: NodeId, request: int) -> bool:
    return chunk.states_from.get(sender.rank, (-1, -1)) < (sender.incarnation, request)


def _fresh(chunk: Chunk, optimizers: Optimizers) -> tuple[Array, ...]:
    """States as the optimizer makes them; of a row-sparse chunk those of one row."""
    stored, optimizer = chunk.stored, optimizers.under({})
    if isinstance(stored, StoredRows):
        return optimizer.state_arrays(np.zeros((1, stored.width), stored.dtype))
    weight = stored.committed()
    if stored.shape is not None and not optimizer.blockwise:
        weight = weight.reshape(stored.shape)
    return optimizer.state_arrays(weight)


def _states_of(asked: m.ChunkOf, chunk: Chunk | None) -> tuple[m.ChunkStates, list[Array]]:
    """Private copies of a chunk's states under the store's optimizer."""
    arrays: list[Array] = []
    updates, rows = 0, False
    optimizers = None if chunk is None else chunk.shard.optimizers.get(chunk.entry.store)
    if chunk is not None and optimizers is not None:
        stored = chunk.stored
        if stored.state is not None and stored.optimizer_number == optimizers.number:
            updates = stored.version - stored.base_version
            if isinstance(stored, StoredRows):
                held = stored.held
                arrays = [array[:held].ravel().copy() for array in stored.state]
                if stored.index is not None:
                    rows = True
                    arrays.insert(0, stored.index.rows())
            else:
                arrays = [np.array(state).reshape(-1) for state in stored.state]
    return m.ChunkStates(*asked, updates, len(arrays), rows), arrays


def _entry_of(
    chunk: Chunk, given: m.ChunkStates, sender: NodeId, request: int, lsn: int, arrays: int
) -> m.LogEntry:
    return m.LogEntry(
        shard=chunk.shard.number,
        lsn=lsn,
        kind="states",
        store=chunk.entry.store,
        arrays=arrays,
        chunk=chunk.stored.id,
        version=chunk.stored.version,
        members=(sender,),
        number=request,
        config={"updates": given.updates, "rows": given.rows},
    )

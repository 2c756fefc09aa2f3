# SPDX-License-Identifier: Apache-2.0
"""Stores and keys: agreed with the scheduler, first values sent by rank 0."""

from __future__ import annotations

import numpy as np

from kvtrain.errors import (
    KeyAlreadyInitialized,
)
from kvtrain.ps.core import messages as m
from kvtrain.ps.core import requests as r
from kvtrain.ps.core.backup import backups_of
from kvtrain.ps.core.clocks import staleness_of
from kvtrain.ps.core.codecs import feedback_for
from kvtrain.ps.core.effects import Effect, Send
from kvtrain.ps.core.membership import NodeId
from kvtrain.ps.core.posting import Array, ClientChunk
from kvtrain.ps.core.replies import FULL
from kvtrain.ps.core.rows import first_values
from kvtrain.ps.core.shards import ChunkId, KeyEntry
from kvtrain.ps.core.worker.state import Store, WorkerState, check_spec


class StoresAndKeys(WorkerState):
    """OpenStore, Declare and Init."""

    def _open_store(self, number: int, request: r.OpenStoreRequest, now: float) -> list[Effect]:
        ordinal = len(self._stores)
        resumed = any(clock.store == ordinal for clock in self.resume or ())
        store = Store(sync=request.sync, resumed=resumed, backups=request.backups)
        self._stores.append(store)
        message = m.OpenStore(
            store=ordinal, request=number, epoch=self.epoch, type=request.type, sync=request.sync
        )
        return self._ask_scheduler("open", number, message, now)

    def _on_store_opened(self, message: m.StoreOpened) -> list[Effect]:
        """The store's first step is 0, or where a checkpoint or a lost predecessor ended."""
        if ("open", message.request) in self._outbox:
            store = self._stores[message.store]
            store.step = store.resume_step = max(message.step, self.begins_at(message.store))
            self._count_members(message.store)
        return self._answered(("open", message.request), message.request, message.store)

    def _init(self, number: int, request: r.InitRequest, now: float) -> list[Effect]:
        store = self._stores[request.store]
        names = [spec.name for spec in request.keys]
        for spec, array in zip(request.keys, request.arrays, strict=True):
            if spec.name in store.claimed or names.count(spec.name) > 1:
                raise KeyAlreadyInitialized(
                    f"key {spec.name!r} of store {request.store} was already initialised by this "
                    f"worker (rank {self.node.rank}); init a key once, then push and pull it"
                )
            check_spec(spec, array)
        if not names:
            return self._done(number)
        store.claimed.update(names)
        if self.node.rank == 0:
            # kept until acknowledged: the user may change the array meanwhile
            copies = tuple(np.array(a) for a in request.arrays)
            self._requests[number].value = copies
        message = m.Declare(
            store=request.store, request=number, epoch=self.epoch, keys=request.keys
        )
        return self._ask_scheduler("declare", number, message, now)

    def _on_declared(self, message: m.Declared, now: float) -> list[Effect]:
        number = message.request
        open_ = self._requests.get(number)
        if open_ is None or not self._outbox.answered(("declare", number)):
            return []
        store = self._stores[message.store]
        for entry in message.entries:
            store.entries[entry.spec.name] = entry
            store.bounded = store.bounded or staleness_of(entry.spec.consistency) is not None
            store.backups = max(store.backups, backups_of(entry.spec.consistency))
            for chunk_id in entry:
                self._chunks[chunk_id] = ClientChunk(chunk_id, entry, feedback=feedback_for(entry))
        # a successor's clock begins where it goes on: nobody may wait for its first step (R42)
        effects = self._tell_clock(message.store, now)
        if self.node.rank != 0:
            return [*effects, *self._done(number)]
        copies, open_.value = open_.value, None
        values: dict[ChunkId, tuple[KeyEntry, Array]] = {}
        for entry, array in zip(message.entries, copies, strict=True):
            for chunk_id, part in zip(entry, first_values(entry, array), strict=True):
                values[chunk_id] = (entry, part)
                open_.parts.add(("init", chunk_id))
        return effects + self._ask_until_done(
            "init", number, lambda: self._send_values(number, values, store.sync), now
        )

    def _tell_clock(self, number: int, now: float) -> list[Effect]:
        """Tell the clock of a store with bounded staleness, if it has risen."""
        raise NotImplementedError

    def _send_values(
        self, number: int, values: dict[ChunkId, tuple[KeyEntry, Array]], sync: bool
    ) -> list[Effect]:
        """Rank 0's values, to each chunk's primary, in messages of about FULL bytes."""
        assert self.table is not None
        open_ = self._requests[number]
        packs: dict[NodeId, list[list[ChunkId]]] = {}
        sizes: dict[NodeId, int] = {}
        for chunk_id, (entry, array) in values.items():
            if ("init", chunk_id) not in open_.parts:
                continue
            server = self.table.primary(entry.shard(chunk_id.part, len(self.table.shards)))
            packed = packs.setdefault(server, [])
            if not packed or sizes[server] + array.nbytes > FULL:
                packed.append([])
                sizes[server] = 0
            packed[-1].append(chunk_id)
            sizes[server] += array.nbytes
        return [
            Send(
                server,
                m.Init(
                    store=values[pack[0]][0].store,
                    request=number,
                    epoch=self.epoch,
                    sync=sync,
                    entries=tuple({values[c][0].id: values[c][0] for c in pack}.values()),
                    chunks=tuple(pack),
                    arrays=tuple(values[c][1] for c in pack),
                ),
            )
            for server, packed in packs.items()
            for pack in packed
        ]

    def _on_init_done(self, sender: NodeId, message: m.InitDone) -> list[Effect]:
        """Chunks exist; it counts from their primary of the installed table (R19)."""
        assert self.table is not None
        open_ = self._requests.get(message.request)
        if open_ is None:
            return []
        for chunk_id in message.chunks:
            chunk = self._chunks.get(chunk_id)
            if chunk is None:
                continue
            shard = chunk.entry.shard(chunk_id.part, len(self.table.shards))
            if self.table.primary(shard) == sender:
                open_.parts.discard(("init", chunk_id))
        if open_.parts or ("init", message.request) not in self._outbox:
            return []
        return self._answered(("init", message.request), message.request)

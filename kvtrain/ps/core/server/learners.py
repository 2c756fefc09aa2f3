# SPDX-License-Identifier: Apache-2.0
"""Filling a server with a shard, in the background (PROTOCOL R14).

A learner gets a snapshot of the shard at one position of its log, and from then on all
records. When it has reached the log's end the primary first waits for its acknowledgements
and then asks the scheduler to make it a replica.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.errors import RemoteProtocolError
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect, Send
from kvtrain.ps.core.log import UNKNOWN, Array, Fill, Peer
from kvtrain.ps.core.membership import SCHEDULER, NodeId
from kvtrain.ps.core.replies import FULL
from kvtrain.ps.core.rounds import Counted, SyncLedger
from kvtrain.ps.core.row_table import KeptRows, StoredRows
from kvtrain.ps.core.server.commits import hyper_seen, hyper_values
from kvtrain.ps.core.server.replica import Replica
from kvtrain.ps.core.server.state import Chunk, Shard, Stage

#: snapshots of one learner that are under way at a time, so that little memory is held
FILLS = 2


class Learners(Replica):
    """Both ends of a Snapshot."""

    # ---- the primary -----------------------------------------------------------------------

    def _start_fills(self, now: float) -> list[Effect]:
        """Send the next snapshots, a few at a time for each learner."""
        effects: list[Effect] = []
        under_way: dict[NodeId, int] = {}
        waiting: list[tuple[Shard, NodeId, Peer]] = []
        for shard in self._shards:
            if not shard.decides:
                continue
            for node, peer in shard.peers.items():
                if peer.fill is not None:
                    under_way[node] = under_way.get(node, 0) + 1
                elif peer.learner and peer.acked == UNKNOWN:
                    waiting.append((shard, node, peer))
        for shard, node, peer in waiting:
            if under_way.get(node, 0) < FILLS and shard.stage is Stage.PRIMARY:
                under_way[node] = under_way.get(node, 0) + 1
                peer.fill = Fill(shard.log.lsn, self._snapshot(shard))
                peer.since = None
                self._owes(shard, peer, now)
                effects += [Send(node, part) for part in peer.fill.parts.values()]
        return effects

    def _snapshot(self, shard: Shard) -> dict[int, m.Snapshot]:
        """The shard as it is at the log's end, uncommitted records included: nothing of it
        is visible before the learner is a replica, and that needs the log's end committed."""
        packs: list[tuple[list[m.SnapshotChunk], list[Array]]] = [([], [])]
        size = 0
        for chunk_id in sorted(shard.chunks):
            chunk = self._chunks[chunk_id]
            arrays, extra = chunk.stored.image()
            kept = _kept(chunk)
            if kept:
                arrays += kept
                extra["kept"] = True
            if size and size + sum(int(a.nbytes) for a in arrays) > FULL:
                packs.append(([], []))
                size = 0
            size += sum(int(a.nbytes) for a in arrays)
            packs[-1][0].append(_described(chunk, len(arrays), extra))
            packs[-1][1].extend(arrays)
        optimizers = tuple(
            m.SnapshotOptimizer(store, o.number, o.name, o.config)
            for store, o in sorted(shard.optimizers.items())
        )
        return {
            part: m.Snapshot(
                epoch=self._epoch(),
                shard=shard.number,
                view=shard.view,
                lsn=shard.log.lsn,
                part=part,
                parts=len(packs),
                optimizers=optimizers,
                chunks=tuple(chunks),
                arrays=tuple(arrays),
            )
            for part, (chunks, arrays) in enumerate(packs)
        }

    def _on_snapshot_ack(self, sender: NodeId, message: m.SnapshotAck, now: float) -> list[Effect]:
        shard = self._shard_numbered(message.shard)
        peer = shard.peers.get(sender)
        if peer is None or peer.fill is None or peer.fill.lsn != message.lsn or not shard.decides:
            return []
        if peer.fill.parts.pop(message.part, None) is not None:
            peer.since = None
            self._owes(shard, peer, now)
        if peer.fill.parts:
            return []
        peer.acked = peer.sent = peer.fill.lsn
        peer.fill = peer.since = None
        if peer.sent < shard.log.lsn:
            self._dirty.add(shard.number)
        self._progress(shard, sender, peer, now)
        return self._start_fills(now)

    def _progress(self, shard: Shard, node: NodeId, peer: Peer, now: float) -> None:
        """A learner at the log's end: first wait for it, then say so (R14)."""
        if not peer.learner or peer.required or peer.acked < shard.log.lsn:
            return
        peer.required = True
        self._ask_to_add(shard, node, now)

    def _ask_to_add(self, shard: Shard, node: NodeId, now: float) -> None:
        view = shard.view
        add = m.AddInSync(epoch=self._epoch(), shard=shard.number, view=view, learner=node)
        question = ("sync", shard.number, view, node)
        for effect in self._outbox.ask(question, lambda: [Send(SCHEDULER, add)], now):
            self._replies.push(effect)

    # ---- the learner -----------------------------------------------------------------------

    def _on_snapshot(self, sender: NodeId, message: m.Snapshot, now: float) -> list[Effect]:
        shard = self._shard_numbered(message.shard)
        if message.view > shard.view:
            self._want_table(now)
        if message.view != shard.view or sender != shard.primary:
            return []
        if shard.stage is not Stage.LEARNER or not 0 <= message.part < message.parts:
            return []
        if shard.arriving is not None:
            if shard.arriving_at != message.lsn:
                shard.arriving, shard.arriving_at = {}, message.lsn
            shard.arriving.setdefault(message.part, message)
            if len(shard.arriving) == message.parts:
                self._take_snapshot(shard, [part for _, part in sorted(shard.arriving.items())])
        elif shard.arriving_at != message.lsn:
            return []
        ack = m.SnapshotAck(shard=shard.number, view=shard.view, lsn=message.lsn, part=message.part)
        self._replies.send(sender, ack)
        return []

    def _take_snapshot(self, shard: Shard, parts: list[m.Snapshot]) -> None:
        for held in parts[0].optimizers:
            made = self._optimizers(held.store, held.number, held.name, held.config)
            shard.optimizers[held.store] = made
        for part in parts:
            place = 0
            for given in part.chunks:
                arrays = part.arrays[place : place + given.arrays]
                place += given.arrays
                if given.arrays < 1 or len(arrays) != given.arrays:
                    raise RemoteProtocolError("Snapshot: its chunks need more arrays than came")
                self._take_chunk(given, arrays)
        shard.log.reset(parts[0].lsn)
        shard.arriving = None

    def _take_chunk(self, given: m.SnapshotChunk, arrays: tuple[Array, ...]) -> None:
        low, high = given.key.bounds(given.chunk.part)
        nothing = (
            np.empty(0, np.uint8)
            if given.key.row_parts
            else np.empty(high - low, given.key.spec.dtype)
        )
        chunk = self._make_chunk(given.chunk, given.key, given.sync, nothing, arrays[0].nbytes)
        stored, ledger = chunk.stored, chunk.ledger
        stored.version = given.version
        kept: tuple[Array, ...] = ()
        if given.image.get("kept"):
            own = 2 if isinstance(stored, StoredRows) else 1
            arrays, kept = arrays[:-own], arrays[-own:]
        stored.restore(arrays, given.image)
        if kept and isinstance(stored, StoredRows):
            stored.kept = KeptRows.of_image(kept, stored.width)
        elif kept:
            chunk.kept = kept[0].copy()
        self._recount(chunk)
        stored.optimizer_number = given.optimizer_number
        stored.base_version = given.base_version
        stored.hyper = {value.name: value.value for value in given.hyper}
        stored.hyper_seen = {s.rank: (s.incarnation, s.number) for s in given.seen}
        for counted in given.counted:
            ledger.counted[counted.rank] = Counted(counted.incarnation, counted.round)
        if isinstance(ledger, SyncLedger):
            ledger.last_closed = given.last_closed

    def _shard_numbered(self, number: int) -> Shard:
        if not 0 <= number < len(self._shards):
            raise RemoteProtocolError(f"there is no shard {number}")
        return self._shards[number]


def _kept(chunk: Chunk) -> list[Array]:
    """What restart keeps of the last step's start, as arrays."""
    if isinstance(chunk.stored, StoredRows):
        return [] if chunk.stored.kept is None else chunk.stored.kept.image()
    return [] if chunk.kept is None else [chunk.kept]


def _described(chunk: Chunk, arrays: int, extra: dict[str, Any]) -> m.SnapshotChunk:
    stored, ledger = chunk.stored, chunk.ledger
    # a record in the making is in the weights already; an Init in the making has none
    making = bool(chunk.pending)
    return m.SnapshotChunk(
        chunk=stored.id,
        key=chunk.entry,
        sync=isinstance(ledger, SyncLedger),
        arrays=arrays,
        image=extra,
        version=stored.version + making,
        optimizer_number=stored.optimizer_number,
        base_version=stored.base_version,
        hyper=hyper_values(stored),
        seen=hyper_seen(stored),
        counted=tuple(
            m.CountedRound(rank, c.incarnation, c.round)
            for rank, c in sorted(ledger.counted.items())
        ),
        last_closed=ledger.last_closed if isinstance(ledger, SyncLedger) else None,
    )

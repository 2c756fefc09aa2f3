# SPDX-License-Identifier: Apache-2.0
"""The replica's side of replication: applies the primary's records strictly in order.

A gap is asked for again, what is held already is absorbed, and a different record at a held
position stops the job (PROTOCOL R4). The record names who was counted, so a promoted replica
answers a resend as its predecessor would have (R5).
"""

from __future__ import annotations

from typing import Any

from kvtrain.errors import JobError, RemoteProtocolError, to_wire
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect, Send
from kvtrain.ps.core.log import Array, LogItem
from kvtrain.ps.core.membership import SCHEDULER, NodeId
from kvtrain.ps.core.rounds import Counted, SyncLedger
from kvtrain.ps.core.server.commits import schedule_at
from kvtrain.ps.core.server.keys import check_first
from kvtrain.ps.core.server.restoring import Restoring
from kvtrain.ps.core.server.state import Chunk, Shard, Stage
from kvtrain.ps.core.store import Record


class Replica(Restoring):
    """Takes Replicate."""

    def _on_replicate(self, sender: NodeId, message: m.Replicate, now: float) -> list[Effect]:
        entries = _with_arrays(message)
        held: list[m.LogHeld] = []
        for head in message.heads:
            if not 0 <= head.shard < len(self._shards):
                raise RemoteProtocolError(f"Replicate: there is no shard {head.shard}")
            shard = self._shards[head.shard]
            known = max(shard.view, shard.fence)
            if head.view < known:
                self._replies.refuse(sender, m.ShardView(shard.number, known))
            elif head.view > shard.view:
                self._want_table(now)
            elif sender == shard.primary and self._follows(shard):
                again = self._take_entries(shard, head, entries.get(head.shard, []))
                held.append(m.LogHeld(shard.number, shard.view, shard.log.lsn, again))
        if held:
            self._replies.send(sender, m.ReplicateAck(held=tuple(held)))
        return []

    def _follows(self, shard: Shard) -> bool:
        """Whether this server takes records: a replica, or a learner that has its snapshot."""
        if shard.stage is Stage.LEARNER:
            return shard.arriving is None
        return shard.stage is Stage.REPLICA

    def _take_entries(
        self, shard: Shard, head: m.LogHead, entries: list[tuple[m.LogEntry, tuple[Array, ...]]]
    ) -> bool:
        """Apply what is next; True if something before it is missing."""
        again = head.first > shard.log.lsn + 1
        for entry, arrays in entries:
            if entry.lsn <= shard.log.lsn:
                known = shard.log.item(entry.lsn)
                if known is not None and _name(known.entry) != _name(entry):
                    raise JobError(
                        f"{self.node} holds {known.entry} in shard {shard.number}, and its "
                        f"primary sent {entry} for the same place in the log"
                    )
            elif entry.lsn == shard.log.lsn + 1:
                self._apply(shard, entry, arrays)
            else:
                again = True
                break
        if head.committed <= shard.log.lsn:
            shard.log.committed = max(shard.log.committed, head.committed)
            shard.log.trim(head.committed)
        return again

    # ---- one entry -------------------------------------------------------------------------

    def _apply(self, shard: Shard, entry: m.LogEntry, arrays: tuple[Array, ...]) -> None:
        item = LogItem(entry, arrays)
        match entry.kind:
            case "round":
                item.done.append(self._apply_round(entry, arrays))
            case "init":
                assert entry.chunk is not None and entry.key is not None
                check_first(entry.key, entry.chunk, arrays[0], "init")
                self._make_chunk(entry.chunk, entry.key, entry.sync, arrays[0], arrays[0].nbytes)
            case "optimizer":
                made = self._optimizers(entry.store, entry.number, entry.name, entry.config)
                shard.optimizers[entry.store] = made
            case "states":
                self._apply_states(entry, arrays)
            case _:
                raise RemoteProtocolError(f"Replicate: unknown kind of entry {entry.kind!r}")
        shard.log.append(item)

    def _apply_round(self, entry: m.LogEntry, arrays: tuple[Array, ...]) -> Any:
        """Re-run the update, or take over its result (R8); what is to be told at its commit."""
        chunk = self._chunks.get(entry.chunk) if entry.chunk is not None else None
        if chunk is None or entry.round is None or entry.version != chunk.stored.version + 1:
            held = None if chunk is None else chunk.stored.version
            raise JobError(f"{self.node} cannot apply {entry} to version {held}")
        stored = chunk.stored
        stored.hyper = {value.name: value.value for value in entry.hyper}
        stored.hyper_seen = {s.rank: (s.incarnation, s.number) for s in entry.seen}
        for array in () if entry.result else arrays[:1]:
            check_first(chunk.entry, stored.id, array, "record")
        if isinstance(chunk.ledger, SyncLedger):
            self._keep(chunk, chunk.ledger.last_closed, entry.round)
        optimizers = chunk.shard.optimizers.get(entry.store)
        if entry.result:
            if optimizers is not None and stored.optimizer_number != optimizers.number:
                stored.optimizer_number = optimizers.number
                stored.base_version = stored.version
            stored.restore(arrays, entry.config)
        elif optimizers is None:
            self._arithmetic_of(stored).assign_sum(stored, arrays)
        else:
            at = schedule_at(entry.sync, entry.round)
            scales = [entry.rescale_grad] * len(arrays)
            self._arithmetic_of(stored).update(stored, arrays, scales, optimizers, at)
        self._recount(chunk)
        record = Record(
            store=entry.store,
            chunk=stored.id,
            round=entry.round,
            version_before=stored.version,
            version=entry.version,
            members=entry.members,
            hyper=tuple(sorted(stored.hyper.items())),
            reduced=None if entry.result or not arrays else arrays[0],
        )
        stored.commit(entry.version)
        if entry.checksum >= 0 and stored.checksum() != entry.checksum:
            raise JobError(
                f"{self.node} computed other bits than its primary for version {entry.version} "
                f"of key {chunk.entry.spec.name!r}, chunk {stored.id.part}"
            )
        _count(chunk, entry)
        return lambda: self._recommitted(record)

    def _recommitted(self, record: Record) -> None:
        """A record of an earlier primary is committed here, in a later view (R17)."""
        self._store(record.store).counters["records"] += 1
        if self._observe is not None:
            self._observe(record)

    def _from_server(self, sender: NodeId, message: Any, now: float, handle: Any) -> list[Effect]:
        """Handle what another server says; what cannot happen stops the job with its story."""
        assert self.table is not None
        if self._failed:
            return []
        try:
            effects: list[Effect] = handle(sender, message, now)
        except JobError as error:
            self._failed = True
            name, fields = to_wire(error)
            failure = m.Failure(name=name, fields=tuple(map(str, fields)))
            effects = self._outbox.ask("failure", lambda: [Send(SCHEDULER, failure)], now)
        return effects + self._replies.flush(self.table.epoch)


def _with_arrays(
    message: m.Replicate,
) -> dict[int, list[tuple[m.LogEntry, tuple[Array, ...]]]]:
    """Entries by shard, each with its own arrays."""
    found: dict[int, list[tuple[m.LogEntry, tuple[Array, ...]]]] = {}
    place = 0
    for entry in message.entries:
        if entry.arrays < 0 or place + entry.arrays > len(message.arrays):
            raise RemoteProtocolError("Replicate: its entries need more arrays than came")
        arrays = message.arrays[place : place + entry.arrays]
        place += entry.arrays
        if entry.kind == "init" and (entry.arrays != 1 or not entry.chunk or not entry.key):
            raise RemoteProtocolError("Replicate: an init needs a chunk, its key and a value")
        found.setdefault(entry.shard, []).append((entry, arrays))
    return found


def _name(entry: m.LogEntry) -> tuple[Any, ...]:
    """What two copies of one entry have in common."""
    return (entry.kind, entry.store, entry.chunk, entry.round, entry.version, entry.members)


def _count(chunk: Chunk, entry: m.LogEntry) -> None:
    """The record's members, in the ledger."""
    assert entry.round is not None
    for node in entry.members:
        chunk.ledger.counted[node.rank] = Counted(node.incarnation, entry.round)
    if isinstance(chunk.ledger, SyncLedger):
        chunk.ledger.last_closed = entry.round

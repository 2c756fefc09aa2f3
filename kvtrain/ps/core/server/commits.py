# SPDX-License-Identifier: Apache-2.0
"""A closed round becomes a record, the record is committed, and only then is anybody told.

collecting -> reduced, uncommitted -> committed (PROTOCOL R1, R2, R6). Without replicas the
commit follows at once.
"""

from __future__ import annotations

from typing import Any

from kvtrain.ps.core import messages as m
from kvtrain.ps.core.backup import BackupLedger
from kvtrain.ps.core.log import Array
from kvtrain.ps.core.membership import Round
from kvtrain.ps.core.memory import intact
from kvtrain.ps.core.rounds import AsyncLedger, Part, SyncLedger
from kvtrain.ps.core.row_table import StoredRows
from kvtrain.ps.core.server.standstills import Standstills
from kvtrain.ps.core.server.state import Chunk, Shard, Stage
from kvtrain.ps.core.store import Record, StoredChunk

#: a record of a larger chunk carries a checksum once in so many versions (R8)
CHECKED_EVERY = 64
SMALL = 64 * 1024


class Commits(Standstills):
    """From a closed round to its acknowledgements."""

    # ---- closing ---------------------------------------------------------------------------

    def _close_what_can_be(self, chunk: Chunk) -> None:
        """Reduce what is complete, one record at a time."""
        ledger = chunk.ledger
        if type(ledger) is SyncLedger and not ledger.open:
            self._open.discard(chunk.stored.id)
            return
        while self._is_settled(chunk) and not chunk.shard.sealed:
            if isinstance(ledger, BackupLedger):
                parts = self._next_round(chunk, ledger)
            elif isinstance(ledger, SyncLedger):
                last = ledger.last_closed
                parts = ledger.ready(self._live_of(chunk.entry.store))
                if parts is not None:
                    self._keep(chunk, last, parts[0].round)
            else:
                parts = _next_push(ledger)
            if parts is None:
                break
            self._reduce(chunk, parts)
        self._mark(chunk.stored.id, chunk)

    def _reduce(self, chunk: Chunk, parts: list[Part]) -> None:
        """One record: hyper commands first, then the ordered sum and the update."""
        stored, shard = chunk.stored, chunk.shard
        self._cut_before(chunk, parts[0].round.step)
        if not isinstance(chunk.ledger, SyncLedger):
            self._count_push(chunk, parts[0].node.rank)
        self._apply_hyper(stored, parts)
        full = [p for p in parts if p.array is not None]
        arrays = given = [p.array for p in full if p.array is not None]
        for array in given:
            self._account.let_go(array)
        scales = [p.rescale_grad for p in full]
        optimizers = shard.optimizers.get(chunk.entry.store)
        reduced: Array | None = None
        scale: float | None = None
        arithmetic = self._arithmetic_of(stored)
        if shard.peers:
            reduced, scale = arithmetic.reduce(stored, arrays, scales, optimizers)
            arrays, scales = ([reduced], [scale]) if reduced is not None else ([], [])
        if optimizers is None:
            arithmetic.assign_sum(stored, arrays)
        else:
            at = schedule_at(isinstance(chunk.ledger, SyncLedger), parts[0].round)
            arithmetic.update(stored, arrays, scales, optimizers, at)
        self._recount(chunk)
        if not all([intact(array) for array in given]):
            self._spoiled(chunk)
            return
        record = Record(
            store=chunk.entry.store,
            chunk=stored.id,
            round=parts[0].round,
            version_before=stored.version,
            version=stored.version + 1,
            members=tuple([p.node for p in parts]),
            hyper=tuple(sorted(stored.hyper.items())) if stored.hyper else (),
            arrays=None if any([p.folded for p in parts]) else tuple([p.array for p in parts]),
            reduced=reduced,
        )
        chunk.pending = parts
        self._append(
            shard,
            lambda lsn: self._entry_of(chunk, record, lsn, scale),
            lambda: self._commit(chunk, record),
        )

    def _arithmetic_of(self, stored: StoredChunk) -> Any:
        return self._row_arithmetic if isinstance(stored, StoredRows) else self._arithmetic

    def _spoiled(self, chunk: Chunk) -> None:
        """A contribution was written while it was read: its worker has been told that it is
        counted, so another server decides for this shard and what is here is void (R20, R34)."""
        chunk.shard.stage = Stage.FENCED
        chunk.pending = []
        self._replies.note(
            f"{self.node}: a contribution to key {chunk.entry.spec.name!r} changed while it was "
            "read; this server decides for its shard no more, it must have been replaced"
        )

    def _apply_hyper(self, stored: StoredChunk, parts: list[Part]) -> None:
        """Newly carried commands, highest rank first, so that the lowest wins (R45)."""
        if not any([part.hyper for part in parts]):
            return
        for part in sorted(parts, key=lambda p: -p.node.rank):
            incarnation, seen = stored.hyper_seen.get(part.node.rank, (part.node.incarnation, 0))
            if incarnation != part.node.incarnation:
                seen = 0
            for command in sorted(part.hyper, key=lambda c: c.number):
                if command.number > seen:
                    stored.hyper[command.name] = command.value
                    seen = command.number
            stored.hyper_seen[part.node.rank] = (part.node.incarnation, seen)

    # ---- for the other servers -------------------------------------------------------------

    def _entry_of(
        self, chunk: Chunk, record: Record, lsn: int, scale: float | None
    ) -> tuple[m.LogEntry, tuple[Array, ...]]:
        """The record as it is replicated (R8)."""
        stored = chunk.stored
        arrays: tuple[Array, ...] = () if record.reduced is None else (record.reduced,)
        result = self._kernels_differ(chunk.shard)
        image: dict[str, Any] = {}
        if result:
            given, image = stored.image()
            arrays = tuple(given)
        checked = stored.size * stored.dtype.itemsize <= SMALL or not record.version % CHECKED_EVERY
        entry = m.LogEntry(
            shard=chunk.shard.number,
            lsn=lsn,
            kind="round",
            store=record.store,
            arrays=len(arrays),
            chunk=record.chunk,
            sync=isinstance(chunk.ledger, SyncLedger),
            round=record.round,
            version=record.version,
            members=record.members,
            rescale_grad=scale,
            result=result,
            config=image,
            hyper=hyper_values(stored),
            seen=hyper_seen(stored),
            checksum=stored.checksum() if checked else -1,
        )
        return entry, arrays

    def _kernels_differ(self, shard: Shard) -> bool:
        """Whether some server of the shard would compute other bits from the same gradient."""
        assert self.table is not None
        mine = self.table.server(self.node)
        for node in shard.peers:
            info = self.table.server(node)
            if mine is not None and info is not None and info.kernel != mine.kernel:
                return True
        return False

    # ---- committed -------------------------------------------------------------------------

    def _commit(self, chunk: Chunk, record: Record) -> None:
        """The record is everywhere it must be: make it visible and acknowledge (R1)."""
        chunk.stored.commit(record.version)
        self._store(record.store).counters["records"] += 1
        if self._observe is not None:
            self._observe(record)
        parts, chunk.pending = chunk.pending or [], None
        for part in parts:
            self._answer(chunk, part)
        self._settle(chunk)

    def _settle(self, chunk: Chunk) -> None:
        """The chunk's weights may be shown: answer what has waited, close what has come."""
        if not self._is_settled(chunk):
            return
        self._cut_settled(chunk)
        late, chunk.late = chunk.late, []
        for part in late:
            self._answer(chunk, part)
        waiting, chunk.readers = chunk.readers, []
        for reader in waiting:
            self._read(chunk, reader)
        self._close_what_can_be(chunk)

    def _caught_up(self, shard: Shard) -> None:
        for chunk_id in sorted(shard.chunks):
            self._settle(self._chunks[chunk_id])

    def _answer(self, chunk: Chunk, part: Part) -> None:
        stored, entry = chunk.stored, chunk.entry
        view, counted = chunk.shard.view, not part.dropped
        verdict = m.Verdict(
            stored.id, view, part.round, counted, stored.version, closed=_closed(chunk)
        )
        value = stored.committed(self._may_lend(chunk, part.node)) if part.want else None
        if value is not None and not stored.id.part and not isinstance(chunk.ledger, SyncLedger):
            chunk.read_by[part.node.rank] = stored.version
        if value is not None:
            self._store(entry.store).counters["bytes_out"] += int(value.nbytes)
        self._replies.verdict(part.node, entry.store, part.request, verdict, value)

    def _answer_again(self, chunk: Chunk, part: Part) -> None:
        """A repeat of a contribution that is in a record: the same verdict, once committed."""
        if self._is_settled(chunk):
            self._answer(chunk, part)
            return
        for held in (*(chunk.pending or ()), *chunk.late):
            if held.node == part.node and held.round == part.round:
                held.want = held.want or part.want
                return
        chunk.late.append(part)


def _closed(chunk: Chunk) -> int:
    """What a worker that was dropped needs to know, to go on after it (R39)."""
    ledger = chunk.ledger
    if not isinstance(ledger, BackupLedger) or ledger.last_closed is None:
        return -1
    return ledger.last_closed.step


def _next_push(ledger: AsyncLedger) -> list[Part] | None:
    part = ledger.next_of_any()
    return None if part is None else [part]


def schedule_at(sync: bool, round_: Round) -> int | None:
    """Where the schedule is evaluated: the round's step, or the key's own count (None)."""
    return round_.step + 1 if sync and round_.step > 0 else None


def hyper_values(stored: StoredChunk) -> tuple[m.HyperValue, ...]:
    """Changes in force, for other servers."""
    return tuple(m.HyperValue(name, value) for name, value in sorted(stored.hyper.items()))


def hyper_seen(stored: StoredChunk) -> tuple[m.HyperSeen, ...]:
    """Commands in force, for other servers."""
    return tuple(m.HyperSeen(r, i, n) for r, (i, n) in sorted(stored.hyper_seen.items()))

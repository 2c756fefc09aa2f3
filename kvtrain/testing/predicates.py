# SPDX-License-Identifier: Apache-2.0
"""PROTOCOL's predicates on what a simulated job has done."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np

from kvtrain.ps.core.membership import Epoch, NodeId, Round, Table
from kvtrain.ps.core.messages import LogEntry
from kvtrain.ps.core.rows import unpack
from kvtrain.ps.core.server.state import Shard
from kvtrain.ps.core.shards import ChunkId, KeyEntry
from kvtrain.ps.core.store import Record
from kvtrain.testing.plans import LR, Plan, Received, apply, total

Array = np.ndarray[Any, Any]


def elements(entry: KeyEntry, part: int) -> slice:
    """The elements of a key's flat array that lie in chunk `part`."""
    if entry.row_parts:
        return slice(part, None, entry.row_parts)
    return slice(*entry.bounds(part))


def values(entry: KeyEntry, array: Array, size: int) -> Array:
    """The values of a contribution; of a row-sparse key it came packed, zeros left out."""
    if not entry.row_parts:
        return array
    ids, rows = unpack(array, 1, entry.spec.dtype)
    out = np.zeros(size, entry.spec.dtype)
    out[ids] = rows[:, 0]
    return out


class Witness:
    """Sees every committed record and every acknowledged push of a job."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.entries: dict[int, KeyEntry] = {}
        self.records: dict[ChunkId, list[Record]] = defaultdict(list)
        #: weights of each chunk after each version, by the reference model
        self.states: dict[ChunkId, list[Array]] = {}
        self.tables: dict[Epoch, Table] = {}
        #: (chunk, round, rank) -> how often it is in a record
        self._counted: dict[tuple[ChunkId, Round, int], int] = defaultdict(int)
        self._hyper: dict[tuple[int, Round], Any] = {}
        self._members: dict[tuple[int, int], tuple[int, ...]] = {}
        #: which server decided for a shard in a view
        self.deciders: dict[tuple[int, Epoch], NodeId] = {}
        self._log: dict[tuple[int, Epoch, int], LogEntry] = {}
        #: async: (chunk, rank) -> last sequence number in a record
        self._last: dict[tuple[ChunkId, int], int] = {}
        #: the step that each chunk is in, and the weights at its start
        self._begun: dict[ChunkId, tuple[int, Array]] = {}
        #: (chunk, rank) -> what arrives of that worker's next contribution
        self._received: dict[tuple[ChunkId, int], Received] = defaultdict(
            lambda: Received(plan.compression)
        )
        self.lost = False

    def key_of(self, chunk: ChunkId) -> tuple[int, int]:
        """(store, number of the key)."""
        entry = self.entries[chunk.key]
        return entry.store, int(entry.spec.name[1:])

    def states_of(self, chunk: ChunkId) -> list[Array]:
        """Weights after each version, the first values included."""
        if chunk not in self.states:
            store, key = self.key_of(chunk)
            mine = elements(self.entries[chunk.key], chunk.part)
            self.states[chunk] = [self.plan.first(store, key, 0)[mine]]
        return self.states[chunk]

    def committed(self, record: Record) -> None:
        """A record became visible: I1 (fingerprints), I2, I5, I11 and the model's next state."""
        chunk, plan = record.chunk, self.plan
        history = self.records[chunk]
        assert record.version == record.version_before + 1, f"I2: {record}"
        assert record.version_before <= len(history), f"I2: {record} after {len(history)} records"
        if record.version <= len(history):
            # committed again by a later primary, or late by a deposed one
            before = history[record.version - 1]
            assert before == record, f"I2: {record} is not {before}"
            return
        history.append(record)
        ranks = tuple(node.rank for node in record.members)
        assert ranks == tuple(sorted(set(ranks))), f"I5: members {ranks}"
        store, key = self.key_of(chunk)
        entry = self.entries[chunk.key]
        mine = elements(entry, chunk.part)
        if chunk not in self._begun or self._begun[chunk][0] != record.round.step:
            self._begun[chunk] = (record.round.step, self.states_of(chunk)[-1])
        base = self._begun[chunk][1]
        parts = []
        for node in record.members:
            name = (chunk, record.round, node.rank)
            self._counted[name] += 1
            assert self._counted[name] == 1, f"I1: {name} is in two records"
            step, n = self._place(node.rank, record.round)
            if not plan.sync:
                last = self._last.get((chunk, node.rank), 0)
                assert record.round.n == last + 1, f"I9: {name} after number {last}"
                self._last[(chunk, node.rank)] = record.round.n
            sent = plan.payload(store, key, node.rank, step, n)[mine]
            parts.append(self._received[(chunk, node.rank)](plan.blend(sent, base)))
        for node, array, sent in zip(record.members, record.arrays or (), parts, strict=False):
            assert array is not None
            name = (chunk, record.round, node.rank)
            assert values(entry, array, sent.size).tobytes() == sent.tobytes(), (
                f"I1: {name} holds another payload"
            )
        if record.reduced is not None:
            reduced = values(entry, record.reduced, parts[0].size)
            assert reduced.tobytes() == total(parts).tobytes(), (
                f"I1: {record} was replicated with another sum"
            )
        if plan.sync:
            self._check_sync(record, ranks)
        lr = dict(record.hyper).get("learning_rate", LR)
        states = self.states_of(chunk)
        states.append(apply(states[-1], parts, lr if plan.optimizer else None))

    def _place(self, rank: int, round_: Round) -> tuple[int, int]:
        """Step and number of the push that a round (sync) or sequence number (async) names."""
        if self.plan.sync:
            return round_.step, round_.n
        step, n = divmod(round_.n - 1, self.plan.pushes)
        return step, n

    def _check_sync(self, record: Record, ranks: tuple[int, ...]) -> None:
        step = record.round.step
        if not self.lost:
            assert any(t.live(record.store, step) == ranks for t in self.tables.values()), (
                f"I5: {ranks} is no live set of step {step}"
            )
            held = self._members.setdefault((record.store, step), ranks)
            assert held == ranks, f"I5: chunks of step {step} closed on {held} and {ranks}"
        values = self._hyper.setdefault((record.store, record.round), record.hyper)
        assert values == record.hyper, f"I11: {values} and {record.hyper} in {record.round}"

    def acknowledged(self, rank: int, chunk: ChunkId, round_: Round) -> None:
        """A worker was told that its push is committed."""
        count = self._counted.get((chunk, round_, rank), 0)
        assert count == 1, f"I1: {chunk} {round_} of worker {rank} acknowledged, in {count} records"

    def version_of(self, chunk: ChunkId, round_: Round | None, rank: int) -> int:
        """The version that a worker's contribution led to; 0 for none."""
        if round_ is None:
            return 0
        for record in self.records[chunk]:
            if record.round == round_ and any(node.rank == rank for node in record.members):
                return record.version
        raise AssertionError(f"I1: a read waited for {round_} of {chunk}, which is in no record")

    def logged(self, shard: Shard, entry: LogEntry) -> None:
        """A replica or primary holds `entry` in its view: I3."""
        place = (shard.number, shard.view, entry.lsn)
        held = self._log.setdefault(place, entry)
        same = (held.kind, held.chunk, held.round, held.members, held.version)
        assert same == (entry.kind, entry.chunk, entry.round, entry.members, entry.version), (
            f"I3: {held} and {entry} in view {shard.view}"
        )

    def value(self, chunk: ChunkId, value: Array, least: int) -> int:
        """A worker read `value`: it is a committed state, not older than version `least`."""
        states = self.states_of(chunk)
        for version in range(least, len(states)):
            if states[version].tobytes() == value.tobytes():
                return version
        raise AssertionError(f"I2: a value of {chunk} is no committed state from {least} on")

    def fresh_enough(self, chunk: ChunkId, value: Array, gate: int) -> None:
        """I8: a value read under `gate` has all pushes of each live worker's earlier steps."""
        if self.lost or gate <= 0:
            return
        states, records = self.states_of(chunk), self.records[chunk]
        version = max(v for v, s in enumerate(states) if s.tobytes() == value.tobytes())
        inside = Counter(node.rank for record in records[:version] for node in record.members)
        for rank, steps in enumerate(self.plan.steps):
            wanted = min(gate, steps) * self.plan.pushes
            assert inside[rank] >= wanted, (
                f"I8: a value of {chunk} under gate {gate} has {inside[rank]} of the {wanted} "
                f"pushes of worker {rank}"
            )

    def finished(self) -> None:
        """At the normal end: everything that was sent is in, and I6."""
        plan = self.plan
        for chunk in self.states:
            store, key = self.key_of(chunk)
            mine = elements(self.entries[chunk.key], chunk.part)
            expected = sum(plan.steps) * plan.pushes
            inside = sum(len(record.members) for record in self.records[chunk])
            assert inside == expected, f"I1: {inside} of {expected} contributions to {chunk}"
            if plan.sync:
                final = plan.final(store, key, mine)
                last = self.states[chunk][-1]
                assert last.tobytes() == final.tobytes(), f"I6: {chunk} ends with other bits"
        names = {chunk.key for chunk in self.states}
        assert len(names) == sum(map(len, plan.stores)), "a key has no record"

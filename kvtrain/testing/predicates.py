# SPDX-License-Identifier: Apache-2.0
"""PROTOCOL's predicates on what a simulated job has done."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np

from kvtrain.ps.core import messages as m
from kvtrain.ps.core import requests as r
from kvtrain.ps.core.membership import Epoch, NodeId, Round, Table
from kvtrain.ps.core.messages import LogEntry
from kvtrain.ps.core.rows import unpack
from kvtrain.ps.core.server.state import Shard, Stage
from kvtrain.ps.core.shards import ChunkId, KeyEntry
from kvtrain.ps.core.store import Record
from kvtrain.testing.joins import Joined
from kvtrain.testing.models import LR, Model, Received, decoded, total
from kvtrain.testing.plans import Plan

Array = np.ndarray[Any, Any]
#: one contribution: in sync those of a rank's incarnations are one and the same (incarnation 0)
Name = tuple[ChunkId, Round, int, int]


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
        self._models: dict[ChunkId, Model] = {}
        self.tables: dict[Epoch, Table] = {}
        #: how often a contribution is in a record
        self._counted: dict[Name, int] = defaultdict(int)
        #: what each worker was told is committed
        self._told: set[Name] = set()
        #: (chunk, round, sender) -> code and bytes of the first sending
        self._sent: dict[tuple[ChunkId, Round, NodeId], tuple[int, bytes]] = {}
        self._hyper: dict[tuple[int, Round], Any] = {}
        self._members: dict[tuple[int, int], tuple[int, ...]] = {}
        #: which server decided for a shard in a view
        self.deciders: dict[tuple[int, Epoch], NodeId] = {}
        #: the shard of that server, as it holds it
        self._leading: dict[int, Shard] = {}
        self._log: dict[tuple[int, Epoch, int], LogEntry] = {}
        #: async: (chunk, rank, incarnation) -> last sequence number in a record
        self._last: dict[tuple[ChunkId, int, int], int] = {}
        #: the step that each chunk is in, and the weights at its start
        self._begun: dict[ChunkId, tuple[int, Array]] = {}
        #: (chunk, worker) -> what arrives of that worker's next contribution
        self._received: dict[tuple[ChunkId, NodeId], Received] = defaultdict(
            lambda: Received(plan.compression)
        )
        #: (worker, store) -> the step in which it began
        self._begins: dict[tuple[NodeId, int], int] = {}
        #: chunk -> the learning rate in force, and the step of each rank's last command in it
        self._rates: dict[ChunkId, tuple[float, dict[int, tuple[int, int]]]] = {}
        #: workers that joined
        self.joined: dict[NodeId, Joined] = {}
        #: I10: chunk -> (first step, version) of joiners' first reads
        self._first_reads: dict[ChunkId, list[tuple[int, int]]] = defaultdict(list)
        #: ranks that are gone for good
        self.gone: set[int] = set()

    @property
    def lost(self) -> bool:
        """Whether a worker was lost that nobody replaces."""
        return bool(self.gone)

    # ---- names ----------------------------------------------------------------------------

    def who(self, node: NodeId) -> NodeId:
        """A worker: one that is started again is the same, one that joins another one."""
        return node if node in self.joined else NodeId(node.role, node.rank, 1)

    def _ends(self, node: NodeId) -> int:
        """The first step that a worker's program does not make any more."""
        return max(self.plan.steps) if node in self.joined else self.plan.steps[node.rank]

    def key_of(self, chunk: ChunkId) -> tuple[int, int]:
        """(store, number of the key)."""
        entry = self.entries[chunk.key]
        return entry.store, int(entry.spec.name[1:])

    def is_sync(self, chunk: ChunkId) -> bool:
        """Whether a chunk closes rounds."""
        return self.plan.is_sync(*self.key_of(chunk))

    def _name(self, chunk: ChunkId, round_: Round, node: NodeId) -> Name:
        return chunk, round_, node.rank, 0 if self.is_sync(chunk) else node.incarnation

    def states_of(self, chunk: ChunkId) -> list[Array]:
        """Weights after each version, the first values included."""
        if chunk not in self.states:
            store, key = self.key_of(chunk)
            mine = elements(self.entries[chunk.key], chunk.part)
            first = self.plan.first(store, key, 0)[mine]
            self.states[chunk] = [first]
            self._models[chunk] = Model(first, self.plan.update)
        return self.states[chunk]

    def go_on(self, chunk: ChunkId, model: Model, rate: float) -> None:
        """A chunk begins where a checkpoint was made, with that learning rate in force."""
        self._models[chunk] = model
        self._rates[chunk] = (rate, {})

    def begins(self, node: NodeId, store: int, step: int) -> None:
        """A worker's program begins in `step` of `store`."""
        self._begins[(node, store)] = step

    def clock_told(self, sender: NodeId, message: m.Clock) -> None:
        """A successor tells where it goes on before its program does."""
        self._begins.setdefault((sender, message.store), message.step)

    def _place(self, chunk: ChunkId, node: NodeId, round_: Round) -> tuple[int, int]:
        """Step and number of the push that a round (sync) or sequence number (async) names."""
        if self.is_sync(chunk):
            return round_.step, round_.n
        step, n = divmod(round_.n - 1, self.plan.pushes)
        return step + self._begins.get((node, self.key_of(chunk)[0]), 0), n

    # ---- what is sent -----------------------------------------------------------------------

    def sent(self, sender: NodeId, message: m.Push) -> None:
        """R31: a contribution is sent again with the bytes of its first sending."""
        for given, array in zip(message.chunks, message.arrays, strict=True):
            held = (given.codec, array.tobytes())
            before = self._sent.setdefault((given.chunk, given.round, sender), held)
            assert before == held, f"R31: {sender} sends {given} again with other bytes"

    def posted(
        self, rank: int, request: r.PushRequest, rounds: list[tuple[ChunkId, Round]]
    ) -> None:
        """A worker posts contributions; what they hold follows from the plan."""

    # ---- records ----------------------------------------------------------------------------

    def committed(self, record: Record) -> None:
        """A record became visible: I1 (fingerprints), I2, I5, I9, I11 and the next state."""
        chunk = record.chunk
        history = self.records[chunk]
        assert record.version == record.version_before + 1, f"I2: {record}"
        assert record.version_before <= len(history), f"I2: {record} after {len(history)} records"
        if record.version <= len(history):
            # committed again by a later primary, or late by a deposed one
            before = history[record.version - 1]
            assert before == record, f"I2: {record} is not {before}"
            return
        history.append(record)
        entry = self.entries[chunk.key]
        ranks = tuple(node.rank for node in record.members)
        assert ranks == tuple(sorted(set(ranks))), f"I5: members {ranks}"
        states = self.states_of(chunk)
        if chunk not in self._begun or self._begun[chunk][0] != record.round.step:
            self._begun[chunk] = (record.round.step, states[-1])
        parts = [self._part(record, node) for node in record.members]
        for node, array, sent in zip(record.members, record.arrays or (), parts, strict=False):
            assert array is not None
            assert values(entry, array, sent.size).tobytes() == sent.tobytes(), (
                f"I1, I7: {(chunk, record.round, node)} holds another payload"
            )
        if record.reduced is not None:
            reduced = values(entry, record.reduced, parts[0].size)
            assert reduced.tobytes() == total(parts).tobytes(), (
                f"I1: {record} was replicated with another sum"
            )
        if self.is_sync(chunk):
            self._check_sync(record, ranks)
        states.append(self._models[chunk].apply(parts, self._rate(record)))

    def _part(self, record: Record, node: NodeId) -> Array:
        """A member's contribution: once, in its order, and what the plan says (I1, I9)."""
        chunk, round_, plan = record.chunk, record.round, self.plan
        name = self._name(chunk, round_, node)
        self._counted[name] += 1
        assert self._counted[name] == 1, f"I1: {name} is in two records"
        if not self.is_sync(chunk):
            place = (chunk, node.rank, node.incarnation)
            last = self._last.get(place, 0)
            assert round_.n == last + 1, f"I9: {name} after number {last}"
            self._last[place] = round_.n
        entry, (store, key) = self.entries[chunk.key], self.key_of(chunk)
        mine = elements(entry, chunk.part)
        if plan.compression and plan.on_worker_loss == "restart":
            # residuals are lost with a worker: what it sent is all that can be known
            _, raw = self._sent[(chunk, round_, node)]
            return decoded(plan.compression, raw, mine.stop - mine.start)
        step, n = self._place(chunk, node, round_)
        sent = plan.payload(store, key, node.rank, step, n, node.incarnation)[mine]
        if self.is_sync(chunk):
            sent = plan.blend(sent, self._begun[chunk][1])
        return self._received[(chunk, self.who(node))](sent)

    def _rate(self, record: Record) -> float:
        """I11, R45, R46: the learning rate in a record is that of its members' last commands."""
        plan, chunk = self.plan, record.chunk
        rate, acted = self._rates.setdefault(chunk, (LR, {}))
        for node in reversed(record.members):
            step, _ = self._place(chunk, node, record.round)
            begin = self._begins.get((node, record.store), 0)
            # a successor's commands count anew, except those that its predecessor's push brought
            life = 0 if self.is_sync(chunk) else node.incarnation
            for at in range(step, begin - 1, -1):
                given = plan.rate(node.rank, at)
                if given is not None:
                    if (life, at) > acted.get(node.rank, (-1, -1)):
                        acted[node.rank] = (life, at)
                        rate = given
                    break
        self._rates[chunk] = (rate, acted)
        if plan.optimizer:
            found = dict(record.hyper).get("learning_rate", LR)
            assert found == rate, f"R45: rate {found} in {record}, its members' is {rate}"
        return rate

    def _check_sync(self, record: Record, ranks: tuple[int, ...]) -> None:
        step = record.round.step
        assert any(t.live(record.store, step) == ranks for t in self.tables.values()), (
            f"I5: {ranks} is no live set of step {step}"
        )
        if not self.lost:
            held = self._members.setdefault((record.store, step), ranks)
            assert held == ranks, f"I5: chunks of step {step} closed on {held} and {ranks}"
            values = self._hyper.setdefault((record.store, record.round), record.hyper)
            assert values == record.hyper, f"I11: {values}, {record.hyper} in {record.round}"

    # ---- what workers are told ----------------------------------------------------------------

    def acknowledged(self, node: NodeId, chunk: ChunkId, round_: Round, dropped: bool) -> None:
        """A worker was told that its push is committed."""
        assert not dropped, f"I1: {chunk} {round_} of {node} was dropped"
        name = self._name(chunk, round_, node)
        self._told.add(name)
        count = self._counted.get(name, 0)
        assert count == 1, f"I1: {name} was acknowledged, and is in {count} records"

    def version_of(self, chunk: ChunkId, round_: Round | None, node: NodeId) -> int:
        """The version that a worker's contribution led to; 0 for none."""
        if round_ is None:
            return 0
        wanted = self._name(chunk, round_, node)
        for record in self.records[chunk]:
            if record.round == round_:
                if any(self._name(chunk, round_, other) == wanted for other in record.members):
                    return record.version
        raise AssertionError(f"I1: a read waited for {round_} of {chunk}, which is in no record")

    def value(self, chunk: ChunkId, value: Array, least: int) -> int:
        """A worker read `value`: it is a committed state, not older than version `least`."""
        states, wanted = self.states_of(chunk), value.tobytes()
        for version in range(least, len(states)):
            if states[version].tobytes() == wanted:
                return version
        raise AssertionError(f"I2: a value of {chunk} is no committed state from {least} on")

    def first_read(self, chunk: ChunkId, value: Array, node: NodeId) -> None:
        """I10: what a joiner reads before it contributes is the state before its first step."""
        joined = self.joined.get(node)
        first = joined.begins[self.key_of(chunk)[0]] if joined is not None else 0
        if not first or not self.is_sync(chunk):
            return
        version = sum(record.round.step < first for record in self.records[chunk])
        assert self.states_of(chunk)[version].tobytes() == value.tobytes(), (
            f"I10: {node} read {chunk} not as it was before step {first}"
        )
        self._first_reads[chunk].append((first, version))

    def fresh_enough(self, chunk: ChunkId, value: Array, gate: int) -> None:
        """I8: a value read under `gate` has all pushes of each live worker's earlier steps."""
        if gate <= 0:
            return
        states, records = self.states_of(chunk), self.records[chunk]
        wanted = value.tobytes()
        version = max(v for v, s in enumerate(states) if s.tobytes() == wanted)
        inside = Counter(node for record in records[:version] for node in record.members)
        store = self.key_of(chunk)[0]
        for rank, steps in enumerate(self.plan.steps):
            if rank in self.gone:
                continue
            # whoever had the rank when the value left has all of its own in it
            lives = [n for n, s in self._begins if n.rank == rank and s == store]
            owed = {
                n: (min(gate, steps) - self._begins[(n, store)]) * self.plan.pushes for n in lives
            }
            assert any(inside[n] >= owed[n] for n in lives), (
                f"I8: a value of {chunk} under gate {gate} has {dict(inside)}, worker {rank} owes "
                f"{owed}"
            )

    # ---- servers --------------------------------------------------------------------------------

    def holds(self, me: NodeId, shard: Shard) -> None:
        """I3 and I4 about one server's part in a shard."""
        if shard.stage in (Stage.NONE, Stage.LEARNER, Stage.FENCED):
            return
        if shard.decides:
            holder = self.deciders.setdefault((shard.number, shard.view), me)
            assert holder == me, f"I4: {holder} and {me} decide for shard {shard.number}"
            if shard.stage is Stage.PRIMARY:
                self._leading[shard.number] = shard
        leader = self._leading.get(shard.number)
        if shard.stage is Stage.REPLICA and leader is not None and leader.view == shard.view:
            ahead = leader.stage is Stage.PRIMARY and shard.log.lsn > leader.log.lsn
            assert not ahead, f"I3: {me} holds more of shard {shard.number} than its primary"
        for item in shard.log.after(0):
            self._logged(shard, item.entry)

    def _logged(self, shard: Shard, entry: LogEntry) -> None:
        """I3: the logs of one view agree wherever two hold an entry."""
        place = (shard.number, shard.view, entry.lsn)
        held = self._log.setdefault(place, entry)
        if held is entry:
            return
        same = (held.kind, held.chunk, held.round, held.members, held.version)
        assert same == (entry.kind, entry.chunk, entry.round, entry.members, entry.version), (
            f"I3: {held} and {entry} in view {shard.view}"
        )

    # ---- the end --------------------------------------------------------------------------------

    def finished(self, ended: list[NodeId]) -> None:
        """At the normal end: what those who ended have sent is in, once; and I6."""
        plan = self.plan
        for name in self._told:
            assert self._counted[name] == 1, f"I1: {name} is lost at the end"
        for chunk in self.states:
            store, key = self.key_of(chunk)
            inside = Counter(node for r in self.records[chunk] for node in r.members)
            if self.is_sync(chunk):
                found = Counter(self.who(node) for node in inside.elements())
                for node in ended:
                    joined, who = self.joined.get(node), self.who(node)
                    begin = joined.begins[store] if joined is not None else 0
                    steps = range(begin, self._ends(node))
                    wanted = plan.pushes * sum(plan.pushed(key, step) for step in steps)
                    assert found[who] == wanted, (
                        f"I1: {found[who]} of {wanted} contributions of {node} to {chunk}"
                    )
                for first, version in self._first_reads[chunk]:
                    before = sum(record.round.step < first for record in self.records[chunk])
                    assert before == version, f"I10: step {first} of {chunk} began too early"
            for node in [] if self.is_sync(chunk) else ended:
                begin = self._begins[(node, store)]
                wanted = max(0, self._ends(node) - begin) * plan.pushes
                assert inside[node] == wanted, (
                    f"I1: {inside[node]} of {wanted} contributions of {node} to {chunk}"
                )
            kept = not (plan.compression and plan.on_worker_loss == "restart") and not self.lost
            if self.is_sync(chunk) and kept:
                mine = elements(self.entries[chunk.key], chunk.part)
                final = plan.final(store, key, mine, tuple(self.joined.values()))
                last = self.states[chunk][-1]
                assert last.tobytes() == final.tobytes(), f"I6: {chunk} ends with other bits"
        if not self.lost:
            names = {self.key_of(chunk) for chunk in self.states}
            steps = range(max(plan.steps))
            wanted_keys = {
                (store, key)
                for store, sizes in enumerate(plan.stores)
                for key in range(len(sizes))
                if any(plan.pushed(key, step) for step in steps)
            }
            assert names >= wanted_keys, "a key has no record"

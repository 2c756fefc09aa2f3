# SPDX-License-Identifier: Apache-2.0
"""PROTOCOL's predicates where rounds close without their slowest members."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ps.core import requests as r
from kvtrain.ps.core.membership import NodeId, Role, Round
from kvtrain.ps.core.shards import ChunkId
from kvtrain.ps.core.store import Record
from kvtrain.testing.models import LR
from kvtrain.testing.plans import Plan
from kvtrain.testing.predicates import Witness, elements

Array = np.ndarray[Any, Any]
#: (chunk, round, rank)
Post = tuple[ChunkId, Round, int]


class BackupWitness(Witness):
    """Verdicts (I1), the jump of who was dropped (R39), and who is in a record.

    Steps of the program and of its worker differ after a jump, so what is posted is looked at
    when it is posted.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._posted: dict[Post, Array] = {}
        self._encoded: dict[Post, Array] = {}
        #: what was told of each contribution: whether it was dropped
        self.verdicts: dict[Post, bool] = {}
        #: (store, rank) -> the last step in which one was dropped
        self._late: dict[tuple[int, int], int] = {}

    def posted(
        self, rank: int, request: r.PushRequest, rounds: list[tuple[ChunkId, Round]]
    ) -> None:
        """Remember what arrives of each contribution, with what was dropped before in it."""
        for chunk, round_ in rounds:
            post = (chunk, round_, rank)
            assert post not in self._posted, f"R39: {post} is posted twice"
            late = self._late.get((request.store, rank), -1)
            assert round_.step > late, f"R39: {post} after a drop at step {late}"
            values = request.arrays[0]
            assert values is not None
            mine = np.ascontiguousarray(values[elements(self.entries[chunk.key], chunk.part)])
            received = self._received[(chunk, NodeId(Role.WORKER, rank, 1))]
            self._posted[post] = received(mine).copy()
            self._encoded[post] = received.wire

    def _part(self, record: Record, node: NodeId) -> Array:
        post = (record.chunk, record.round, node.rank)
        name = self._name(record.chunk, record.round, node)
        self._counted[name] += 1
        assert self._counted[name] == 1, f"I1: {name} is in two records"
        assert not self.verdicts.get(post), f"I1: {post} was dropped, and is counted"
        return self._posted[post]

    def _rate(self, record: Record) -> float:
        """R46 promises no common round: the model takes the record's own."""
        return dict(record.hyper).get("learning_rate", LR)

    def _check_sync(self, record: Record, ranks: tuple[int, ...]) -> None:
        """Members are in the live set of some table, and rounds of a chunk close in order."""
        live = [set(t.live(record.store, record.round.step)) for t in self.tables.values()]
        assert any(set(ranks) <= members for members in live), f"I5: {ranks} in {record}"
        before = self.records[record.chunk][:-1]
        assert not before or before[-1].round < record.round, f"I2: {record} after {before[-1]}"

    def acknowledged(self, node: NodeId, chunk: ChunkId, round_: Round, dropped: bool) -> None:
        """I1: counted in exactly one record, or dropped and in none."""
        count = self._counted.get(self._name(chunk, round_, node), 0)
        assert count == (not dropped), f"I1: {chunk} {round_} of {node}: {dropped=}, in {count}"
        post = (chunk, round_, node.rank)
        self.verdicts[post] = dropped
        if dropped:
            last = self.records[chunk][-1].round
            assert last >= round_, f"R39: {post} is dropped while {last} is the last"
            place = (self.entries[chunk.key].store, node.rank)
            self._late[place] = max(self._late.get(place, -1), round_.step)
            self._received[(chunk, self.who(node))].give_back(self._encoded[post])

    def version_of(self, chunk: ChunkId, round_: Round | None, node: NodeId) -> int:
        """The version after which it is decided what became of a contribution; 0 for none."""
        if round_ is None:
            return 0
        for record in self.records[chunk]:
            if record.round >= round_:
                return record.version
        raise AssertionError(f"I1: a read waited for {round_} of {chunk}, which is not over")

    def finished(self, ended: list[NodeId]) -> None:
        """What is in a record was told so, and the other way round; nothing is forgotten."""
        ranks = {node.rank for node in ended}
        posts = {post for post in self._posted if post[2] in ranks}
        inside = {
            (chunk, record.round, node.rank)
            for chunk, records in self.records.items()
            for record in records
            for node in record.members
            if node.rank in ranks
        }
        told = {post for post in self.verdicts if post[2] in ranks}
        assert posts == told, f"I1: nothing was told of {posts ^ told}"
        counted = {post for post in told if not self.verdicts[post]}
        assert inside == counted, f"I1: {inside ^ counted} are in one of records and verdicts"
        if not self.lost:
            names = {chunk.key for chunk in self.states}
            assert len(names) == sum(map(len, self.plan.stores)), "a key has no record"

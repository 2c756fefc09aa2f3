# SPDX-License-Identifier: Apache-2.0
"""Mutations of PROTOCOL section 7 about losses: each breaks one rule, and some seed notices.

The mutations that need no losses are in ``test_simulation`` and ``test_modes``. Not here
because nothing of the kind exists in the code: rebuilding without a
journal.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kvtrain.ps.core.backup import BackupLedger
from kvtrain.ps.core.membership import Role
from kvtrain.ps.core.rounds import SyncLedger
from kvtrain.ps.core.scheduler import SchedulerCore
from kvtrain.ps.core.scheduler import shards as scheduler_shards
from kvtrain.ps.core.server import ServerCore, replica
from kvtrain.ps.core.server.state import Stage
from kvtrain.ps.core.store import StoredChunk
from kvtrain.ps.core.worker import WorkerCore
from kvtrain.testing import Plan, Simulation
from kvtrain.testing.joins import Join
from kvtrain.testing.mapped import MappedReads
from kvtrain.testing.plans import Fault
from tests.sim.mutating import Mutation, check_that_it_is_caught, name_of

Patch = pytest.MonkeyPatch
TWO_BIT = json.dumps({"type": "2bit"})


def drawn(seed: int) -> Plan:
    return Plan.draw(seed)


def two_losses(seed: int) -> Plan:
    """Three servers hold everything; two die one after the other, the second soon."""
    plan = Plan.draw(seed)
    plan = replace(plan, servers=3, replicas=2, shards=2, steps=[6] * plan.workers)
    plan = replace(
        plan, drop=0.0, longest_delay=0.05, on_worker_loss="abort", backups=0, tight=False
    )
    begin = 1.0 + (seed % 7) * 0.05
    plan.faults = [
        Fault("cut", "server", begin, (seed % 13) / 13, 2.0),
        Fault("kill", "server", begin + 0.1, (seed % 11) / 11),
        Fault("kill", "server", begin + 0.3 + (seed % 5) * 0.1, (seed % 3) / 3),
    ]
    return plan


def apart_by_one(seed: int) -> Plan:
    """The primary dies while one of its two replicas is cut off: they are a record apart."""
    plan = two_losses(seed)
    plan = replace(plan, sync=False, optimizer=True, staleness=None, reads=False, compression="")
    plan = replace(plan, workers=3, steps=[6] * 3, one_trip=True, barriers=False)
    plan.faults = [fault for fault in plan.faults[:2]]
    return plan


def joining(seed: int) -> Plan:
    """Somebody joins, on a network that delays."""
    plan = Plan.draw(seed)
    plan = replace(plan, sync=True, optimizer=True, staleness=None, reads=True)
    plan = replace(plan, workers=2, steps=[6, 6], longest_delay=0.5, joins=[Join(1)])
    plan = replace(plan, modes=[], backups=0, last_barrier=False, rows=False, some_rows=False)
    return replace(plan, faults=[], on_worker_loss="abort", states=False)


# ---- servers -----------------------------------------------------------------------------------


def acknowledge_before_replication(patch: Patch) -> None:
    real = ServerCore._advance

    def advance(self: Any, shard: Any) -> None:
        held = {peer: peer.required for peer in shard.peers.values()}
        for peer in held:
            peer.required = False
        real(self, shard)
        for peer, required in held.items():
            peer.required = required

    patch.setattr(ServerCore, "_advance", advance)


def read_what_is_not_committed(patch: Patch) -> None:
    patch.setattr(ServerCore, "_is_settled", lambda self, chunk: chunk.shard.stage is Stage.PRIMARY)
    patch.setattr(StoredChunk, "committed", lambda self, lend=False: self._weight.copy())


def promote_without_the_longest_log(patch: Patch) -> None:
    real = scheduler_shards.promote

    def promote(info: Any, view: Any, lsn: Any, deciding: Any) -> Any:
        return real(info, view, lambda node: -lsn(node), deciding)

    patch.setattr(scheduler_shards, "promote", promote)


def a_learner_is_a_replica_at_once(patch: Patch) -> None:
    real = SchedulerCore._plan_learners

    def plan_learners(self: Any, now: float) -> Any:
        effects = real(self, now)
        shards = tuple(
            replace(info, view=self.epoch, replicas=(*info.replicas, *info.learners), learners=())
            for info in self.table.shards
        )
        if any(info.learners for info in self.table.shards):
            self.table = replace(self.table, shards=shards)
        return effects

    patch.setattr(SchedulerCore, "_plan_learners", plan_learners)


def read_before_catching_up_ends(patch: Patch) -> None:
    real = ServerCore._be_primary

    def be_primary(self: Any, shard: Any, *rest: Any) -> None:
        real(self, shard, *rest)
        if shard.stage is Stage.CATCHING_UP:
            shard.stage = Stage.PRIMARY
            self._caught_up(shard)

    patch.setattr(ServerCore, "_be_primary", be_primary)


def records_without_their_members(patch: Patch) -> None:
    patch.setattr(replica, "_count", lambda chunk, entry: None)


# ---- backup workers ----------------------------------------------------------------------------


def with_backups(seed: int) -> Plan:
    """Workers that are often late, and jump."""
    plan = two_losses(seed)
    plan = replace(plan, workers=4, backups=1, sync=True, optimizer=True, staleness=None)
    plan = replace(plan, steps=[6] * 4, reads=False, barriers=False, longest_delay=1.0)
    plan = replace(plan, last_barrier=True, drop=0.2, modes=[], rows=False)
    plan = replace(plan, some_rows=False, arising=False, algorithm="SGD")
    plan.compression = TWO_BIT if seed % 2 else ""
    first = 2.0 + (seed * 7 % 10) * 0.8
    plan.faults = [
        Fault("kill", "server", first, (seed % 11) / 11),
        Fault("kill", "server", first + 7.0, (seed % 7) / 7),
    ]
    return plan


def backup_records_without_their_members(patch: Patch) -> None:
    def count(chunk: Any, entry: Any) -> None:
        if isinstance(chunk.ledger, SyncLedger):
            chunk.ledger.last_closed = entry.round

    patch.setattr(replica, "_count", count)


def jump_without_closing_what_nobody_fills(patch: Patch) -> None:
    patch.setattr(BackupLedger, "may_come", lambda self, rank, round_, away: True)


def jump_while_somebody_stands_still(patch: Patch) -> None:
    patch.setattr(ServerCore, "_on_resting", lambda self, sender, message, now: [])


def keep_what_was_dropped_out_of_the_residual(patch: Patch) -> None:
    real = WorkerCore._backed_up

    def backed_up(self: Any, chunk: Any, *rest: Any) -> None:
        feedback, chunk.feedback = chunk.feedback, None
        real(self, chunk, *rest)
        chunk.feedback = feedback

    patch.setattr(WorkerCore, "_backed_up", backed_up)


# ---- little memory -----------------------------------------------------------------------------


def little_memory(seed: int) -> Plan:
    """Servers must fold, and workers are lost whose contributions are in a sum."""
    plan = with_backups(seed)
    plan = replace(plan, backups=0, last_barrier=False, tight=True, servers=1, replicas=0)
    plan = replace(plan, on_worker_loss="restart", compression="", pushes=1)
    plan = replace(plan, stores=[[40, 40, 30]], hyper=False)
    plan.faults = [
        Fault("kill", "worker", 3.0 + 3.5 * i + (seed % 7) * 0.5, ((seed + i) % 4) / 4)
        for i in range(3)
    ]
    return plan


def fold_without_discarding(patch: Patch) -> None:
    patch.setattr(SyncLedger, "withdraw", lambda self, waiting: None)


# ---- workers -----------------------------------------------------------------------------------


def keep_what_a_dead_incarnation_contributed(patch: Patch) -> None:
    patch.setattr(SyncLedger, "drop", lambda self, rank, keep: None)


def an_exit_names_a_rank(patch: Patch) -> None:
    real = SchedulerCore._on_peer_exited

    def on_peer_exited(self: Any, message: Any, now: float) -> Any:
        start = self.roster.started.get(message.launch_token)
        if start is not None:
            for node in self.roster.of_role(Role(start.role)):
                if node.id.rank == start.rank and not node.left:
                    message = replace(message, launch_token=node.hello.launch_token)
        return real(self, message, now)

    patch.setattr(SchedulerCore, "_on_peer_exited", on_peer_exited)


def map_without_pending(patch: Patch) -> None:
    def hide(self: Any, key: Any) -> None:
        self._pending[key] = self._pending.get(key, 0) + 1

    patch.setattr(MappedReads, "hide", hide)


# ---- the scheduler -----------------------------------------------------------------------------


def recovery_forgets_elections(patch: Patch) -> None:
    real = SchedulerCore._elect

    def elect(self: Any, shards: Any, view: Any, now: float) -> Any:
        return real(self, {} if self.node.incarnation > 1 else shards, view, now)

    patch.setattr(SchedulerCore, "_elect", elect)


def recovery_begins_with_no_incarnations(patch: Patch) -> None:
    real = SchedulerCore._who_is_who

    def who_is_who(self: Any, now: float) -> None:
        real(self, now)
        self.roster.incarnations.clear()

    patch.setattr(SchedulerCore, "_who_is_who", who_is_who)


def join_without_confirmation(patch: Patch) -> None:
    def consider(self: Any, now: float) -> Any:
        effects: list[Any] = []
        for rank, joiner in list(self._joiners.items()):
            effects += self._confirm(rank, joiner, self.table.member(rank), now)
        return effects

    patch.setattr(SchedulerCore, "_consider", consider)


#: what is broken, the plans, and the seed to begin at (some are rare)
MUTATIONS: list[Mutation] = [
    (acknowledge_before_replication, two_losses, 160),
    (read_what_is_not_committed, drawn, 0),
    (promote_without_the_longest_log, apart_by_one, 90),
    (a_learner_is_a_replica_at_once, drawn, 39),
    (read_before_catching_up_ends, two_losses, 0),
    (records_without_their_members, drawn, 50),
    (backup_records_without_their_members, with_backups, 0),
    (keep_what_was_dropped_out_of_the_residual, with_backups, 0),
    (jump_while_somebody_stands_still, with_backups, 0),
    (jump_without_closing_what_nobody_fills, with_backups, 0),
    (fold_without_discarding, little_memory, 0),
    (keep_what_a_dead_incarnation_contributed, drawn, 200),
    (an_exit_names_a_rank, drawn, 60),
    (map_without_pending, drawn, 0),
    (recovery_forgets_elections, drawn, 280),
    (recovery_begins_with_no_incarnations, drawn, 40),
    (join_without_confirmation, joining, 0),
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=name_of)
def test_a_mutation_is_caught(mutation: Mutation, monkeypatch: Patch) -> None:
    check_that_it_is_caught(mutation, monkeypatch, tries=150)


@pytest.mark.parametrize(
    "plan",
    [two_losses, apart_by_one, with_backups, little_memory, joining],
    ids=lambda f: f.__name__,
)
def test_the_directed_plans_are_clean_without_a_mutation(plan: Callable[[int], Plan]) -> None:
    for seed in range(8):
        Simulation(seed, plan(seed)).run()

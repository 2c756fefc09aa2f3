# SPDX-License-Identifier: Apache-2.0
"""Mutations of PROTOCOL section 7 that need a story of their own: views, learners, the journal."""

import random
from dataclasses import replace
from typing import Any

import pytest

from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Send
from kvtrain.ps.core.membership import SCHEDULER
from kvtrain.ps.core.scheduler import SchedulerCore
from kvtrain.ps.core.server import ServerCore, replica
from kvtrain.ps.core.server.state import Stage
from kvtrain.testing import Plan, Simulation
from kvtrain.testing.plans import Fault
from tests.sim.mutating import MakePlan, Mutation, check_that_it_is_caught, name_of

Patch = pytest.MonkeyPatch


def drawn(seed: int) -> Plan:
    return Plan.draw(seed)


def busy(seed: int, **changes: Any) -> Plan:
    """Workers push all the time, without waiting for each other; nothing befalls anybody."""
    base: dict[str, Any] = {
        "workers": 3,
        "steps": [30] * 3,
        "stores": [[40]],
        "shards": 2,
        "pushes": 1,
        "sync": False,
        "staleness": None,
        "optimizer": True,
        "algorithm": "SGD",
        "one_trip": True,
        "barriers": False,
        "reads": False,
        "rows": False,
        "some_rows": False,
        "arising": False,
        "compression": "",
        "modes": [],
        "kernels": False,
        "on_worker_loss": "abort",
        "drop": 0.0,
        "double": 0.0,
        "longest_delay": 0.1,
        "pipe": 0.0,
        "think": 0.05,
        "faults": [],
        "backups": 0,
        "last_barrier": False,
        "states": False,
        "saves": None,
        "skips": False,
        "joins": [],
        "tight": False,
    }
    return replace(Plan.draw(seed), **(base | changes))


def an_outcast_decides(seed: int) -> Plan:
    """A primary and then a worker are cut from the scheduler, and talk to all others."""
    faults = [
        Fault("outcast", "server", 1.0, random.Random(seed).random(), 12.0),
        Fault("outcast", "worker", 4.2, 0.5, 12.0),
    ]
    sizes: dict[str, Any] = {"servers": 3, "replicas": 2, "steps": [10] * 3, "think": 1.5}
    return busy(seed, dead_after=4.0, on_worker_loss="restart", faults=faults, **sizes)


def filled_and_lost(seed: int) -> Plan:
    """The only full holder dies while the successor of the other is being filled."""
    rng = random.Random(seed)
    faults = [
        Fault("kill", "server", 1.0, 0.0),
        Fault("kill", "server", rng.uniform(1.6, 2.8), 0.9),
    ]
    return busy(seed, servers=2, replicas=1, longest_delay=0.3, faults=faults)


def a_primary_lost_while_filling(seed: int) -> Plan:
    """A primary dies while another server is being filled; its replicas are records apart."""
    rng = random.Random(seed)
    faults = [
        Fault("kill", "server", 1.0, 0.9),
        Fault("kill", "server", rng.uniform(1.5, 2.6), 0.5 * rng.random()),
    ]
    sizes: dict[str, Any] = {"servers": 3, "replicas": 2, "think": 0.01}
    return busy(seed, longest_delay=0.3, faults=faults, dead_after=1000.0, **sizes)


def handed_over_while_forming(seed: int) -> Plan:
    """A server hands over while optimizers are set, one store after another."""
    faults = [Fault("terminate", "server", random.Random(seed).uniform(0.5, 1.5), 0.0)]
    sizes: dict[str, Any] = {"servers": 3, "replicas": 2, "steps": [1] * 3, "stores": [[4]] * 8}
    return busy(seed, longest_delay=0.3, faults=faults, **sizes)


def given_up_by_a_dying_scheduler(seed: int) -> Plan:
    """The scheduler dies when it gives a sleeping primary up; that one wakes soon after."""
    faults = [
        Fault("sleep", "server", 1.0, random.Random(seed).random(), 7.5),
        Fault("kill", "scheduler", 4.5, 0.0, 2.0),
    ]
    sizes: dict[str, Any] = {"servers": 2, "replicas": 1, "steps": [12] * 3, "think": 1.0}
    return busy(seed, dead_after=4.0, faults=faults, **sizes)


# ---- what is broken ---------------------------------------------------------------------------


def replicas_follow_an_older_view(patch: Patch) -> None:
    def on_replicate(self: Any, sender: Any, message: Any, now: float) -> Any:
        entries = replica._with_arrays(message)
        held = []
        for head in message.heads:
            shard = self._shards[head.shard]
            if head.view > shard.view:
                self._want_table(now)
            elif shard.stage is Stage.FENCED or self._follows(shard):
                again = self._take_entries(shard, head, entries.get(head.shard, []))
                held.append(m.LogHeld(shard.number, head.view, shard.log.lsn, again))
        if held:
            self._replies.send(sender, m.ReplicateAck(held=tuple(held)))
        return []

    patch.setattr(ServerCore, "_on_replicate", on_replicate)


def a_gap_is_not_asked_for(patch: Patch) -> None:
    real = ServerCore._take_entries

    def take_entries(self: Any, shard: Any, head: Any, entries: Any) -> bool:
        for entry, _ in entries:
            if entry.lsn > shard.log.lsn + 1:
                shard.log.lsn = entry.lsn - 1
                shard.log._items.clear()
        real(self, shard, head, entries)
        return False

    patch.setattr(ServerCore, "_take_entries", take_entries)


def a_learner_says_that_it_is_filled(patch: Patch) -> None:
    """It is added on its own word, before its primary waits for it."""
    real = ServerCore._take_snapshot

    def take_snapshot(self: Any, shard: Any, parts: Any) -> None:
        real(self, shard, parts)
        add = m.AddInSync(
            epoch=self._epoch(), shard=shard.number, view=shard.view, learner=self.node
        )
        self._replies.push(Send(SCHEDULER, add))

    def is_current(self: Any, primary: Any, shard: int, view: Any) -> bool:
        return self.table.shards[shard].view == view and shard not in self._elections

    patch.setattr(ServerCore, "_take_snapshot", take_snapshot)
    patch.setattr(SchedulerCore, "_is_current", is_current)


def a_learner_keeps_what_another_primary_sent(patch: Patch) -> None:
    real = ServerCore._install_shard

    def install_shard(self: Any, shard: Any, info: Any, now: float) -> None:
        if self.node in info.learners and shard.stage is Stage.LEARNER:
            shard.primary = info.replicas[0]
        real(self, shard, info, now)

    def on_snapshot(self: Any, sender: Any, message: Any, now: float) -> Any:
        shard = self._shards[message.shard]
        if shard.stage is Stage.LEARNER and shard.arriving is None:
            shard.arriving_at = message.lsn  # it is filled already, by whomever
        return held(self, sender, message, now)

    held = ServerCore._on_snapshot
    patch.setattr(ServerCore, "_install_shard", install_shard)
    patch.setattr(ServerCore, "_on_snapshot", on_snapshot)


def the_table_is_told_before_it_is_written(patch: Patch) -> None:
    real = SchedulerCore._publish

    def publish(self: Any, now: float) -> Any:
        record, *told = real(self, now)
        return [*told, record]

    patch.setattr(SchedulerCore, "_publish", publish)


MUTATIONS: list[Mutation] = [
    (replicas_follow_an_older_view, an_outcast_decides, 4),
    (a_gap_is_not_asked_for, drawn, 0),
    (a_learner_says_that_it_is_filled, filled_and_lost, 16),
    (a_learner_keeps_what_another_primary_sent, a_primary_lost_while_filling, 7),
    (the_table_is_told_before_it_is_written, given_up_by_a_dying_scheduler, 1),
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=name_of)
def test_a_mutation_is_caught(mutation: Mutation, monkeypatch: Patch) -> None:
    check_that_it_is_caught(mutation, monkeypatch)


PLANS: list[MakePlan] = [
    an_outcast_decides,
    filled_and_lost,
    a_primary_lost_while_filling,
    handed_over_while_forming,
    given_up_by_a_dying_scheduler,
]


@pytest.mark.parametrize("plan", PLANS, ids=lambda f: f.__name__)
def test_the_directed_plans_are_clean_without_a_mutation(plan: MakePlan) -> None:
    for seed in range(4):
        Simulation(seed, plan(seed)).run()

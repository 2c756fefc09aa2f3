# SPDX-License-Identifier: Apache-2.0
"""Mutations of PROTOCOL section 7 about workers that are lost, and about what counts per key."""

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from kvtrain.ps.core.barriers import Barriers
from kvtrain.ps.core.rounds import AsyncLedger, SyncLedger
from kvtrain.ps.core.server import ServerCore
from kvtrain.ps.core.store import Arithmetic
from kvtrain.ps.core.worker import WorkerCore
from kvtrain.testing import Plan, Simulation
from kvtrain.testing.plans import Fault
from tests.sim.mutating import MakePlan, Mutation, check_that_it_is_caught, name_of

Patch = pytest.MonkeyPatch


def plain(seed: int, **changes: Any) -> Plan:
    """A plan of dense keys without faults beside those that are given."""
    base: dict[str, Any] = {
        "rows": False,
        "some_rows": False,
        "arising": False,
        "modes": [],
        "compression": "",
        "faults": [],
        "pipe": 0.0,
        "think": 0.3,
        "drop": 0.05,
        "longest_delay": 0.05,
        "optimizer": True,
        "kernels": False,
        "backups": 0,
        "last_barrier": False,
        "states": False,
        "saves": None,
        "skips": False,
        "joins": [],
        "tight": False,
    }
    return replace(Plan.draw(seed), **(base | changes))


def restarts(seed: int, **changes: Any) -> Plan:
    """Two workers, one of whom is killed twice; what they push depends on what they read."""
    rng = random.Random(seed)
    kills = [Fault("kill", "worker", rng.uniform(0.8, 4.0), rng.random()) for _ in range(2)]
    base: dict[str, Any] = {
        "workers": 2,
        "steps": [5, 5],
        "sync": True,
        "staleness": None,
        "reads": True,
        "on_worker_loss": "restart",
        "faults": kills,
        "barriers": False,
    }
    return plain(seed, **(base | changes))


def zombies(seed: int) -> Plan:
    """A worker sleeps until its successor is at work, and wakes in the middle of a step."""
    rng = random.Random(seed)
    asleep = [Fault("sleep", "worker", rng.uniform(0.8, 2.0), rng.random(), 16.0 + rng.random())]
    return restarts(seed, faults=asleep, think=2.0, dead_after=5.0)


def restarts_in_async(seed: int) -> Plan:
    return restarts(seed, sync=False, reads=False, one_trip=True)


def restarts_in_ssp(seed: int) -> Plan:
    return restarts(seed, sync=False, reads=False, staleness=1, one_trip=False)


def barriers_and_a_new_scheduler(seed: int) -> Plan:
    rng = random.Random(seed)
    kills = [Fault("kill", "scheduler", rng.uniform(1.0, 9.0), 0.0, 0.5) for _ in range(3)]
    changes: dict[str, Any] = {"workers": 3, "steps": [8] * 3, "faults": kills, "drop": 0.2}
    changes |= {"stores": [[5]], "pushes": 1, "double": 0.0}
    return plain(seed, sync=True, staleness=None, barriers=True, on_worker_loss="abort", **changes)


def adam(seed: int) -> Plan:
    return plain(
        seed,
        sync=True,
        staleness=None,
        algorithm="Adam",
        stores=[[20, 30, 5]],
        on_worker_loss="abort",
    )


# ---- lost and restarted workers ------------------------------------------------------------------


def a_lost_worker_is_accepted(patch: Patch) -> None:
    def from_worker(self: Any, sender: Any, message: Any, now: float, handle: Any) -> Any:
        return handle(sender, message, now) + self._replies.flush(self.table.epoch)

    patch.setattr(ServerCore, "_from_worker", from_worker)


def a_successor_counts_as_its_predecessor(patch: Patch) -> None:
    def has_counted(self: AsyncLedger, node: Any, round_: Any) -> bool:
        last = self.counted.get(node.rank)
        return last is not None and round_ <= last.round

    patch.setattr(AsyncLedger, "has_counted", has_counted)


def a_successor_reads_present_weights(patch: Patch) -> None:
    patch.setattr(ServerCore, "_closed_in", lambda self, chunk, cut: False)


def a_successor_goes_on_at_the_next_step(patch: Patch) -> None:
    real = WorkerCore.begins_at

    def begins_at(self: Any, ordinal: int) -> int:
        found = real(self, ordinal)
        return found + 1 if self.resume is not None else found

    patch.setattr(WorkerCore, "begins_at", begins_at)


def both_incarnations_are_in_one_round(patch: Patch) -> None:
    patch.setattr(SyncLedger, "drop", lambda self, rank, keep: None)
    patch.setattr(ServerCore, "check_invariants", lambda self: None)


def a_successor_waits_for_its_own_clock(patch: Patch) -> None:
    real = WorkerCore._on_declared

    def on_declared(self: Any, message: Any, now: float) -> Any:
        store = self._stores[message.store]
        held, store.clock.told = store.clock.told, 1 << 40
        effects = real(self, message, now)
        store.clock.told = held
        return effects

    patch.setattr(WorkerCore, "_on_declared", on_declared)


# ---- barriers, counters ------------------------------------------------------------


def a_new_scheduler_forgets_barriers(patch: Patch) -> None:
    patch.setattr(Barriers, "passed", lambda self, rank, barrier: None)


def counters_of_the_whole_server(patch: Patch) -> None:
    real = Arithmetic.prepare
    counts: Counter[int] = Counter()

    def prepare(chunk: Any, weight: Any, arrays: Any, scales: Any, optimizers: Any, at: Any) -> Any:
        counts[id(optimizers)] += 1
        held, chunk.version = chunk.version, chunk.base_version + counts[id(optimizers)] - 1
        found = real(chunk, weight, arrays, scales, optimizers, at)
        chunk.version = held
        return found

    patch.setattr(Arithmetic, "prepare", staticmethod(prepare))


MUTATIONS: list[Mutation] = [
    (a_lost_worker_is_accepted, zombies, 11),
    (a_successor_counts_as_its_predecessor, restarts_in_async, 0),
    (a_successor_reads_present_weights, restarts, 15),
    (a_successor_goes_on_at_the_next_step, restarts, 0),
    (both_incarnations_are_in_one_round, restarts, 11),
    (a_successor_waits_for_its_own_clock, restarts_in_ssp, 15),
    (a_new_scheduler_forgets_barriers, barriers_and_a_new_scheduler, 89),
    (counters_of_the_whole_server, adam, 0),
]


PLANS: list[MakePlan] = [
    restarts,
    zombies,
    restarts_in_async,
    restarts_in_ssp,
    barriers_and_a_new_scheduler,
    adam,
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=name_of)
def test_a_mutation_is_caught(mutation: Mutation, monkeypatch: Patch) -> None:
    check_that_it_is_caught(mutation, monkeypatch)


@pytest.mark.parametrize("plan", PLANS, ids=lambda f: f.__name__)
def test_the_directed_plans_are_clean_without_a_mutation(plan: MakePlan) -> None:
    for seed in range(4):
        Simulation(seed, plan(seed)).run()

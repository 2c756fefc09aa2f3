# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of simulated jobs: what is published is a cut, and a job goes on from it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kvtrain.ps.core.saved import SavedChunk
from kvtrain.ps.core.scheduler import SchedulerCore
from kvtrain.ps.core.server import ServerCore
from kvtrain.ps.core.server.restoring import Restoring
from kvtrain.ps.core.worker import WorkerCore
from kvtrain.testing import Plan, Simulation
from kvtrain.testing.saves import SavePlan
from tests.sim.mutating import Mutation, check_that_it_is_caught, name_of

Patch = pytest.MonkeyPatch


def busy(seed: int, **changes: Any) -> Plan:
    """A job that saves often, on slow disks and a network that loses."""
    plan = Plan.draw(seed)
    steps = [6 + (seed + rank) % 3 for rank in range(plan.workers)]
    if plan.barriers:
        steps = [6] * plan.workers
    hands = ((seed % plan.workers, 2 + seed % 4),) if seed % 3 == 0 else ()
    saves = SavePlan(rounds=1 + seed % 2, by_hand=hands, slowest=0.5, pace=0.8, full=0.1)
    base: dict[str, Any] = {
        "saves": saves,
        "joins": [],
        "tight": False,
        "last_barrier": False,
        "optimizer": True,
        "longest_delay": 0.05,
        "drop": 0.05,
        "hyper": False,
        "rows": False,
        "modes": [],
        "backups": 0,
        "states": False,
        "compression": "",
    }
    return replace(plan, steps=steps, **(base | changes))


def rounds(seed: int) -> Plan:
    """Keys that close rounds; every other one is pushed only in some of the steps."""
    return busy(seed, sync=True, skips=True, staleness=None)


def disturbed(seed: int) -> Plan:
    """Attempts that are given up and repeated: full disks, late answers."""
    plan = busy(seed, sync=True, staleness=None, longest_delay=2.0, drop=0.2)
    assert plan.saves is not None
    return replace(plan, saves=replace(plan.saves, full=0.2, rounds=1))


def asynchronous(seed: int) -> Plan:
    """Keys that close no rounds."""
    plan = Plan.draw(seed)
    changed: dict[str, Any] = (
        {"on_worker_loss": "abort"} if plan.on_worker_loss == "restart" else {}
    )
    faults = [f for f in plan.faults if f.role != "worker"]
    return busy(
        seed, sync=False, skips=False, reads=False, pushes=1 + seed % 2, faults=faults, **changed
    )


def bounded(seed: int) -> Plan:
    """Keys with bounded staleness."""
    return replace(asynchronous(seed), staleness=seed % 3, one_trip=False)


def mixed(seed: int) -> Plan:
    """Keys of every kind in one store."""
    plan = asynchronous(seed)
    some = ("sync", "async", "ssp:1")
    modes = [[some[(seed + i) % 3] for i, _ in enumerate(sizes)] for sizes in plan.stores]
    return replace(plan, modes=modes, one_trip=False, steps=[max(plan.steps)] * plan.workers)


@pytest.mark.parametrize("plan", [rounds, asynchronous, bounded, mixed], ids=lambda f: f.__name__)
def test_what_is_published_is_a_cut(plan: Callable[[int], Plan]) -> None:
    kinds: Counter[str] = Counter()
    midway = 0
    for seed in range(8):
        simulation = Simulation(seed, plan(seed))
        simulation.run()
        for saved in simulation.disks.published:
            kinds[saved.job.kind] += 1
            midway += saved.job.stores[0].step < max(simulation.plan.steps)
    kind = "exact" if plan is rounds else "aligned"
    # a stop that fails again and again is given up; that is rare
    assert kinds[kind] >= 8 and midway >= 5, (kinds, midway)
    assert kinds.total() - kinds[kind] <= kinds.total() // 5, kinds


# ---- mutations ---------------------------------------------------------------------------------


def cut_by_version(patch: Patch) -> None:
    """Keys differ in versions: several pushes in a step, or none (R49)."""
    real = ServerCore._cut_before

    def cut_before(self: Any, chunk: Any, step: int) -> None:
        real(self, chunk, chunk.stored.version)

    patch.setattr(ServerCore, "_cut_before", cut_before)


def copy_after_the_first_later_round(patch: Patch) -> None:
    patch.setattr(ServerCore, "_cut_before", lambda self, chunk, step: None)


def never_late(patch: Patch) -> None:
    patch.setattr(ServerCore, "_why_late", lambda self, message: None)


def take_parts_of_any_attempt(patch: Patch) -> None:
    real = SchedulerCore._on_checkpoint_parts

    def on_parts(self: Any, node: Any, message: Any, now: float) -> Any:
        if self._attempt is not None:
            message = replace(message, attempt=self._attempt.number)
        return real(self, node, message, now)

    patch.setattr(SchedulerCore, "_on_checkpoint_parts", on_parts)


def forget_the_optimizer_state(patch: Patch) -> None:
    real = Restoring._restore_chunk

    def restore(self: Any, entry: Any, sync: bool, saved: SavedChunk) -> None:
        real(self, entry, sync, saved)
        self._chunks[saved.chunk].stored.hyper = {"learning_rate": 0.75}

    patch.setattr(Restoring, "_restore_chunk", restore)


def go_on_pushing_while_holding(patch: Patch) -> None:
    patch.setattr(WorkerCore, "_holds_back", lambda self, step, now: False)


def hold_before_all_is_acknowledged(patch: Patch) -> None:
    real = WorkerCore._tell_hold

    def tell(self: Any, now: float) -> Any:
        busy, self._busy = self._busy, set()
        effects = real(self, now)
        self._busy = busy
        return effects

    patch.setattr(WorkerCore, "_tell_hold", tell)


def copy_before_all_hold(patch: Patch) -> None:
    real = SchedulerCore._if_all_hold

    def if_all_hold(self: Any, attempt: Any, now: float) -> Any:
        for node in self._present() if attempt.hold.clocks else ():
            attempt.hold.clocks.setdefault(node, self._clocks_of(node))
        return real(self, attempt, now)

    patch.setattr(SchedulerCore, "_if_all_hold", if_all_hold)


#: what is broken, the plans, and the seed to begin at (some are rare)
MUTATIONS: list[Mutation] = [
    (cut_by_version, rounds, 5),
    (copy_after_the_first_later_round, rounds, 0),
    (never_late, disturbed, 14),
    (take_parts_of_any_attempt, disturbed, 25),
    (forget_the_optimizer_state, rounds, 3),
    (go_on_pushing_while_holding, asynchronous, 5),
    (hold_before_all_is_acknowledged, asynchronous, 31),
    (copy_before_all_hold, bounded, 38),
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=name_of)
def test_a_mutation_is_caught(mutation: Mutation, monkeypatch: Patch) -> None:
    check_that_it_is_caught(mutation, monkeypatch)

# SPDX-License-Identifier: Apache-2.0
"""Early folding: same bits, less memory, and nothing of a contribution that was withdrawn."""

from typing import Any

import numpy as np

from kvtrain.kernels import xp
from kvtrain.ps.core.folding import fold
from kvtrain.ps.core.membership import NodeId, Role, Round
from kvtrain.ps.core.memory import lend
from kvtrain.ps.core.rounds import OpenRound, Part, SyncLedger
from kvtrain.testing import Simulation
from kvtrain.testing.plans import Plan

SIZE = 1000
ROUND = Round(3, 0)


def worker(rank: int, incarnation: int = 1) -> NodeId:
    return NodeId(Role.WORKER, rank, incarnation)


def values(rank: int) -> Any:
    rng = np.random.default_rng(rank)
    return (rng.standard_normal(SIZE) * 10.0 ** rng.integers(-3, 4, SIZE)).astype(np.float32)


def part(rank: int, scale: float | None = None, array: Any = None) -> Part:
    given = values(rank) if array is None else array
    return Part(worker(rank), ROUND, given, want=True, rescale_grad=scale)


def waiting(*parts: Part) -> OpenRound:
    return OpenRound(since=0.0, parts={p.node.rank: p for p in parts})


def test_a_prefix_is_folded_step_by_step_with_the_bits_of_one_sum() -> None:
    members = (0, 1, 2, 3)
    open_ = waiting(part(0), part(1), part(3))
    assert fold(open_, members) == 4 * SIZE
    assert [open_.parts[r].folded for r in (0, 1, 3)] == [True, True, False]
    assert fold(open_, members) == 0, "rank 2 is missing"
    open_.parts[2] = part(2)
    assert fold(open_, members) == 8 * SIZE
    expected = xp.sum_arrays([values(r) for r in members], out=np.empty(SIZE, np.float32))
    assert open_.parts[0].array is not None and open_.parts[1].array is None
    assert open_.parts[0].array.tobytes() == expected.tobytes()


def test_what_takes_no_memory_or_may_be_scaled_apart_stays() -> None:
    members = (0, 1, 2)
    lent = [lend(values(r), [1], 0, 1) for r in (0, 1)]
    assert fold(waiting(part(0, array=lent[0]), part(1, array=lent[1])), members) == 0
    assert fold(waiting(part(0, 0.5), part(1, 0.25)), members) == 0
    assert fold(waiting(part(1), part(2)), members) == 0, "rank 0 comes first"
    spoiled = waiting(part(0), part(1), part(2, array=lend(values(2), [2], 0, 1)))
    assert fold(spoiled, members) == 0 and not spoiled.parts[0].folded


def test_a_withdrawn_contribution_takes_the_sum_with_it() -> None:
    ledger = SyncLedger()
    for rank in range(3):
        ledger.accept(part(rank), 0.0)
    fold(ledger.open[ROUND], (0, 1, 3))
    ledger.drop(1, worker(1, 2))
    assert [p.node.rank for p in ledger.again] == [0]
    assert list(ledger.open[ROUND].parts) == [2]
    assert not ledger.holds(worker(0), ROUND)


def test_a_server_needs_room_for_one_gradient_and_a_chunk() -> None:
    folds = aside = jobs = 0
    for seed in range(200):
        plan = Plan.draw(seed)
        if not plan.tight or plan.servers > 1 or jobs == 4:
            continue
        jobs += 1
        simulation = Simulation(seed)
        simulation.run()
        for process in simulation.room.of_role(Role.SERVER):
            account = process.core._account
            assert 0 < account.most <= account.limit == plan.server_memory
            for store in process.core._stores.values():
                folds += store.counters["folds"]
                aside += store.counters["set_aside"]
    assert folds and aside

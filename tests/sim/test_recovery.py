# SPDX-License-Identifier: Apache-2.0
"""The scheduler dies after each record of its journal in turn, before it tells anybody (R52)."""

from dataclasses import replace
from typing import Any

import pytest

from kvtrain.testing import Plan, Simulation
from kvtrain.testing.plans import Fault
from kvtrain.testing.room import Room
from kvtrain.testing.saves import SavePlan


def eventful(seed: int) -> Plan:
    """A server is lost, another one hands over, a worker is started again, checkpoints."""
    plan = Plan.draw(seed)
    faults = [
        Fault("kill", "server", 1.5, 0.1),
        Fault("kill", "worker", 2.5, 0.6),
        Fault("terminate", "server", 6.0, 0.9),
    ]
    saves = SavePlan(rounds=2, by_hand=((0, 1),), slowest=0.2, pace=0.6)
    return replace(
        plan,
        workers=2,
        servers=3,
        replicas=1,
        shards=4,
        steps=[5, 5],
        sync=True,
        optimizer=True,
        staleness=None,
        modes=[],
        backups=0,
        rows=False,
        compression="",
        barriers=True,
        on_worker_loss="restart",
        drop=0.0,
        longest_delay=0.05,
        faults=faults,
        saves=saves,
    )


def test_the_scheduler_may_die_after_any_record(monkeypatch: pytest.MonkeyPatch) -> None:
    seed = 1
    real, written, fatal = Room.journal, [0], [-1]

    def journal(self: Room, process: Any, record: dict[str, Any]) -> None:
        written[0] += 1
        if written[0] == fatal[0]:
            process.dies_at_journal = True
        real(self, process, record)

    monkeypatch.setattr(Room, "journal", journal)
    undisturbed = Simulation(seed, eventful(seed))
    undisturbed.run()
    records = len(undisturbed.room._journal)
    assert records > 15
    for number in range(1, records + 1):
        written[0], fatal[0] = 0, number
        Simulation(seed, eventful(seed)).run()

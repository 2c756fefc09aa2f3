# SPDX-License-Identifier: Apache-2.0
"""A simulated job that goes on from a checkpoint of another one, on other servers."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kvtrain.testing.disk import Saved
from kvtrain.testing.models import LR
from kvtrain.testing.plans import Plan
from kvtrain.testing.predicates import Witness, elements


def resumed(plan: Plan, published: list[Saved]) -> tuple[Plan, Saved] | None:
    """Which checkpoint to go on from and how; None: the rest of the job is not determined.

    Asynchronous jobs have no bits to compare, and what a codec keeps back is the workers' own.
    """
    found = [saved for saved in published if saved.job.kind == "exact"]
    if not found or plan.compression or plan.backups or not plan.sync:
        return None
    rng = random.Random(plan.seed * 31 + 7)
    saved = rng.choice(found)
    servers = rng.choice([n for n in (1, 2, 3) if n != plan.servers])
    backups = rng.randint(0, servers - 1)
    # the network is as bad as before; what befalls machines has been seen in the first job
    return replace(plan, servers=servers, replicas=backups, faults=[], saves=None), saved


def witness_from(plan: Plan, before: Witness, saved: Saved) -> Witness:
    """What is known of the job at the checkpoint: records up to its versions."""
    witness = Witness(plan)
    witness.entries.update(before.entries)
    steps = {store.number: store.step for store in saved.job.stores}
    for chunk, held in saved.chunks.items():
        store, key = before.key_of(chunk)
        mine = elements(before.entries[chunk.key], chunk.part)
        rate = held.extra["hyper"].get("learning_rate", LR)
        witness.go_on(chunk, plan.model(store, key, mine, steps[store]), rate)
        witness.records[chunk] = before.records[chunk][: held.version]
        witness.states[chunk] = before.states_of(chunk)[: held.version + 1]
    return witness


def go_on(
    plan: Plan, before: Witness, published: list[Saved], simulate: Callable[..., Any]
) -> None:
    """Run the rest of a job from one of its checkpoints; it must come to the same bits."""
    chosen = resumed(plan, published)
    if chosen is None:
        return
    rest, saved = chosen
    simulation = simulate(plan.seed, rest, restored=saved)
    simulation.witness = witness_from(rest, before, saved)
    simulation.run()

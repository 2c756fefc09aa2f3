# SPDX-License-Identifier: Apache-2.0
"""Does some seed notice that a rule is broken?"""

from collections.abc import Callable

import pytest

from kvtrain.testing import Plan, Simulation, SimulationFailure

Mutate = Callable[[pytest.MonkeyPatch], None]
MakePlan = Callable[[int], Plan]
#: what is broken, the plans, and the seed to begin at (some are rare)
Mutation = tuple[Mutate, MakePlan, int]


def check_that_it_is_caught(
    mutation: Mutation, patch: pytest.MonkeyPatch, tries: int = 60, says: tuple[str, ...] = ()
) -> None:
    """Run seeds until one of them fails, with these words in its story."""
    mutate, plan, first = mutation
    mutate(patch)
    for seed in range(first, first + tries):
        try:
            Simulation(seed, plan(seed)).run()
        except SimulationFailure as failure:
            for word in (f"--seed {seed}", *says):
                assert word in str(failure)
            return
    pytest.fail("no seed noticed")


def name_of(mutation: Mutation) -> str:
    """For the test's id."""
    return mutation[0].__name__

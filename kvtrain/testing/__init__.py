# SPDX-License-Identifier: Apache-2.0
"""Shipped helpers for tests: gradient checks, a simulated job, a simulated slow network."""

from kvtrain.testing.gradients import assert_almost_equal, check_gradient
from kvtrain.testing.network import TokenBucket, slow_network
from kvtrain.testing.plans import Plan
from kvtrain.testing.simulation import Simulation, SimulationFailure

__all__ = [
    "Plan",
    "Simulation",
    "SimulationFailure",
    "TokenBucket",
    "assert_almost_equal",
    "check_gradient",
    "slow_network",
]

# SPDX-License-Identifier: Apache-2.0
"""Shipped helpers for tests: gradient checks, and a simulated job."""

from kvtrain.testing.gradients import assert_almost_equal, check_gradient
from kvtrain.testing.plans import Plan
from kvtrain.testing.simulation import Simulation, SimulationFailure

__all__ = ["Plan", "Simulation", "SimulationFailure", "assert_almost_equal", "check_gradient"]

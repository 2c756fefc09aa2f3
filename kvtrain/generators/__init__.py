# SPDX-License-Identifier: Apache-2.0
"""Random streams that give MXNet's CPU bits, as raw arrays."""

from kvtrain.generators.rejection import (
    gamma,
    generalized_negative_binomial,
    integers,
    negative_binomial,
    poisson,
)
from kvtrain.generators.serial import below, serial_unit, shuffled
from kvtrain.generators.state import (
    generator,
    last_seed,
    seed,
    standard_exponential,
    standard_normal,
    unit,
)

__all__ = [
    "below",
    "gamma",
    "generalized_negative_binomial",
    "generator",
    "integers",
    "last_seed",
    "negative_binomial",
    "poisson",
    "seed",
    "serial_unit",
    "shuffled",
    "standard_exponential",
    "standard_normal",
    "unit",
]

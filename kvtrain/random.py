# SPDX-License-Identifier: Apache-2.0
"""``mx.random``: seeding and drawing arrays; the functions of ``nd.random``."""

from __future__ import annotations

from kvtrain.generators import seed
from kvtrain.ndarray.random import (
    bernoulli,
    exponential,
    gamma,
    generalized_negative_binomial,
    multinomial,
    negative_binomial,
    normal,
    poisson,
    randint,
    randn,
    shuffle,
    uniform,
)

__all__ = [
    "bernoulli",
    "exponential",
    "gamma",
    "generalized_negative_binomial",
    "multinomial",
    "negative_binomial",
    "normal",
    "poisson",
    "randint",
    "randn",
    "seed",
    "shuffle",
    "uniform",
]

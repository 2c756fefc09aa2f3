# SPDX-License-Identifier: Apache-2.0
"""Workers that join a simulated job: when, how long they live, and what is expected of them."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Join:
    """A process, started by hand, that wants to join the running job."""

    #: it is started when some worker has ended this step
    step: int
    #: seconds after which it is killed; None: it works until its script ends
    lives: float | None = None


@dataclass(frozen=True)
class Joined:
    """A worker that was welcomed: its rank, and its first step in each store."""

    rank: int
    begins: tuple[int, ...]


def draw_joins(rng: random.Random, steps: int) -> list[Join]:
    """One or two that come at some step of a job of so many; mostly none."""
    if rng.random() >= 0.12:
        return []
    found = []
    for _ in range(rng.choice((1, 1, 2))):
        lives = rng.uniform(0.1, 6.0) if rng.random() < 0.2 else None
        found.append(Join(rng.randrange(steps), lives))
    return found

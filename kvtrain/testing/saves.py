# SPDX-License-Identifier: Apache-2.0
"""When a simulated job saves checkpoints, and how slow and how full its disks are."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SavePlan:
    """Checkpoints of one job."""

    #: by themselves: every so many steps, or seconds; 0: not
    rounds: int = 0
    seconds: float = 0.0
    #: (rank, step): that worker asks for one at the end of that step
    by_hand: tuple[tuple[int, int], ...] = ()
    #: longest time that a file takes; files are done in any order
    slowest: float = 0.01
    #: share of the files that cannot be written while the faults last
    full: float = 0.0
    #: longest time that a worker computes in a step
    pace: float = 0.0

    @classmethod
    def draw(cls, rng: random.Random, steps: list[int]) -> SavePlan:
        """For a job whose workers make so many steps."""
        how = rng.choice(("rounds", "seconds", "hand", "hand and rounds"))
        hands = tuple(
            (rank, rng.randrange(steps[rank]))
            for rank in range(len(steps))
            if "hand" in how and rng.random() < 0.6
        )
        return cls(
            rounds=rng.choice((1, 2, 3)) if "rounds" in how else 0,
            seconds=rng.choice((0.5, 2.0, 5.0)) if how == "seconds" else 0.0,
            by_hand=hands,
            slowest=rng.choice((0.0, 0.05, 4.0)),
            full=rng.choice((0.0, 0.0, 0.2)),
            pace=rng.choice((0.0, 0.5, 2.0)),
        )

    def settings(self) -> dict[str, Any]:
        """For the job's settings."""
        return {
            "checkpoint_dir": "saved",
            "checkpoint_rounds": self.rounds,
            "checkpoint_seconds": self.seconds,
        }

# SPDX-License-Identifier: Apache-2.0
"""``python -m kvtrain.testing.simulate``: run seeds, or replay one."""

from __future__ import annotations

import argparse
import sys
import time

from kvtrain.testing.simulation import Simulation, SimulationFailure


def main(arguments: list[str] | None = None) -> int:
    """Run the seeds asked for; 1 at the first failure."""
    parser = argparse.ArgumentParser(prog="python -m kvtrain.testing.simulate")
    parser.add_argument("--seed", type=int, help="replay this one")
    parser.add_argument("--seeds", type=int, default=1000, help="run this many")
    parser.add_argument("--first", type=int, default=0, help="first of them")
    given = parser.parse_args(arguments)
    seeds = (
        [given.seed] if given.seed is not None else range(given.first, given.first + given.seeds)
    )
    start = time.perf_counter()
    for seed in seeds:
        try:
            Simulation(seed).run()
        except SimulationFailure as failure:
            sys.stdout.write(f"{failure}\n")
            return 1
    sys.stdout.write(f"{len(seeds)} seeds in {time.perf_counter() - start:.1f} s, no violation\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

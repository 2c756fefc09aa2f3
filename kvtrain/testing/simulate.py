# SPDX-License-Identifier: Apache-2.0
"""``python -m kvtrain.testing.simulate``: run seeds, in several processes, or replay one."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator

from kvtrain.testing.simulation import Simulation, SimulationFailure

#: seeds that a process takes at a time
BLOCK = 20
#: seconds between two lines about how far it is
REPORT = 60.0


def failures(seeds: range) -> list[str]:
    """The transcripts of those that violate something."""
    found = []
    for seed in seeds:
        try:
            Simulation(seed).run()
        except SimulationFailure as failure:
            found.append(str(failure))
    return found


def blocks(first: int, count: int) -> list[range]:
    """The seeds in portions."""
    end = first + count
    return [range(low, min(low + BLOCK, end)) for low in range(first, end, BLOCK)]


def results(portions: list[range], jobs: int) -> Iterator[list[str]]:
    """Failures of each portion, in any order."""
    if jobs <= 1:
        yield from map(failures, portions)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(failures, portions)


def main(arguments: list[str] | None = None) -> int:
    """Run the seeds asked for; 1 at the first failure, or at the end with --keep-going."""
    parser = argparse.ArgumentParser(prog="python -m kvtrain.testing.simulate")
    parser.add_argument("--seed", type=int, help="replay this one")
    parser.add_argument("--seeds", type=int, default=1000, help="run this many")
    parser.add_argument("--first", type=int, default=0, help="first of them")
    parser.add_argument("--jobs", type=int, default=1, help="processes to run them in")
    parser.add_argument(
        "--keep-going", action="store_true", help="do not stop at the first failure"
    )
    given = parser.parse_args(arguments)
    if given.seed is not None:
        given.first, given.seeds = given.seed, 1
    begin = told = time.perf_counter()
    done = failed = 0
    portions = blocks(given.first, given.seeds)
    for found in results(portions, given.jobs):
        done += BLOCK
        for text in found:
            sys.stdout.write(f"{text}\n")
        failed += len(found)
        if failed and not given.keep_going:
            return 1
        now = time.perf_counter()
        if now - told >= REPORT:
            told = now
            sys.stdout.write(f"{done} seeds in {now - begin:.0f} s, {failed} failed\n")
            sys.stdout.flush()
    seconds = time.perf_counter() - begin
    verdict = f"{failed} failed" if failed else "no violation"
    sys.stdout.write(f"{given.seeds} seeds in {seconds:.1f} s, {verdict}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

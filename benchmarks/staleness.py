# SPDX-License-Identifier: Apache-2.0
"""Bounded staleness against stragglers: seconds until the held-out loss of the digits is reached.

python benchmarks/staleness.py

Computing is simulated by sleeping, so that the figures do not depend on how many cores there
are: a step takes SECONDS, and five times as long where a worker straggles. "random": each
worker in each step with one chance in eight; "permanent": the last worker always.
"""

import argparse
import random
import time

from jobs import report, run, table

import kvtrain as mx
from kvtrain import gluon

WORKERS, SERVERS, BATCH, SECONDS, SLOWER, CHANCE = 6, 1, 16, 0.06, 5, 1 / 8
MODES = {
    "BSP": ("dist_sync", {}),
    "BSP, 1 backup": ("dist_sync", {"backup_workers": 1}),
    "SSP(3)": ("dist_ssp", {"staleness": 3}),
    "async": ("dist_async", {}),
}


def worker(mode: str, stragglers: str, steps: int, target: float, seed: int) -> None:
    from digits import Digits, held_out, network, step

    kind, options = MODES[mode]
    kv = mx.kv.create(kind, **options)
    data, net = Digits(kv.rank, WORKERS, BATCH), network()
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1}, kvstore=kv)
    luck = random.Random(100 * seed + kv.rank)
    trainer._init_params() if trainer._open() else None
    kv.barrier()
    start, away, reached, done = time.perf_counter(), 0.0, None, 0
    for done in range(1, steps + 1):
        slow = (
            luck.random() < CHANCE
            if stragglers == "random"
            else (stragglers == "permanent" and kv.rank == WORKERS - 1)
        )
        time.sleep(SECONDS * (SLOWER if slow else 1))
        step(net, trainer, data, WORKERS * BATCH)
        mx.nd.waitall()
        if kv.rank == 0 and reached is None:
            before = time.perf_counter()
            loss = held_out(net, data)[0]
            away += time.perf_counter() - before  # looking at the loss is no part of training
            if loss <= target:
                reached = (time.perf_counter() - start - away, done)
    kv.barrier()
    found = kv.stats()[0]
    shown = found["lead"] or found["dropped"]
    kv.barrier()
    report(reached=reached, shown=shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", nargs=2, metavar=("MODE", "STRAGGLERS"))
    parser.add_argument("--steps", type=int, default=90)
    parser.add_argument("--target", type=float, default=0.6)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.worker:
        worker(*given.worker, given.steps, given.target, given.seed)
        return
    rows = []
    for stragglers in ("random", "permanent"):
        plain = None
        for mode in MODES:
            seconds, steps, shown = [], [], {}
            for seed in range(given.seeds):
                options = ["--worker", mode, stragglers, "--steps", str(given.steps)]
                options += ["--target", str(given.target), "--seed", str(seed)]
                found = run(__file__, options, WORKERS, SERVERS)[0]
                if found["reached"] is None:
                    raise SystemExit(f"{mode}, {stragglers}: the loss was not reached")
                seconds.append(found["reached"][0])
                steps.append(found["reached"][1])
                shown = found["shown"]
            mean = sum(seconds) / len(seconds)
            plain = plain or mean
            rows.append(
                [
                    stragglers,
                    mode,
                    f"{mean:.2f}",
                    f"{sum(steps) / len(steps):.0f}",
                    f"{plain / mean:.2f}",
                    ", ".join(f"{k}: {n}" for k, n in shown.items()) or "-",
                ]
            )
    table(
        [
            "5x stragglers",
            "mode",
            f"s to loss {given.target}",
            "steps of worker 0",
            "times as fast as BSP",
            "reads by steps ahead, or chunks dropped by worker",
        ],
        rows,
    )


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""One worker of ``kvtrain bench``: a script that ``kvtrain launch`` runs.

Arguments: directory for the figures, names of sizes, optimizer, rounds.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from math import prod
from pathlib import Path
from typing import Any

from kvtrain import kvstore, ndarray, optimizer
from kvtrain.commands.bench_shapes import shapes_of

_WARM_UP = 2
_SMALL, _WINDOW = 500, 64


def _rounds(kv: Any, first: int, name: str, count: int) -> dict[str, Any]:
    """Figures of synchronous rounds of all keys of a size."""
    shapes = shapes_of(name)
    keys = list(range(first, first + len(shapes)))
    grads = [ndarray.ones(shape) for shape in shapes]
    outs = [ndarray.zeros(shape) for shape in shapes]
    kv.init(keys, outs)
    times: list[float] = []
    waits: list[float] = []
    kv.barrier()
    for turn in range(_WARM_UP + count):
        begin = time.perf_counter()
        for i, key in enumerate(keys):
            kv.push(key, grads[i], priority=-i)
            kv.pull(key, outs[i], priority=-i)
        posted = time.perf_counter()
        ndarray.waitall()
        if turn >= _WARM_UP:
            times.append(time.perf_counter() - begin)
            waits.append(time.perf_counter() - posted)
    moved = 2 * 4 * sum(map(prod, shapes))
    median = statistics.median(times)
    return {
        "keys": len(keys),
        "bytes": moved,
        "median_s": median,
        "min_s": min(times),
        "bytes_per_s": moved / median,
        "waiting_share": sum(waits) / sum(times),
    }


def _small(kv: Any, key: int) -> dict[str, float]:
    """Push-pulls of 10 elements per second."""
    keys = [key + i for i in range(_WINDOW)]
    grads = [ndarray.ones((10,)) for _ in keys]
    outs = [ndarray.zeros((10,)) for _ in keys]
    kv.init(keys, outs)
    kv.barrier()
    begin = time.perf_counter()
    for _ in range(_SMALL):
        kv.push(keys[0], grads[0])
        kv.pull(keys[0], outs[0])
        outs[0].wait_to_read()
    blocking = _SMALL / (time.perf_counter() - begin)
    turns = 2 * _SMALL // _WINDOW
    begin = time.perf_counter()
    for _ in range(turns):
        kv.pushpull(keys, grads, outs)
        ndarray.waitall()
    return {
        "blocking": blocking,
        "in_flight": turns * _WINDOW / (time.perf_counter() - begin),
    }


def main(directory: str, names: str, chosen: str, rounds: str) -> None:
    """Measure and leave a file."""
    kv: Any = kvstore.create("dist_sync")
    if chosen != "none":
        kv.set_optimizer(optimizer.create(chosen))
    sizes: dict[str, Any] = {}
    first = 0
    for name in names.split(","):
        sizes[name] = _rounds(kv, first, name, int(rounds))
        first += len(shapes_of(name))
    figures = {"servers": len(kv.stats()), "sizes": sizes, "small": _small(kv, first)}
    path = Path(directory) / f"{kv.rank}.json"
    path.write_text(json.dumps(figures))
    kv.barrier()


if __name__ == "__main__":
    main(*sys.argv[1:])

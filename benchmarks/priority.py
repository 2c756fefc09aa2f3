# SPDX-License-Identifier: Apache-2.0
"""Priority and slicing on a slow network: step time of a VGG-16-like parameter list.

python benchmarks/priority.py

Two workers, one server. The network is *simulated*: a token bucket for each worker
(kvtrain.testing.slow_network). Computing is simulated by sleeping: backward runs from the last
layer to the first and posts each gradient when it is there, forward waits for each weight when
it needs it. FIFO sends whole keys in the order they were posted.
"""

import argparse
import statistics
import time

from jobs import report, run, table

import kvtrain as mx
from kvtrain import nd

WORKERS, SERVERS, STEPS = 2, 1, 4
#: parameters of each layer of VGG-16, and its share of the time that computing takes
LAYERS = [
    (1_792, 0.02), (36_928, 0.12), (73_856, 0.06), (147_584, 0.12), (295_168, 0.06),
    (590_080, 0.12), (590_080, 0.12), (1_180_160, 0.06), (2_359_808, 0.10), (2_359_808, 0.10),
    (2_359_808, 0.03), (2_359_808, 0.03), (2_359_808, 0.03), (102_764_544, 0.02),
    (16_781_312, 0.005), (4_097_000, 0.005),
]  # fmt: skip
MODES = {
    "FIFO, whole keys": (False, 1 << 30),
    "FIFO, sliced": (False, 128 << 10),
    "priority and slicing": (True, 128 << 10),
}


def worker(priority: bool, scale: int, rate: float, compute: float) -> None:
    from kvtrain.testing import slow_network

    slow_network(rate=rate, delay=0.0005)
    kv = mx.kv.create("dist_sync")
    sizes = [max(1, size // scale) for size, _ in LAYERS]
    names = [f"layer{i:02d}" for i in range(len(sizes))]
    kv.set_optimizer(mx.optimizer.SGD(learning_rate=0.1))
    weights = [nd.zeros((size,)) for size in sizes]
    grads = [nd.ones((size,)) for size in sizes]
    for name, weight in zip(names, weights, strict=True):
        kv.broadcast(name, weight, out=weight)
    times = []
    for step in range(STEPS + 1):
        kv.barrier() if step == 0 else None
        start = time.perf_counter()
        for (_, share), weight in zip(LAYERS, weights, strict=True):
            weight.wait_to_read()
            time.sleep(compute * share / 3)
        for i in range(len(LAYERS) - 1, -1, -1):
            time.sleep(compute * LAYERS[i][1] * 2 / 3)
            kv.pushpull(names[i], grads[i], out=weights[i], priority=-i if priority else 0)
        times.append(time.perf_counter() - start)
        kv.tick()
    for weight in weights:
        weight.wait_to_read()
    assert abs(float(weights[0].asnumpy()[0]) + 0.1 * WORKERS * (STEPS + 1)) < 1e-5
    kv.barrier()
    report(step=statistics.median(times[2:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", type=int)
    parser.add_argument("--scale", type=int, default=40, help="divides every parameter count")
    parser.add_argument("--rate", type=float, default=10e6, help="bytes a second each way")
    parser.add_argument("--compute", type=float, default=1.0, help="seconds of a step's computing")
    given = parser.parse_args()
    if given.worker is not None:
        worker(bool(given.worker), given.scale, given.rate, given.compute)
        return
    size = 4 * sum(max(1, n // given.scale) for n, _ in LAYERS)
    print(
        f"simulated network of {given.rate / 1e6:g} MB/s each way, {size / 1e6:.1f} MB of "
        f"parameters, {given.compute:g} s of computing, {WORKERS} workers\n"
    )
    rows, first = [], None
    for mode, (priority, chunk) in MODES.items():
        options = ["--worker", str(int(priority)), "--scale", str(given.scale)]
        options += ["--rate", str(given.rate), "--compute", str(given.compute)]
        found = run(
            __file__, options, WORKERS, SERVERS, "--transport", "tcp", "--chunk-bytes", str(chunk)
        )
        seconds = max(report["step"] for report in found)
        first = first or seconds
        rows.append([mode, f"{seconds:.2f}", f"{100 * (1 - seconds / first):.0f} %"])
    table(["order", "s a step", "less than FIFO"], rows)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Steps of a Trainer on a model's parameter list, without the model's arithmetic.

Each backward writes every gradient where the Trainer keeps it (kvtrain: in shared memory), so
a step is what communication and the servers' optimizer cost. Backward is not in the time.
"""

import statistics
import time

import peers
from rounds import elements, shapes_of


def work(options):
    mx = peers.module(options.impl)
    kv = mx.kv.create("dist_sync")
    shapes = shapes_of(options.sizes)
    params = mx.gluon.ParameterDict("net_")
    for i, shape in enumerate(shapes):
        params.get(f"p{i:03d}", shape=shape, init=mx.init.Zero())
    params.initialize()
    trainer = mx.gluon.Trainer(params, "sgd", {"learning_rate": 0.1}, kvstore=kv)
    times = []
    for turn in range(3 + options.rounds):
        with mx.autograd.record():
            heads = [(p.data() * 2.0).sum() for p in params.values()]
        mx.autograd.backward(heads)
        mx.nd.waitall()
        peers.barrier(kv)
        begin = time.perf_counter()
        trainer.step(kv.num_workers)
        mx.nd.waitall()
        if turn >= 3:
            times.append(time.perf_counter() - begin)
    peers.report(step={"median": statistics.median(times), "min": min(times)})
    peers.barrier(kv)


def main():
    parser = peers.arguments(__doc__)
    parser.add_argument("--sizes", default="resnet50")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    if options.impl == "torch":
        parser.error("torch has no Trainer on a store")
    if peers.is_worker():
        return work(options)
    times = peers.slowest(peers.run(options), "step")
    moved = 8 * elements(shapes_of(options.sizes))
    peers.show(
        options,
        f"trainer step {options.sizes}",
        median_ms=round(times["median"] * 1e3, 3),
        min_ms=round(times["min"] * 1e3, 3),
        GBps=round(moved / times["median"] / 1e9, 3),
    )


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Data-parallel training of a perceptron 784-512-256-10, samples per second of all workers.

Each worker keeps its batch size. torch: DistributedDataParallel over gloo.
"""

import time

import peers

BLOCK, BLOCKS, WARM_UP = 25, 7, 15


def data(np, rank, batch):
    rng = np.random.RandomState(rank)
    return [(rng.randn(batch, 784).astype("float32"), rng.randint(0, 10, batch)) for _ in range(4)]


def blocks(step, settle):
    for i in range(WARM_UP):
        step(i)
    settle()
    times = []
    for _ in range(BLOCKS):
        begin = time.perf_counter()
        for i in range(BLOCK):
            step(i)
        settle()
        times.append((time.perf_counter() - begin) / BLOCK)
    return peers.median_and_least(times)


def with_a_store(options):
    import numpy as np

    mx = peers.module(options.impl)
    nn = mx.gluon.nn
    kv = mx.kv.create("dist_sync")
    mx.random.seed(1)
    net = nn.HybridSequential()
    net.add(nn.Dense(512, activation="relu"), nn.Dense(256, activation="relu"), nn.Dense(10))
    net.initialize(mx.init.Xavier())
    if options.hybrid:
        net.hybridize(static_alloc=True, static_shape=True)
    more = {"overlap": True} if options.overlap else {}
    trainer = mx.gluon.Trainer(
        net.collect_params(), "sgd", {"learning_rate": 0.01, "momentum": 0.9}, kvstore=kv, **more
    )
    loss = mx.gluon.loss.SoftmaxCELoss()
    batches = [(mx.nd.array(x), mx.nd.array(y)) for x, y in data(np, kv.rank, options.batch)]

    def step(i):
        x, y = batches[i % len(batches)]
        with mx.autograd.record():
            out = loss(net(x), y)
        out.backward()
        trainer.step(options.batch * kv.num_workers)

    peers.report(step=blocks(step, mx.nd.waitall))
    peers.barrier(kv)


def with_ddp(options):
    import numpy as np
    import torch
    import torch.distributed as dist
    from torch import nn

    dist.init_process_group("gloo")
    torch.manual_seed(1)
    layers = [nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)]
    net = nn.parallel.DistributedDataParallel(nn.Sequential(*layers))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    batches = [
        (torch.from_numpy(x), torch.from_numpy(y))
        for x, y in data(np, dist.get_rank(), options.batch)
    ]

    def step(i):
        x, y = batches[i % len(batches)]
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()

    peers.report(step=blocks(step, lambda: None))
    dist.barrier()
    dist.destroy_process_group()


def main():
    parser = peers.arguments(__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--hybrid", action="store_true")
    parser.add_argument("--overlap", action="store_true", help="kvtrain: Trainer(overlap=True)")
    options = parser.parse_args()
    if peers.is_worker():
        return with_ddp(options) if options.impl == "torch" else with_a_store(options)
    times = peers.slowest(peers.run(options), "step")
    peers.show(
        options,
        f"mlp batch {options.batch}" + (" overlap" if options.overlap else ""),
        median_ms=round(times["median"] * 1e3, 3),
        min_ms=round(times["min"] * 1e3, 3),
        samples_per_s=round(options.workers * options.batch / times["median"]),
    )


if __name__ == "__main__":
    main()

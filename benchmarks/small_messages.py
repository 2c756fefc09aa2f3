# SPDX-License-Identifier: Apache-2.0
"""Push-pulls of a 10-element key per second (torch: all_reduce of 10 elements)."""

import time

import peers

WINDOW = 64


def with_a_store(options):
    mx = peers.module(options.impl)
    kv = mx.kv.create("dist_sync")
    keys = list(range(WINDOW))
    grads = [mx.nd.ones((10,)) for _ in keys]
    outs = [mx.nd.zeros((10,)) for _ in keys]
    kv.init(keys, outs)
    mx.nd.waitall()

    def one():
        kv.push(0, grads[0])
        kv.pull(0, out=outs[0])
        outs[0].wait_to_read()

    def many():
        kv.push(keys, grads)
        kv.pull(keys, out=outs)
        mx.nd.waitall()

    blocking = peers.median_and_least(peers.timed(one, options.rounds, 100))
    begin = time.perf_counter()
    peers.timed(many, options.rounds // 10, 0)
    flowing = (options.rounds // 10) * WINDOW / (time.perf_counter() - begin)
    peers.report(blocking=blocking, in_flight=flowing)
    peers.barrier(kv)


def with_gloo(options):
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    array = torch.ones(10)
    run = lambda: dist.all_reduce(array, op=dist.ReduceOp.MAX)  # noqa: E731
    peers.report(
        blocking=peers.median_and_least(peers.timed(run, options.rounds, 100)), in_flight=0
    )
    dist.barrier()
    dist.destroy_process_group()


def main():
    parser = peers.arguments(__doc__)
    parser.set_defaults(workers=1)
    parser.add_argument("--rounds", type=int, default=2000)
    options = parser.parse_args()
    if peers.is_worker():
        return with_gloo(options) if options.impl == "torch" else with_a_store(options)
    reports = peers.run(options)
    times = peers.slowest(reports, "blocking")
    peers.show(
        options,
        "10 elements",
        blocking_per_s=round(1 / times["median"]),
        median_us=round(times["median"] * 1e6),
        in_flight_per_s=round(min(one["in_flight"] for one in reports)),
    )


if __name__ == "__main__":
    main()

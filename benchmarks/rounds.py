# SPDX-License-Identifier: Apache-2.0
"""Synchronous rounds: every worker pushes and pulls all keys (torch: all_reduce of each)."""

import peers


def shapes_of(name):
    """The parameters of a ResNet-50, or one array of so many elements."""
    if name != "resnet50":
        return [(int(float(name)),)]
    shapes = []

    def unit(inputs, outputs, kernel):
        shapes.extend([(outputs, inputs, kernel, kernel), (outputs,), (outputs,)])

    unit(3, 64, 7)
    inputs = 64
    for width, depth in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(depth):
            unit(inputs, width, 1)
            unit(width, width, 3)
            unit(width, 4 * width, 1)
            if block == 0:
                unit(inputs, 4 * width, 1)
            inputs = 4 * width
    return [*shapes, (1000, 2048), (1000,)]


def elements(shapes):
    """How many numbers that is."""
    total = 0
    for shape in shapes:
        size = 1
        for n in shape:
            size *= n
        total += size
    return total


def with_a_store(options):
    mx = peers.module(options.impl)
    kv = mx.kv.create("dist_sync")
    if options.optimizer != "none":
        kv.set_optimizer(mx.optimizer.create(options.optimizer, learning_rate=0.1, momentum=0.9))
    peers.barrier(kv)
    figures, first = {}, 0
    for name in options.sizes.split(","):
        shapes = shapes_of(name)
        keys = range(first, first + len(shapes))
        first += len(shapes)
        grads = [mx.nd.ones(shape) for shape in shapes]
        outs = [mx.nd.zeros(shape) for shape in shapes]
        for key, out in zip(keys, outs, strict=True):
            kv.init(key, out)
        mx.nd.waitall()

        def round_(keys=keys, grads=grads, outs=outs):
            for i, key in enumerate(keys):
                kv.push(key, grads[i], priority=-i)
                kv.pull(key, out=outs[i], priority=-i)
            mx.nd.waitall()

        peers.barrier(kv)
        for grad in grads:  # MXNet pulls into the pushed array too: ones would grow
            grad[:] = 0
        figures[name] = peers.median_and_least(peers.timed(round_, options.rounds))
        peers.barrier(kv)
    peers.report(**figures)
    peers.barrier(kv)


def with_gloo(options):
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    figures = {}
    for name in options.sizes.split(","):
        shapes = shapes_of(name)
        total = elements(shapes)
        flat = torch.zeros(total)
        source = torch.ones(total)
        views, at = [], 0
        for shape in shapes:
            views.append(flat[at : at + elements([shape])])
            at += elements([shape])
        targets = [flat] if options.flat else views

        def round_(flat=flat, source=source, targets=targets):
            flat.copy_(source)
            for work in [dist.all_reduce(t, async_op=True) for t in targets]:
                work.wait()

        figures[name] = peers.median_and_least(peers.timed(round_, options.rounds))
    peers.report(**figures)
    dist.barrier()
    dist.destroy_process_group()


def main():
    parser = peers.arguments(__doc__)
    parser.add_argument("--sizes", default="resnet50")
    parser.add_argument("--optimizer", default="none", choices=("none", "sgd"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--flat", action="store_true", help="torch: all keys as one buffer")
    options = parser.parse_args()
    if peers.is_worker():
        return with_gloo(options) if options.impl == "torch" else with_a_store(options)
    reports = peers.run(options)
    for name in options.sizes.split(","):
        times = peers.slowest(reports, name)
        moved = 8 * elements(shapes_of(name))
        peers.show(
            options,
            f"round {name}" + (" flat" if options.flat else ""),
            optimizer=options.optimizer,
            median_ms=round(times["median"] * 1e3, 3),
            min_ms=round(times["min"] * 1e3, 3),
            GBps=round(moved / times["median"] / 1e9, 3),
        )


if __name__ == "__main__":
    main()

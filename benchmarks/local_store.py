# SPDX-License-Identifier: Apache-2.0
"""Four copies of a model's gradients summed by a ``local`` store (torch: by hand)."""

import peers
from rounds import elements, shapes_of


def main():
    parser = peers.arguments(__doc__)
    parser.add_argument("--sizes", default="resnet50")
    parser.add_argument("--copies", type=int, default=4)
    options = parser.parse_args()
    options.workers, options.servers = 1, 0
    shapes = shapes_of(options.sizes)
    if options.impl == "torch":
        import torch

        copies = [[torch.ones(s) for s in shapes] for _ in range(options.copies)]
        outs = [torch.zeros(s) for s in shapes]

        def run():
            for i, out in enumerate(outs):
                torch.add(copies[0][i], copies[1][i], out=out)
                for other in copies[2:]:
                    out.add_(other[i])
                for copy in copies:
                    copy[i].copy_(out)

        times = peers.timed(run, 9)
    else:
        mx = peers.module(options.impl)
        kv = mx.kv.create("local")
        contexts = [mx.cpu(i) for i in range(options.copies)]
        copies = [[mx.nd.ones(s, ctx=ctx) for ctx in contexts] for s in shapes]
        keys = list(range(len(shapes)))
        kv.init(keys, [mx.nd.zeros(s) for s in shapes])

        def run():
            for key in keys:
                kv.push(key, copies[key])
                kv.pull(key, out=copies[key])
            mx.nd.waitall()

        times = peers.timed(run, 9)
    found = peers.median_and_least(times)
    moved = 4 * options.copies * elements(shapes)
    peers.show(
        options,
        f"local store {options.sizes} x {options.copies}",
        median_ms=round(found["median"] * 1e3, 3),
        min_ms=round(found["min"] * 1e3, 3),
        GBps=round(moved / found["median"] / 1e9, 3),
    )


if __name__ == "__main__":
    main()

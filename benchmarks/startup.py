# SPDX-License-Identifier: Apache-2.0
"""Seconds from starting a cluster to the first barrier that every worker has passed."""

import os
import statistics
import time

import peers


def main():
    parser = peers.arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if peers.is_worker():
        if options.impl == "torch":
            import torch.distributed as dist

            dist.init_process_group("gloo")
            dist.barrier()
        else:
            peers.barrier(peers.module(options.impl).kv.create("dist_sync"))
        peers.report(seconds=time.time() - float(os.environ["KVBENCH_BEGAN"]))
        return
    found = [max(one["seconds"] for one in peers.run(options)) for _ in range(options.repeats)]
    peers.show(
        options,
        "start to first barrier",
        median_s=round(statistics.median(found), 3),
        min_s=round(min(found), 3),
    )


if __name__ == "__main__":
    main()

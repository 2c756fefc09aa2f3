# SPDX-License-Identifier: Apache-2.0
"""Seconds from starting a cluster to the first barrier that every worker has passed."""

import os
import statistics
import time

import jobs


def main():
    parser = jobs.arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if jobs.is_worker():
        if options.impl == "torch":
            import torch.distributed as dist

            dist.init_process_group("gloo")
            dist.barrier()
        else:
            jobs.barrier(jobs.module(options.impl).kv.create("dist_sync"))
        jobs.report(seconds=time.time() - float(os.environ["KVBENCH_BEGAN"]))
        return
    found = [max(one["seconds"] for one in jobs.run(options)) for _ in range(options.repeats)]
    jobs.show(
        options,
        "start to first barrier",
        median_s=round(statistics.median(found), 3),
        min_s=round(min(found), 3),
    )


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""How long a job stands still when a server is killed (replicas 1, default settings).

python benchmarks/recovery.py --kills 5

A worker prints the time of each step; the stand-still is the longest time between two steps
around the kill. Between kills the replacement is filled again.
"""

import argparse
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPT = """
import time
import kvtrain as mx
from kvtrain import nd
kv = mx.kv.create("dist_sync")
kv.set_optimizer(mx.optimizer.SGD(learning_rate=0.01))
value = nd.zeros((250_000,))
kv.init("w", value)
while True:
    kv.pushpull("w", nd.ones((250_000,)), out=value)
    value.wait_to_read()
    kv.tick()
    if kv.rank == 0:
        print(f"at {time.monotonic():.4f}", flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--settle", type=float, default=6.0, help="seconds between kills")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kt", dir="/tmp") as base:
        script = Path(base) / "loop.py"
        script.write_text(SCRIPT)
        command = [sys.executable, "-m", "kvtrain", "launch", "--name", "recovery", "-n", "2"]
        command += ["-s", "2", "--replicas", "1", str(script)]
        env = {**os.environ, "XDG_RUNTIME_DIR": base}
        run_dir = Path(base) / f"kvtrain-{os.getuid()}" / "recovery"
        with open(Path(base) / "out", "w+") as out:
            job = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, env=env)
            kills = []
            try:
                time.sleep(given.settle + 4)
                for number in range(given.kills):
                    held = json.loads((run_dir / "job.json").read_text())
                    pids = {p["label"]: p["pid"] for p in held["processes"]}
                    os.kill(pids[f"server-{number % 2}"], signal.SIGKILL)
                    kills.append(time.monotonic())
                    time.sleep(given.settle)
            finally:
                job.terminate()
                job.wait()
            out.seek(0)
            times = [float(x.split("at ")[1]) for x in out if "| at " in x]
    gaps = []
    for kill in kills:
        near = [t for t in times if kill - 1 < t < kill + given.settle]
        gaps.append(max(b - a for a, b in itertools.pairwise(near)))
    usual = statistics.median(b - a for a, b in itertools.pairwise(times))
    print(f"a step takes {usual * 1e3:.1f} ms; stand-still at a kill, seconds:")
    print(" ".join(f"{gap:.2f}" for gap in gaps), f"median {statistics.median(gaps):.2f}")


if __name__ == "__main__":
    main()

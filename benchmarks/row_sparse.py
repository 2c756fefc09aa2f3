# SPDX-License-Identifier: Apache-2.0
"""Row-sparse keys: rounds of push and row_sparse_pull of 13,200 rows of a 1,000,000 x 16 table.

python benchmarks/row_sparse.py [--peer /path/to/python/with/mxnet]

With --peer the same loop runs beside it on MXNet's own parameter server.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS, WIDTH, IDS, ROUNDS, WARM = 1_000_000, 16, 26 * 512, 60, 8
SIZES = ((1, 1), (2, 1), (4, 2))


def worker(module: str) -> None:
    import importlib

    import numpy as np

    mx = importlib.import_module(module)
    kv = mx.kv.create("dist_sync")
    kv.set_optimizer(mx.optimizer.create("sgd", learning_rate=0.5))
    kv.init("emb", mx.nd.ones((ROWS, WIDTH)).tostype("row_sparse"))
    draw = np.random.RandomState(50 + kv.rank)
    ids = [np.unique(draw.randint(0, ROWS, IDS)) for _ in range(4)]
    grads = [
        mx.nd.sparse.row_sparse_array((np.ones((len(i), WIDTH), "float32"), i), shape=(ROWS, WIDTH))
        for i in ids
    ]
    rows = [mx.nd.array(i, dtype="int64") for i in ids]
    out = mx.nd.sparse.zeros("row_sparse", (ROWS, WIDTH))
    kv._barrier()
    times = []
    for step in range(WARM + ROUNDS):
        start = time.perf_counter()
        kv.push("emb", grads[step % 4])
        kv.row_sparse_pull("emb", out=out, row_ids=rows[step % 4])
        out.wait_to_read()
        times.append(time.perf_counter() - start)
    times = times[WARM:]
    path = Path(os.environ["ROWS_OUT"]) / f"{kv.rank}.json"
    path.write_text(json.dumps([statistics.median(times), min(times)]))
    kv._barrier()


def measured(folder: str) -> tuple[float, float]:
    found = [json.loads(path.read_text()) for path in Path(folder).glob("*.json")]
    return max(f[0] for f in found), max(f[1] for f in found)


def ours(workers: int, servers: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "kvtrain", "launch", "-n", str(workers), "-s"]
        subprocess.run(
            [*command, str(servers), __file__, "--worker", "kvtrain"],
            check=True,
            env={**os.environ, "ROWS_OUT": folder},
        )
        return measured(folder)


def peer(python: str, workers: int, servers: int) -> tuple[float, float]:
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        env = {
            **os.environ,
            "DMLC_PS_ROOT_URI": "127.0.0.1",
            "DMLC_PS_ROOT_PORT": str(port),
            "DMLC_NUM_WORKER": str(workers),
            "DMLC_NUM_SERVER": str(servers),
            "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // workers)),
            "ROWS_OUT": folder,
        }
        idle = [python, "-c", "import mxnet"]
        roles = [("scheduler", idle)] + [("server", idle)] * servers
        roles += [("worker", [python, __file__, "--worker", "mxnet"])] * workers
        started = [subprocess.Popen(c, env={**env, "DMLC_ROLE": role}) for role, c in roles]
        try:
            for process in started:
                process.wait(timeout=110)
        finally:
            for process in started:
                process.kill()
        return measured(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker")
    parser.add_argument("--peer", help="a Python that has mxnet")
    given = parser.parse_args()
    if given.worker:
        worker(given.worker)
        return
    from jobs import table

    rows = []
    for workers, servers in SIZES:
        kinds = [("kvtrain", lambda w, s: ours(w, s))]
        if given.peer:
            kinds.append(("mxnet", lambda w, s: peer(given.peer, w, s)))
        for name, run in kinds:
            median, least = run(workers, servers)
            rows.append(
                [
                    name,
                    f"{workers}w/{servers}s",
                    f"{1 / median:.0f}",
                    f"{1e3 * median:.2f}",
                    f"{1e3 * least:.2f}",
                ]
            )
    table(["", "topology", "rounds/s", "ms, median", "ms, least"], rows)


if __name__ == "__main__":
    main()

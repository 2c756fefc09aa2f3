# SPDX-License-Identifier: Apache-2.0
"""Starts one cluster of a package on this machine and collects what its workers report.

Only the standard library: a worker of MXNet runs under an interpreter that has no kvtrain.
"""

import argparse
import importlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time

IMPLS = ("kvtrain", "mxnet", "torch")


def arguments(text):
    """A parser with what all benchmarks take."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--impl", choices=IMPLS, default="kvtrain")
    parser.add_argument("-n", "--workers", type=int, default=2)
    parser.add_argument("-s", "--servers", type=int, default=1)
    parser.add_argument("--transport", default="auto", help="of kvtrain: auto, shm, ipc, tcp")
    return parser


def is_worker():
    """Whether this process was started by :func:`run`."""
    return "KVBENCH_DIRECTORY" in os.environ


def report(**figures):
    """What a worker has measured."""
    path = os.path.join(os.environ["KVBENCH_DIRECTORY"], f"{os.getpid()}.json")
    with open(path + ".part", "w") as file:
        json.dump(figures, file)
    os.rename(path + ".part", path)


def module(name):
    """kvtrain or mxnet, which speak the same API."""
    return importlib.import_module(name)


def barrier(kv):
    """A barrier, under the name that the package has for it."""
    (getattr(kv, "_barrier", None) or kv.barrier)()


def timed(run, count, warm_up=3):
    """Seconds of each of `count` calls."""
    for _ in range(warm_up):
        run()
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return times


def median_and_least(times):
    """``{"median": ..., "min": ...}`` in seconds."""
    return {"median": statistics.median(times), "min": min(times)}


def _port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def _commands(options, script):
    """(command, environment) of each process; the workers last."""
    if options.impl == "kvtrain":
        launch = [sys.executable, "-m", "kvtrain", "launch", "-n", str(options.workers)]
        launch += ["-s", str(options.servers), "--transport", options.transport, *script]
        return [(launch, {})]
    own = [sys.executable, *script]
    if options.impl == "torch":
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _port()}
        common["WORLD_SIZE"] = str(options.workers)
        return [(own, {**common, "RANK": str(rank)}) for rank in range(options.workers)]
    common = {"DMLC_PS_ROOT_URI": "127.0.0.1", "DMLC_PS_ROOT_PORT": _port()}
    common |= {"DMLC_NUM_WORKER": str(options.workers), "DMLC_NUM_SERVER": str(options.servers)}
    idle = [sys.executable, "-c", "import mxnet"]
    roles = ["scheduler", *["server"] * options.servers]
    others = [(idle, {**common, "DMLC_ROLE": role}) for role in roles]
    return others + [(own, {**common, "DMLC_ROLE": "worker"})] * options.workers


def run(options, deadline=240.0):
    """Run this script's cluster; the reports of its workers."""
    threads = str(max(1, (os.cpu_count() or 1) // options.workers))
    with tempfile.TemporaryDirectory(prefix="kvbench-") as directory:
        env = {**os.environ, "KVBENCH_DIRECTORY": directory, "OMP_NUM_THREADS": threads}
        env["KVBENCH_BEGAN"] = repr(time.time())
        started = [
            subprocess.Popen(command, env={**env, **more}, stdout=subprocess.DEVNULL)
            for command, more in _commands(options, sys.argv)
        ]
        try:
            for process in started:
                process.wait(timeout=deadline)
        finally:
            for process in started:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        if any(process.returncode for process in started):
            sys.exit(f"{options.impl}: a process failed")
        reports = []
        for name in os.listdir(directory):
            with open(os.path.join(directory, name)) as file:
                reports.append(json.load(file))
    if len(reports) != options.workers:
        sys.exit(f"{options.impl}: {len(reports)} of {options.workers} workers reported")
    return reports


def slowest(reports, name):
    """The figures of the worker whose median is the largest."""
    return max((one[name] for one in reports), key=lambda figures: figures["median"])


def show(options, what, **figures):
    """One line of JSON on standard output."""
    where = f"{options.workers}w/{options.servers if options.impl != 'torch' else 0}s"
    line = {"what": what, "impl": options.impl, "where": where}
    if options.impl == "kvtrain":
        line["transport"] = options.transport
    print(json.dumps({**line, **figures}))

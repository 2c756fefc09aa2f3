# SPDX-License-Identifier: Apache-2.0
"""Workers that join a real job while it runs, by the command line."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from .jobs import ROOT, environment, left_over, write

pytestmark = pytest.mark.integration
COMMAND = [sys.executable, "-m", "kvtrain"]

#: each worker adds 2 ** rank in every step, so the members of all steps can be read off
COUNTS = """
    import os, sys, time
    kv = mx.kv.create("dist_sync")
    kv.set_optimizer(mx.optimizer.create("test", rescale_grad=1.0))
    kv.init("w", nd.zeros((4,)))
    step, out = kv.resume_step, nd.zeros((4,))
    kv.barrier()
    kv.pull("w", out)
    print("begins", step, int(out.asnumpy()[0]), flush=True)
    while step < int(sys.argv[1]):
        workers = kv.num_workers
        kv.push("w", nd.ones((4,)) * 2.0 ** kv.rank)
        kv.pull("w", out)
        kv.tick()
        print("step", step, int(out.asnumpy()[0]), workers, flush=True)
        step += 1
        time.sleep(0.001 if os.path.exists(sys.argv[2]) else 0.15)
"""


def begin(base: Path, *arguments: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(base, PYTHONUNBUFFERED="1", **env),
        cwd=ROOT,
    )


def status(base: Path, job: str) -> dict[str, Any]:
    done = subprocess.run(
        [*COMMAND, "status", job, "--json"],
        capture_output=True,
        text=True,
        env=environment(base),
        cwd=ROOT,
        check=False,
    )
    return json.loads(done.stdout) if done.returncode == 0 else {}


def await_steps(base: Path, job: str, count: int, rank: int = 0) -> dict[str, Any]:
    """The status of the job once that worker has ended `count` steps."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        state = status(base, job)
        for node in state.get("nodes", []):
            if (node["role"], node["rank"]) == ("worker", rank):
                if max(node["steps"].values(), default=0) >= count:
                    return state
    raise AssertionError(f"{job}: worker-{rank} has not ended {count} steps")


def lines(text: str, word: str) -> list[list[int]]:
    found = re.findall(rf"^(?:worker-\d +\| )?{word} (.+)$", text, re.MULTILINE)
    return [[int(number) for number in line.split()] for line in found]


@pytest.mark.parametrize(
    ("last", "joiners_last"), [(360, 300), (300, 360)], ids=["leaves first", "leaves last"]
)
def test_a_worker_joins_by_hand(
    run_base: Path, tmp_path: Path, last: int, joiners_last: int
) -> None:
    script, seen = write(tmp_path, COUNTS), tmp_path / "seen"
    rest = [script, str(last), str(seen)]
    job = begin(run_base, "launch", "-n", "2", "-s", "2", "--name", "grows", *rest)
    joiner = None
    try:
        await_steps(run_base, "grows", 1)
        joiner = begin(run_base, "worker", "--join", "grows", script, str(joiners_last), str(seen))
        state = await_steps(run_base, "grows", 1, rank=2)
        seen.touch()  # slow until now
        out, err = joiner.communicate(timeout=60)
        assert joiner.returncode == 0, err
        told, err = job.communicate(timeout=60)
        assert job.returncode == 0, err
    finally:
        for process in (job, joiner):
            if process is not None and process.poll() is None:
                process.kill()
                process.communicate()
    begins, value = lines(out, "begins")[0]
    assert begins > 0 and value == 3 * begins, "the state before its first step"
    assert "worker-2" in err and f"joins from step {begins} of store 0" in err
    node = next(n for n in state["nodes"] if (n["role"], n["rank"]) == ("worker", 2))
    assert node["state"] == "running" and node["from_steps"] == {"0": begins}

    def added(step: int) -> int:
        founders = 3 if step < last else 0
        return founders + (4 if begins <= step < joiners_last else 0)

    reached = 0
    sums = []
    for step in range(max(last, joiners_last)):
        reached += added(step)
        sums.append(reached)
    steps = lines(told, "step") + lines(out, "step")
    assert len(steps) == 2 * last + joiners_last - begins
    for step, value, workers in steps:
        assert value == sums[step], f"step {step}"
        assert workers == (2 if step < begins else 3)
    assert left_over(run_base) == []

# SPDX-License-Identifier: Apache-2.0
"""Processes of a running job are killed and paused; the final weights are the undisturbed ones.

``KVTRAIN_CHAOS_FAULTS=20 pytest -m integration tests/integration/test_chaos.py`` for longer runs.
"""

import os
import random
import signal
import tempfile
import time
from pathlib import Path

import pytest

from kvtrain.commands.status import ask
from kvtrain.errors import KVTrainError
from tests.integration.chaos import Running, pause, running
from tests.integration.jobs import launch, left_over

pytestmark = pytest.mark.integration
DIGITS = "examples/elastic_digits.py"
FAULTS = int(os.environ.get("KVTRAIN_CHAOS_FAULTS", "4"))
STEPS = str(350 * FAULTS)


@pytest.fixture(scope="module")
def undisturbed() -> str:
    """The last line of a run in which nothing goes wrong."""
    with tempfile.TemporaryDirectory(prefix="kt", dir="/tmp") as base:
        result = launch(Path(base), "-n", "2", DIGITS, "--steps", STEPS, timeout=300)
    assert result.code == 0, result.err
    return result.lines("worker-0")[-1]


def wait_until_whole(job: Running, seconds: float = 40) -> bool:
    """Every shard has its backup, every worker is there: the next loss may come.

    False if the job has ended well meanwhile: it was faster than the faults.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end and job.process.poll() is None:
        pause(0.1)
        try:
            address = f"ipc://{job.run_dir}/scheduler.sock"
            if (job.run_dir / "tcp").exists():
                address = (job.run_dir / "tcp").read_text()
            state = ask(address, str(job.run_dir / "token"))
        except (KVTrainError, OSError):
            continue
        nodes = [n for n in state["nodes"] if n["state"] == "running"]
        servers = [n for n in nodes if n["role"] == "server"]
        backed = sum(n["backup_of"] for n in servers) == sum(n["primary_of"] for n in servers) > 0
        workers = [n for n in nodes if n["role"] == "worker" and n["steps"]]
        if backed and len(servers) == 2 and len(workers) == 2 and state["phase"] == "running":
            return True
    if job.process.poll() == 0:
        return False
    assert job.process.poll() is None, "the job has ended: " + job.text(job.err)[-3000:]
    raise AssertionError("not whole again: " + job.text(job.err)[-3000:])


@pytest.mark.parametrize("transport", ["auto", "ipc", "tcp"])
def test_random_faults_keep_the_bits(run_base: Path, undisturbed: str, transport: str) -> None:
    """Servers, scheduler and workers, killed or stopped for a moment, one after another."""
    rng = random.Random(len(transport))
    options = ("-n", "2", "-s", "2", "--replicas", "1", "--on-worker-loss", "restart")
    command = (*options, "--transport", transport, DIGITS, "--steps", STEPS, "--progress", "10")
    victims = ["server", "scheduler", "worker"]
    with running(run_base, "chaos", *command) as job:
        job.wait_for("step 10:", 60)
        if transport == "tcp":
            held = (job.run_dir / "job.json").read_text()
            (job.run_dir / "tcp").write_text(held.split('"address": "')[1].split('"')[0])
        for number in range(FAULTS):
            role = victims[number % 3]
            label = role if role == "scheduler" else f"{role}-{rng.randrange(2)}"
            if not wait_until_whole(job):
                assert number >= 2, "the job is too short for its faults"
                break
            pause(rng.uniform(0.0, 0.5))
            if number % 4 == 3:
                pid = job.signal(label, signal.SIGSTOP)
                pause(1.0)
                os.kill(pid, signal.SIGCONT)
            else:
                job.signal(label, signal.SIGKILL)
                pause(0.5)  # until it is noticed, everything looks whole
        result = job.end(120)
        assert result.code == 0, result.err[-4000:]
        assert result.lines("worker-0")[-1] == undisturbed, result.err[-4000:]
    assert left_over(run_base) == []


@pytest.mark.parametrize("servers", ["1", "2"])
def test_sigterm_of_a_server_loses_nothing(run_base: Path, undisturbed: str, servers: str) -> None:
    """Without replicas: it hands its shards over, to a new one if there is none, and ends."""
    command = ("-n", "2", "-s", servers, DIGITS, "--steps", STEPS, "--progress", "10")
    with running(run_base, "drain", *command) as job:
        job.wait_for("step 20:", 60)
        job.signal(f"server-{int(servers) - 1}", signal.SIGTERM)
        result = job.end(120)
        assert result.code == 0, result.err[-4000:]
        assert result.lines("worker-0")[-1] == undisturbed
        assert "hands its shards over" in result.err


def test_shrink_goes_on_without_the_lost_worker(run_base: Path) -> None:
    command = ("-n", "3", "--on-worker-loss", "shrink", DIGITS, "--steps", "300")
    with running(run_base, "shrink", *command, "--progress", "10") as job:
        job.wait_for("step 20:", 60)
        job.signal("worker-2", signal.SIGKILL)
        result = job.end(120)
        assert result.code == 0, result.err[-4000:]
        assert "goes on without it" in result.err
        assert "held-out accuracy" in result.out


def test_the_only_server_lost_names_the_checkpoint(run_base: Path, tmp_path: Path) -> None:
    where = str(tmp_path / "c")
    command = ("-n", "2", "--checkpoint-dir", where, "--checkpoint-every", "20", DIGITS)
    with running(run_base, "alone", *command, "--steps", "3000", "--progress", "10") as job:
        job.wait_for("step 40:", 60)
        end = time.monotonic() + 30
        while "checkpoint saved" not in job.text(job.err) and time.monotonic() < end:
            pause(0.1)
        job.signal("server-0", signal.SIGKILL)
        result = job.end(60)
        assert result.code != 0
        assert "ServerLost" in result.err and "'dense0_weight'" in result.err
        assert f"--resume {where}" in result.err

# SPDX-License-Identifier: Apache-2.0
"""Jobs whose processes were started as MXNet's own launchers start them."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.jobs import environment, launch, write

pytestmark = pytest.mark.integration
SCRIPT = """
kv = mx.kv.create("dist_sync")
kv.set_optimizer(mx.optimizer.create("lamb", learning_rate=0.5))
kv.init("w", nd.zeros((3000,)))
for step in range(3):
    kv.push("w", nd.ones((3000,)) * (kv.rank + 1))
    out = nd.zeros((3000,))
    kv.pull("w", out)
local = mx.kv.create("local")
local.set_optimizer(mx.optimizer.create("lamb", learning_rate=0.5))
local.init("w", nd.zeros((3000,)))
for step in range(3):
    local.push("w", [nd.ones((3000,), mx.cpu(i)) * (i + 1) for i in range(2)])
want = nd.zeros((3000,))
local.pull("w", want)
print(kv.rank, kv.num_workers, out.asnumpy().tobytes() == want.asnumpy().tobytes(), flush=True)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(script: str, base: Path, role: str, port: int, **more: str) -> subprocess.Popen[str]:
    said = {
        "DMLC_ROLE": role,
        "DMLC_PS_ROOT_URI": "127.0.0.1",
        "DMLC_PS_ROOT_PORT": str(port),
        "DMLC_NUM_WORKER": "2",
        "DMLC_NUM_SERVER": "2",
    }
    env = environment(base, **{**said, **more})
    return subprocess.Popen(
        [sys.executable, script],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_users_script_starts_every_role(tmp_path: Path, run_base: Path) -> None:
    script = write(tmp_path, SCRIPT)
    port = free_port()
    roles = ["worker", "server", "scheduler", "worker", "server"]
    processes = [start(script, run_base, role, port) for role in roles]
    done = [process.communicate(timeout=60) for process in processes]
    assert [p.returncode for p in processes] == [0] * 5, done
    said = sorted(out for (out, _), role in zip(done, roles, strict=True) if role == "worker")
    assert said == ["0 2 True\n", "1 2 True\n"], done
    assert "the job has finished" in done[2][1]
    left = [p.name for p in run_base.rglob("*") if p.is_file()]
    assert left == ["loopback.token"]


def test_a_role_that_cannot_start_says_what_to_do(tmp_path: Path, run_base: Path) -> None:
    script = write(tmp_path, "raise SystemExit('not reached')")
    elsewhere = start(script, run_base, "server", 9000, DMLC_PS_ROOT_URI="203.0.113.7")
    half = start(script, run_base, "scheduler", 9000, DMLC_NUM_WORKER="")
    for process, text in ((elsewhere, "KVTRAIN_INSECURE=1"), (half, "DMLC_NUM_WORKER is not set")):
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1 and "not reached" not in said
        assert text in said, said


def test_a_script_for_mxnet_under_our_launcher(tmp_path: Path, run_base: Path) -> None:
    script = tmp_path / "theirs.py"
    script.write_text(
        "import mxnet as mx\n"
        "kv = mx.kvstore.create('dist_sync')\n"
        "kv.init(3, mx.nd.ones((2,)))\n"
        "kv.push(3, mx.nd.ones((2,)) * (kv.rank + 1))\n"
        "out = mx.nd.zeros((2,))\n"
        "kv.pull(3, out=out)\n"
        "print(mx.__version__, out.asnumpy().tolist(), flush=True)\n"
    )
    command = [sys.executable, "-m", "kvtrain", "run", "--as-mxnet", str(script)]
    done = launch(run_base, "-n", "2", *command)
    assert done.code == 0, done.err
    for rank in range(2):
        assert done.lines(f"worker-{rank}") == ["1.9.1 [3.0, 3.0]"], done.out

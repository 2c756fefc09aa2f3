# SPDX-License-Identifier: Apache-2.0
"""Bad input and lost processes: one clear error each, no hang, nothing left behind."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.jobs import ROOT, Result, environment, launch, left_over, write

pytestmark = pytest.mark.integration


def run(run_base: Path, tmp_path: Path, text: str, *options: str, **env: str) -> Result:
    options = options or ("-n", "2")
    result = launch(run_base, *options, write(tmp_path, text), timeout=50, **env)
    assert left_over(run_base) == []
    return result


KV = "kv = mx.kv.create('dist_sync')\nkv.init('w', nd.zeros((2, 3)))\n"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (KV + "kv.push('v', nd.zeros((2, 3)))", "KeyNotInitialized: push of key 'v'"),
        (KV + "kv.pull('v', nd.zeros((2, 3)))", "KeyNotInitialized: pull of key 'v'"),
        (KV + "kv.push('w', nd.zeros((3, 2)))", "KeyMismatch: push of key 'w' by worker-"),
        (KV + "kv.push('w', nd.zeros((2, 3), dtype='float64'))", "dtype float64; the key has"),
        (KV + "kv.init('w', nd.zeros((2, 3)))", "KeyAlreadyInitialized: key 'w' of store 0"),
        (
            "kv = mx.kv.create('dist_sync')\nkv.init('w', nd.zeros((2 + kv.rank,)))\nkv.barrier()",
            "KeyMismatch: key 'w' of store 0 was initialised with shape",
        ),
        (KV + "kv.push(3, nd.zeros((2, 3)))", "one store takes one kind"),
        (KV + "kv.set_updater(print)", "a function cannot travel to the servers"),
        ("mx.kv.create('dist_sinc')", "unknown kvstore type 'dist_sinc'; known: device, dist,"),
        (
            "kv = mx.kv.create('dist_async')\nkv.init('w', nd.zeros((2,)))\n"
            "kv.push('w', nd.zeros((2,)))\nkv.barrier()",
            "call kv.set_optimizer(...) before the first push",
        ),
        (
            KV + "kv.set_optimizer(mx.optimizer.SGD(learning_rate=1.0 + kv.rank))\nkv.barrier()",
            "the optimizers of store 0 differ",
        ),
    ],
    ids=range(11),
)
def test_misuse_of_a_store(run_base: Path, tmp_path: Path, text: str, error: str) -> None:
    result = run(run_base, tmp_path, text)
    assert result.code == 1
    assert error in result.err


def test_different_values_of_two_workers_are_legal(run_base: Path, tmp_path: Path) -> None:
    text = """
    kv = mx.kv.create("dist_sync")
    kv.init("w", nd.ones((2,)) * (kv.rank + 3))
    out = nd.zeros((2,))
    kv.pull("w", out)
    print(out.asnumpy().tolist())
    """
    result = run(run_base, tmp_path, text)
    assert result.code == 0, result.err
    assert result.lines("worker-1") == ["[3.0, 3.0]"]


def test_nan_is_named_by_worker_key_and_round(run_base: Path, tmp_path: Path) -> None:
    text = KV + (
        "kv.push('w', nd.ones((2, 3)))\nkv.tick()\nx = nd.ones((2, 3))\n"
        "if kv.rank == 1: x[1, 1] = float('nan')\nkv.push('w', x)\nkv.pull('w', x)\nx.asnumpy()"
    )
    result = run(run_base, tmp_path, text, KVTRAIN_CHECK_FINITE="1")
    assert result.code == 1
    found = "NonFiniteGradient: push of key 'w' by worker-1 in round (step 1, push 0): 1 of 6"
    assert found in result.err


def test_a_script_that_raises_on_one_rank(run_base: Path, tmp_path: Path) -> None:
    text = KV + "if kv.rank == 1: raise SystemError('my own trouble')\nkv.barrier()"
    result = run(run_base, tmp_path, text, "-n", "3")
    assert result.code == 1
    last = [x for x in result.err.splitlines() if x][-1]
    assert last == "worker-1  | SystemError: my own trouble"


def test_exit_code_of_the_first_failed_worker(run_base: Path, tmp_path: Path) -> None:
    text = KV + "import sys\nif kv.rank == 0: sys.exit(7)\nkv.barrier()"
    assert run(run_base, tmp_path, text).code == 7


def test_a_worker_that_is_killed(run_base: Path, tmp_path: Path) -> None:
    text = KV + "import os\nif kv.rank == 1: os.kill(os.getpid(), 9)\nkv.barrier()"
    result = run(run_base, tmp_path, text)
    assert result.code == 137
    assert "WorkerLost: lost worker-1 (host " in result.err
    assert "was killed by signal 9" in result.err


def test_a_server_that_is_killed(run_base: Path, tmp_path: Path) -> None:
    text = KV + (
        "import os, json, pathlib\n"
        "if kv.rank == 0:\n"
        "    import signal\n"
        "    run = pathlib.Path(os.environ['KVTRAIN_RUN_DIR'])\n"
        "    held = json.loads((run / 'job.json').read_text())\n"
        "    for p in held['processes']:\n"
        "        if p['role'] == 'server': os.kill(p['pid'], signal.SIGKILL)\n"
        "kv.barrier()\nkv.push('w', nd.ones((2, 3)))\nkv.pull('w', nd.zeros((2, 3)))\nkv.barrier()"
    )
    result = run(run_base, tmp_path, text, "-n", "2", "-s", "1")
    assert result.code != 0
    assert "ServerLost: lost server-0" in result.err
    assert "there are no replicas" in result.err


def test_a_worker_that_never_joins(run_base: Path, tmp_path: Path) -> None:
    text = """
    import os, signal
    if os.environ["KVTRAIN_RANK"] == "1":
        signal.pause()
    mx.kv.create("dist_sync")
    """
    result = run(run_base, tmp_path, text, "-n", "2", "--join-timeout", "2")
    assert result.code != 0
    assert "worker-1 (host " in result.err
    assert "never said Hello" in result.err


def test_a_round_that_waits_too_long(run_base: Path, tmp_path: Path) -> None:
    text = KV + (
        "import signal\nif kv.rank == 1: signal.pause()\nkv.push('w', nd.ones((2, 3)))\n"
        "x = nd.zeros((2, 3))\nkv.pull('w', x)\nx.asnumpy()"
    )
    result = run(run_base, tmp_path, text, "-n", "2", "--round-timeout", "2")
    assert result.code != 0
    assert "DeadlineExceeded" in result.err
    assert "worker-1 (host " in result.err
    assert "key 'w'" in result.err


def test_a_worker_that_skips_a_round(run_base: Path, tmp_path: Path) -> None:
    text = KV + (
        "kv.init('v', nd.zeros((2,)))\n"
        "if kv.rank == 0: kv.push('w', nd.ones((2, 3)))\n"
        "kv.tick()\nkv.push('w', nd.ones((2, 3)))\nx = nd.zeros((2, 3))\n"
        "kv.pull('w', x)\nx.asnumpy()"
    )
    result = run(run_base, tmp_path, text)
    assert result.code == 1
    assert "OutOfStep" in result.err


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("-n", "0", "x.py"), "-n 0: at least 1 workers"),
        (("-n", "2", "not_there.py"), "there is no script 'not_there.py'"),
        (("-n", "2", "not-a-command"), "there is no command 'not-a-command'"),
        (("-n", "2"), "no script was given"),
        (("-s", "0", "x.py"), "-s 0: at least 1 servers"),
        (("--host", "0.0.0.0", "examples/kvstore_basics.py"), "--insecure"),
        (("--transport", "rdma", "x.py"), "'rdma' is not one of"),
        (("--port", "70000", "x.py"), "a port is a number"),
        (("--env", "=3", "examples/kvstore_basics.py"), "expected NAME=VALUE"),
    ],
    ids=range(9),
)
def test_bad_options_are_one_line(run_base: Path, options: tuple[str, ...], error: str) -> None:
    result = launch(run_base, *options)
    assert result.code == 2
    assert error in result.err
    assert "Traceback" not in result.err


def test_a_port_in_use(run_base: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = str(held.getsockname()[1])
        result = launch(run_base, "-n", "1", "--port", port, "examples/kvstore_basics.py")
    assert result.code != 0
    assert f"tcp://127.0.0.1:{port}: the port is already in use" in result.err
    assert "Traceback" not in result.err
    assert left_over(run_base) == []


def test_dist_sync_outside_a_job_says_how_to_launch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import kvtrain as mx; mx.kv.create('dist_sync')"],
        capture_output=True,
        text=True,
        env=environment(Path("/tmp")),
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 1
    assert "kvtrain launch -n 4 script.py" in done.stderr


def test_the_limit_of_a_servers_memory(run_base: Path, tmp_path: Path) -> None:
    text = (
        "kv = mx.kv.create('dist_sync')\n"
        "kv.init('w', nd.zeros((250_000,)))\n"
        "kv.set_optimizer(mx.optimizer.SGD(learning_rate=0.1, momentum=0.9))\n"
        "for i in range(5):\n"
        "    kv.push('w', nd.ones((250_000,)))\n"
        "x = nd.zeros((250_000,))\n"
        "kv.pull('w', x)\n"
        "x.wait_to_read()\n"
        "kv.barrier()\n"
        "[s] = kv.stats()\n"
        "if kv.rank == 0: print(*(s['memory_' + k] for k in ('weights', 'state', 'contributions',"
        " 'limit')), s['memory_most'] <= 2_000_000 + 2 * 1_000_000)\n"
        "kv.barrier()\n"
        "kv.init('v', nd.zeros((400_000,)))\n"
    )
    script = write(tmp_path, text)
    limited = ("-n", "2", "-s", "1", "--transport", "ipc", "--server-memory", "4M")
    result = launch(run_base, *limited, script)
    assert result.code == 1
    assert result.lines("worker-0") == [f"1000000 1000000 0 {4 << 20} True"]
    assert "ServerMemoryExceeded: server-0: with a new key it needs 5,200,000 bytes" in result.err
    assert "raise --server-memory or start more servers" in result.err
    for memory, error in (("1500K", "the optimizer's state"), ("500K", "a new key")):
        limited = ("-n", "1", "-s", "1", "--server-memory", memory)
        assert error in launch(run_base, *limited, script).err

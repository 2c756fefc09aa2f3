# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C, signals and kills at any moment: nothing stays behind. Strangers on the port."""

import json
import os
import random
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from kvtrain._version import __version__
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.membership import NodeId, Role
from kvtrain.ps.net import codec
from kvtrain.testing import fuzz
from tests.integration.jobs import ROOT, environment, left_over, write

pytestmark = pytest.mark.integration
LOOP = """
kv = mx.kv.create("dist_sync")
kv.init(1, nd.zeros((50000,)))
out = nd.zeros((50000,))
print("ready")
while True:
    kv.push(1, nd.ones((50000,)))
    kv.pull(1, out)
    out.wait_to_read()
    kv.tick()
"""


def start(run_base: Path, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "kvtrain", "launch", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(run_base, **env),
        cwd=ROOT,
        # a shell that runs the tests in the background has it ignored, and so would the job
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_until_gone(run_base: Path, seconds: float) -> list[str]:
    """What is left after at most so many seconds."""
    end = time.monotonic() + seconds
    while (left := left_over(run_base)) and time.monotonic() < end:
        selectors.DefaultSelector().select(0.05)
    return left


@contextmanager
def ready(process: subprocess.Popen[bytes], text: bytes = b"ready") -> Iterator[bytes]:
    """Wait until the job prints `text`."""
    assert process.stdout is not None
    seen = b""
    while text not in seen:
        line = process.stdout.readline()
        assert line, process.stderr.read() if process.stderr else ""
        seen += line
    try:
        yield seen
    finally:
        process.kill()
        process.communicate()


def test_ctrl_c_at_random_moments_leaves_nothing(run_base: Path, tmp_path: Path) -> None:
    script = write(tmp_path, LOOP)
    rng = random.Random(1)
    for i in range(50):
        process = start(run_base, "-n", "2", script)
        # a pause that is part of what is tested: the moment of the signal
        selectors.DefaultSelector().select(rng.uniform(0.0, 1.2))
        process.send_signal(signal.SIGINT if i % 5 else signal.SIGTERM)
        began = time.monotonic()
        try:
            _, error = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        assert time.monotonic() - began < 6
        # Python itself ends with 1 where the signal comes before its own start is done
        ended = process.returncode in (130, 143, -2, -15) or b"import_site" in error
        assert ended, (process.returncode, error.decode())
        assert wait_until_gone(run_base, 3) == [], f"round {i}"


@pytest.mark.parametrize("transport", ["shm", "ipc", "tcp"])
def test_a_killed_launcher_takes_its_children_with_it(
    run_base: Path, tmp_path: Path, transport: str
) -> None:
    before = set(os.listdir("/dev/shm"))
    process = start(run_base, "-n", "2", "--transport", transport, write(tmp_path, LOOP))
    with ready(process):
        assert len(left_over(run_base)) > 4
        process.kill()
        process.wait()
        assert wait_until_gone(run_base, 15) == []
    assert set(os.listdir("/dev/shm")) <= before


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.15, 0.3, 0.5])
def test_a_launcher_killed_while_it_starts(run_base: Path, tmp_path: Path, moment: float) -> None:
    process = start(run_base, "-n", "3", write(tmp_path, LOOP))
    selectors.DefaultSelector().select(moment)
    process.kill()
    process.communicate()
    left = [x for x in wait_until_gone(run_base, 15) if "launch" not in x]
    processes = [x for x in left if not x.startswith(str(run_base))]
    assert processes == []
    # a directory may be left if not even the scheduler ran yet: the next command sweeps it
    env = environment(run_base)
    subprocess.run([sys.executable, "-m", "kvtrain", "ps"], env=env, check=True, cwd=ROOT)


def test_stop_and_status_of_a_running_job(run_base: Path, tmp_path: Path) -> None:
    process = start(run_base, "-n", "2", "--name", "mine", write(tmp_path, LOOP))
    command = [sys.executable, "-m", "kvtrain"]
    env = environment(run_base)

    def kvtrain(*arguments: str) -> str:
        return subprocess.run(
            [*command, *arguments], env=env, check=True, capture_output=True, text=True, cwd=ROOT
        ).stdout

    with ready(process):
        assert "mine  pid" in kvtrain("ps")
        shown = kvtrain("status", "mine")
        assert shown.count("running") == 5, shown  # the job itself, and its four processes
        assert re.search(r"worker-1 +running +host \S+, pid \d+, last seen \d", shown)
        told = json.loads(kvtrain("status", "mine", "--json"))
        while not all(node["last"] for node in told["nodes"] if node["role"] == "worker"):
            told = json.loads(kvtrain("status", "mine", "--json"))  # by its next heartbeat
        assert told["phase"] == "running" and len(told["nodes"]) == 3
        assert all(node["last_seen"] < 30 and node["host"] for node in told["nodes"])
        assert "key '1'" in next(n for n in told["nodes"] if n["role"] == "worker")["last"]
        assert [job["job"] for job in json.loads(kvtrain("ps", "--json"))] == ["mine"]
        assert kvtrain("logs", "mine").count("| ready") == 2
        assert kvtrain("logs", "mine", "worker-1", "-n", "1") == "ready\n"
        taken = start(run_base, "-n", "1", "--name", "mine", "examples/kvstore_basics.py")
        assert b"a job named 'mine' is running" in taken.communicate()[1]
        assert taken.returncode == 2
        kvtrain("stop", "mine")
        process.wait(timeout=10)
        assert process.returncode == 143
    assert wait_until_gone(run_base, 3) == []


def test_a_worker_that_holds_the_interpreter_is_not_dead(run_base: Path, tmp_path: Path) -> None:
    text = """
    import time
    kv = mx.kv.create("dist_sync")
    kv.barrier()
    if kv.rank == 1:
        sum(range(60_000_000))  # no thread of this process gets to run for a while
    kv.barrier()
    print("ready")
    """
    process = start(run_base, "-n", "2", write(tmp_path, text))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.count(b"ready") == 2


def _tcp_job(run_base: Path, tmp_path: Path) -> tuple[subprocess.Popen[bytes], str]:
    text = """
    import os, sys
    print("scheduler", os.environ["KVTRAIN_SCHEDULER"])
    kv = mx.kv.create("dist_sync")
    kv.init(1, nd.zeros((4,)))
    print("ready")
    sys.stdout.flush()
    import pathlib, select
    go = pathlib.Path(sys.argv[1])
    while not go.exists():
        select.select([], [], [], 0.05)
    kv.push(1, nd.ones((4,)) * (kv.rank + 1))
    out = nd.zeros((4,))
    kv.pull(1, out)
    print("sum", out.asnumpy().tolist())
    """
    script = write(tmp_path, text)
    process = start(run_base, "-n", "2", "--transport", "tcp", script, str(tmp_path / "go"))
    return process, script


def test_strangers_on_the_port_are_noted_and_do_no_harm(run_base: Path, tmp_path: Path) -> None:
    process, _ = _tcp_job(run_base, tmp_path)
    with ready(process) as seen:
        address = re.search(rb"tcp://([0-9.]+):([0-9]+)", seen)
        assert address
        scheduler = (address.group(1).decode(), int(address.group(2)))
        server = _server_port(run_base)
        for port in (scheduler, ("127.0.0.1", server)):
            for junk in (b"GET / HTTP/1.0\r\n\r\n", os.urandom(4000), b"\xff" + bytes(63)):
                with socket.create_connection(port) as stranger:
                    stranger.sendall(junk)
        # a process of this protocol that does not know the token is told so
        context = zmq.Context()
        dealer = context.socket(zmq.DEALER)
        dealer.connect("tcp://{}:{}".format(*scheduler))
        hello = m.Hello(
            role=Role.WORKER,
            rank=0,
            version=__version__,
            host="h",
            pid=1,
            launch_token="x",
        )
        mine = bytes(32)
        dealer.send_multipart(codec.encode(hello, NodeId(Role.WORKER, -1, 5), mine))
        dealer.send_multipart([b"junk"] * 3)
        assert dealer.poll(10_000)
        _, refused = codec.decode(dealer.recv_multipart(), mine)
        assert isinstance(refused, m.Refused) and "token is wrong" in refused.reason
        dealer.close(0)
        context.term()
        (tmp_path / "go").touch()
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert out.count(b"sum [3.0, 3.0, 3.0, 3.0]") == 2
        assert b"got a message it does not take" in err
        assert b"the job token is wrong" in err


def _flood(address: str, frames: list[list[bytes]], last: m.Message, token: bytes) -> m.Message:
    """Send everything, and wait for the answer to a good message behind it."""
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.set(zmq.SNDHWM, 0)
    dealer.connect(address)
    try:
        for damaged in frames:
            dealer.send_multipart(damaged)
        dealer.send_multipart(codec.encode(last, NodeId(Role.WORKER, 91, 7), token))
        while dealer.poll(20_000):
            try:
                _, message = codec.decode(dealer.recv_multipart(), token)
            except codec.WrongToken:
                continue  # a refusal, signed with the token that was claimed
            if message.request == last.request:
                return message
    finally:
        dealer.close(0)
        context.term()
    raise AssertionError("no answer")


def test_damaged_messages_at_live_ports_do_no_harm(run_base: Path, tmp_path: Path) -> None:
    """With another token and with the right one, from a process that is no member."""
    process, _ = _tcp_job(run_base, tmp_path)
    with ready(process) as seen:
        address = re.search(rb"(tcp://[0-9.]+:[0-9]+)", seen)
        assert address
        token = bytes.fromhex(next(run_base.rglob("token")).read_text())
        scheduler, server = address.group(1).decode(), f"tcp://127.0.0.1:{_server_port(run_base)}"
        for seed, used in enumerate((bytes(32), token)):
            mutator = fuzz.Mutator(seed, token=used, rank=90)
            damaged = [f for f in (mutator.frames() for _ in range(3000)) if f]
            reply = _flood(scheduler, damaged, m.StatusRequest(request=987654321), token)
            assert isinstance(reply, m.StatusReply) and reply.state["phase"] == "running"
            reply = _flood(server, damaged, m.StatsRequest(request=987654321), token)
            assert isinstance(reply, m.ErrorReply) and reply.name == "WorkerLost"
        (tmp_path / "go").touch()
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert out.count(b"sum [3.0, 3.0, 3.0, 3.0]") == 2


def _server_port(run_base: Path) -> int:
    """Where a server of the job listens, from the kernel's table of sockets."""
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
            mine = f"XDG_RUNTIME_DIR={run_base}".encode() in (process / "environ").read_bytes()
        except OSError:
            continue
        if b"server" not in command or not mine:
            continue
        inodes = set()
        for fd in (process / "fd").iterdir():
            try:
                target = os.readlink(fd)
            except OSError:
                continue
            if target.startswith("socket:"):
                inodes.add(target[8:-1])
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                return int(fields[1].split(":")[1], 16)
    raise AssertionError("no server is listening")

# SPDX-License-Identifier: Apache-2.0
"""The launcher's pure parts, and what its command line says."""

import io
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kvtrain.errors import ConfigError
from launcher import spec
from launcher.output import Output, Stream
from launcher.plan import Place, count, plan, scheduler_address
from launcher.spec import JobSpec
from launcher.supervisor import (
    GRACE,
    SETTLE,
    Exited,
    Finish,
    Interrupted,
    Print,
    Signal,
    Started,
    Supervisor,
    Tell,
    Tick,
    Told,
)

ROOT = Path(__file__).resolve().parents[2]
PLACE = Place("job", "/run/job", "/run/job/token", tuple("abcdefghij"), 8, False, frozenset())


def job(**fields: object) -> JobSpec:
    return JobSpec(command=("examples/kvstore_basics.py", "--x"), **fields)


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_the_number_of_servers() -> None:
    assert [job(workers=n).server_count for n in (1, 2, 3, 8)] == [1, 1, 2, 2]
    assert job(workers=8, servers=5).server_count == 5


def test_the_plan() -> None:
    made = job(workers=4, env=("A=b=c",), imports=("my_module",))
    assert scheduler_address(made, PLACE) == "ipc:///run/job/scheduler.sock"
    processes = plan(made, PLACE, "ipc:///x")
    assert [p.label for p in processes] == [
        "scheduler",
        "server-0",
        "server-1",
        "worker-0",
        "worker-1",
        "worker-2",
        "worker-3",
    ]
    assert len(processes) == count(made)
    assert len({p.token for p in processes}) == len(processes)
    worker = processes[-1]
    assert worker.argv[-3:] == ("--", "examples/kvstore_basics.py", "--x")
    assert worker.environment["KVTRAIN_RANK"] == "3"
    assert worker.environment["OMP_NUM_THREADS"] == "2"
    assert worker.environment["A"] == "b=c"
    assert "KVTRAIN_NUM_WORKERS" not in worker.environment
    given = Place(**{**_fields(PLACE), "given": frozenset({"OMP_NUM_THREADS"})})
    assert "OMP_NUM_THREADS" not in plan(made, given, "ipc:///x")[0].environment
    secret = [p for p in processes for a in p.argv if "token" in a]
    assert not secret, "no secret on a command line"


def _fields(place: Place) -> dict[str, object]:
    return {name: getattr(place, name) for name in place.__slots__}


def test_a_job_that_goes_well() -> None:
    s = Supervisor()
    for label, role in (("scheduler", "scheduler"), ("server-0", "server"), ("worker-0", "worker")):
        assert s.on(Started(label, role, 1), 0.0) == [Tell("started", label)]
    assert s.on(Exited("worker-0", 0), 1.0) == [Tell("exited", "worker-0", 0)]
    assert s.deadline == 1.0 + SETTLE
    s.on(Exited("server-0", 0), 1.1)
    assert s.on(Exited("scheduler", 0), 1.2)[-1] == Finish(0)


def test_the_first_failure_decides_the_code_and_ends_the_job() -> None:
    s = Supervisor()
    for label in ("scheduler", "worker-0", "worker-1"):
        s.on(Started(label, label.split("-")[0], 7), 0.0)
    s.on(Exited("worker-1", -9), 1.0)
    s.on(Told("failed", "WorkerLost: lost worker-1"), 1.0)
    assert s.on(Tick(), 1.0 + SETTLE) == [Signal("worker-0", signal.SIGTERM)]
    assert s.on(Tick(), 1.0 + SETTLE + GRACE) == [
        Signal("scheduler", signal.SIGKILL),
        Signal("worker-0", signal.SIGKILL),
    ]
    s.on(Exited("worker-0", 3), 5.0)
    finish = s.on(Exited("scheduler", -9), 5.0)[-1]
    assert isinstance(finish, Finish)
    assert (finish.code, finish.blame) == (137, "worker-1")
    assert "worker-1 (pid 7) was killed by signal 9 (SIGKILL); WorkerLost" in finish.reason


def test_interrupts() -> None:
    s = Supervisor()
    for label in ("scheduler", "worker-0"):
        s.on(Started(label, label.split("-")[0], 7), 0.0)
    first = s.on(Interrupted(signal.SIGINT), 1.0)
    assert [type(a) for a in first] == [Tell, Signal]
    assert s.on(Interrupted(signal.SIGINT), 1.1) == [
        Signal("scheduler", signal.SIGKILL),
        Signal("worker-0", signal.SIGKILL),
    ]
    s.on(Exited("scheduler", -9), 1.2)
    assert s.on(Exited("worker-0", -9), 1.2)[-1] == Finish(130, "", "stopped by SIGINT")
    assert Supervisor().on(Interrupted(signal.SIGTERM), 0.0)[-1].code == 143


def test_notes_are_printed() -> None:
    assert Supervisor().on(Told("note", "suspect"), 0.0) == [Print("suspect")]


def test_output_prefixes_keeps_tracebacks_and_survives_any_bytes(tmp_path: Path) -> None:
    target = io.StringIO()
    output = Output(9, False, tmp_path)
    stream = Stream(output, "worker-1", target, keep=True)
    for data in (b"hel", b"lo\nTraceback (most recent call last):\n  x\r\nVal", b"ueError: \xff\n"):
        stream.feed(data)
    stream.feed(b"50 %\r60 %\rlast")
    stream.close()
    output.close()
    assert target.getvalue().splitlines() == [
        "worker-1  | hello",
        "worker-1  | Traceback (most recent call last):",
        "worker-1  |   x",
        "worker-1  | ValueError: \ufffd",
        "worker-1  | last",
    ]
    assert output.traceback("worker-1")[0].startswith("Traceback")
    assert (tmp_path / "worker-1.log").read_text().count("\n") == 5


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda p: p.name)
def test_every_shipped_configuration_names_every_option(path: Path) -> None:
    held = spec.from_toml(str(path))
    text = path.read_text()
    for option in spec.options():
        assert option.name in text
    JobSpec(command=("examples/kvstore_basics.py",), **held)


def test_unknown_keys_are_refused(tmp_path: Path) -> None:
    for text, error in (
        ("[job]\nworker = 3", r"unknown key job.worker; known: .*workers"),
        ("[jobs]\nworkers = 3", r"unknown table \[jobs\]"),
        ("workers =", "--config"),
    ):
        (tmp_path / "c.toml").write_text(text)
        with pytest.raises(ConfigError, match=error):
            spec.from_toml(str(tmp_path / "c.toml"))


def test_help_and_version_load_no_numpy() -> None:
    code = (
        "import sys\n"
        "from launcher.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'numpy', 'zmq', 'msgpack'} & set(sys.modules), 'heavy imports'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "launch" in done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "kvtrain", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("kvtrain, version 0.1.0")
    done = subprocess.run(
        [sys.executable, "-m", "kvtrain", "doctor"], capture_output=True, text=True, check=True
    )
    assert "numpy" in done.stdout

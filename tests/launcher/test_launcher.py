# SPDX-License-Identifier: Apache-2.0
"""The launcher's pure parts, and what its command line says."""

import io
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kvtrain.errors import ConfigError
from launcher import rundir, spec
from launcher.job import History
from launcher.logs import LogDirectory, follow, labels, tail
from launcher.output import Output, Stream
from launcher.plan import Place, count, plan, process, scheduler_address
from launcher.spec import JobSpec
from launcher.supervisor import (
    GRACE,
    PATIENCE,
    SETTLE,
    SOON,
    Action,
    Exited,
    Finish,
    Interrupted,
    Policy,
    Print,
    Signal,
    Start,
    Started,
    Supervisor,
    Tell,
    Tick,
    Told,
    Wanted,
)

ROOT = Path(__file__).resolve().parents[2]
TOKENS = tuple("abcdefg")
PLACE = Place("job", "/run/job", "/run/job/token", TOKENS, 8, False, frozenset(), "1d")


def job(**fields: object) -> JobSpec:
    return JobSpec(command=("examples/kvstore_basics.py", "--x"), **fields)


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_the_number_of_servers() -> None:
    assert [job(workers=n).server_count for n in (1, 2, 3, 8)] == [1, 1, 2, 2]
    assert job(workers=8, servers=5).server_count == 5
    assert [job(replicas=n).server_count for n in (0, 1, 2)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"servers": 2, "replicas": 2}, "-s 2: --replicas 2 needs at least 3 servers"),
        ({"replicas": -1}, "--replicas -1"),
        ({"on_worker_loss": "ignore"}, "known are abort, shrink, restart"),
        ({"checkpoint_every": "10"}, "needs --checkpoint-dir"),
        ({"checkpoint_every": "often", "checkpoint_dir": "d"}, "a number of rounds"),
        ({"checkpoint_every": "0", "checkpoint_dir": "d"}, "a number of rounds"),
        ({"checkpoint_every": "1.5", "checkpoint_dir": "d"}, "a number of rounds"),
        ({"checkpoint_keep": 0}, "--checkpoint-keep 0"),
        ({"resume": "not/there"}, "there is no such directory"),
        ({"server_memory": "much"}, "bytes, or 500M, 8G"),
    ],
    ids=range(10),
)
def test_options_for_faults_are_checked(fields: dict[str, object], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        job(**fields)


def test_intervals_and_sizes() -> None:
    read = [spec.interval(t) for t in (None, "100", "30s", "0.5s", "5m", "1h")]
    assert read == [(0, 0), (100, 0), (0, 30), (0, 0.5), (0, 300), (0, 3600)]
    assert [spec.memory(t) for t in (None, "17", "2K", "500M", "8GB")] == [
        0,
        17,
        2048,
        500 << 20,
        8 << 30,
    ]


def test_what_the_scheduler_is_told(tmp_path: Path) -> None:
    made = job(
        replicas=1,
        on_worker_loss="restart",
        resume=str(tmp_path),
        checkpoint_every="20",
        checkpoint_keep=7,
        server_memory="1G",
    )
    given = Place(**{**_fields(PLACE), "tokens": tuple("abcd")})
    told = plan(made, given, "ipc:///x")[0].environment
    assert told["KVTRAIN_REPLICAS"] == "1" and told["KVTRAIN_ON_WORKER_LOSS"] == "restart"
    assert told["KVTRAIN_RESUME"] == told["KVTRAIN_CHECKPOINT_DIR"] == str(tmp_path)
    assert told["KVTRAIN_CHECKPOINT_ROUNDS"] == "20" and told["KVTRAIN_CHECKPOINT_KEEP"] == "7"
    assert "KVTRAIN_CHECKPOINT_SECONDS" not in told
    assert told["KVTRAIN_SERVER_MEMORY"] == str(1 << 30) and told["KVTRAIN_JOB_ID"] == "1d"
    assert told["KVTRAIN_INCARNATION"] == "1"
    again = process(made, given, "ipc:///x", "scheduler", 0, "z", incarnation=3)
    assert again.environment["KVTRAIN_INCARNATION"] == "3" and again.token == "z"
    alone = plan(job(checkpoint_dir="c"), Place(**{**_fields(PLACE), "tokens": tuple("abc")}), "x")
    assert float(alone[0].environment["KVTRAIN_CHECKPOINT_SECONDS"]) == 600


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
    assert s.deadline == 1.0 + PATIENCE and not s.ending
    s.on(Told("finished"), 1.05)
    assert s.deadline == 1.05 + SETTLE
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


def running(policy: Policy) -> Supervisor:
    s = Supervisor(policy)
    for label in ("scheduler", "server-0", "server-1", "worker-0", "worker-1"):
        s.on(Started(label, label.split("-")[0], 7), 0.0)
    return s


SURVIVES = Policy(replicas=1, on_worker_loss="restart")


def starts(actions: list[Action]) -> list[str]:
    return [action.label for action in actions if isinstance(action, Start)]


@pytest.mark.parametrize("label", ["server-1", "worker-0"])
def test_a_loss_that_is_survived_is_the_schedulers_to_decide(label: str) -> None:
    s = running(SURVIVES)
    assert s.on(Exited(label, -9), 1.0)[0] == Tell("exited", label, -9)
    assert s.deadline is None and not s.ending
    assert s.on(Wanted(label), 1.0) == [Start(label)]
    s.on(Started(label, label.split("-")[0], 8), 1.1)
    for other in ("worker-0", "worker-1"):
        s.on(Exited(other, 0), 2.0)
    s.on(Told("finished"), 2.0)
    assert s.deadline == 2.0 + SETTLE
    for other in ("server-0", "server-1"):
        s.on(Exited(other, 0), 2.1)
    assert s.on(Exited("scheduler", 0), 2.2)[-1] == Finish(0)


def test_a_scheduler_that_says_nothing_is_not_waited_for_for_ever() -> None:
    s = running(Policy())
    for label in ("worker-0", "worker-1"):
        s.on(Exited(label, 0), 1.0)
    assert s.on(Tick(), PATIENCE) == []
    s.on(Tick(), 1.0 + PATIENCE)
    assert s.deadline == 1.0 + PATIENCE + SETTLE


def test_a_zombie_is_killed_before_its_successor_starts() -> None:
    s = running(SURVIVES)
    assert s.on(Wanted("server-0"), 1.0) == [Signal("server-0", signal.SIGKILL)]
    assert s.on(Exited("server-0", -9), 1.1) == [Tell("exited", "server-0", -9), Start("server-0")]


def test_the_scheduler_is_started_again_without_being_asked_for() -> None:
    s = running(Policy())
    assert starts(s.on(Exited("scheduler", -9), 1.0)) == ["scheduler"]
    s.on(Started("scheduler", "scheduler", 8), 1.1)
    # not if it had told its verdict, nor at the end
    s.on(Told("failed", "no"), 2.0)
    assert starts(s.on(Exited("scheduler", 1), 2.0)) == []
    ended = running(Policy())
    for label in ("worker-0", "worker-1"):
        ended.on(Exited(label, 0), 1.0)
    ended.on(Told("finished"), 1.0)
    assert starts(ended.on(Exited("scheduler", -9), 1.1)) == []
    for label in ("server-0", "server-1"):
        last = ended.on(Exited(label, 0), 1.2)
    assert last[-1] == Finish(0)


def test_what_fails_by_itself_again_and_again_ends_the_job() -> None:
    s = running(SURVIVES)
    for n in (1, 2):
        s.on(Exited("worker-0", 3), float(n))
        assert s.on(Wanted("worker-0"), float(n)) == [Start("worker-0")]
        s.on(Started("worker-0", "worker", 8), float(n))
    s.on(Exited("worker-0", 3), 3.0)
    assert s.ending and s.on(Wanted("worker-0"), 3.0) == []
    # kills, and failures after a while, do not count
    s = running(SURVIVES)
    for n, status in enumerate((-9, -9, -9, 1, 1, 1)):
        s.on(Exited("worker-0", status), 20.0 * n + (SOON if status == 1 else 1))
        assert starts(s.on(Wanted("worker-0"), 20.0 * n + 10)) == ["worker-0"]
        s.on(Started("worker-0", "worker", 8), 20.0 * n + 10)


def test_a_survived_loss_explains_a_later_verdict() -> None:
    s = running(SURVIVES)
    s.on(Exited("worker-0", 3), 1.0)
    s.on(Told("failed", "ConfigError: the script never ends a step"), 1.1)
    for label in ("server-0", "server-1", "worker-1"):
        s.on(Exited(label, 0), 1.2)
    finish = s.on(Exited("scheduler", 1), 1.3)[-1]
    assert finish == Finish(3, "worker-0", "ConfigError: the script never ends a step")


def test_what_a_new_scheduler_is_told() -> None:
    history = History()
    processes = plan(job(workers=2), Place(**{**_fields(PLACE), "tokens": tuple("abcd")}), "x")
    for made in processes:
        history.add("started", made, b"started " + made.label.encode())
    history.add("exited", processes[1], b"exited server-0")
    assert history.lines() == [
        b"started server-0",
        b"exited server-0",
        b"started worker-0",
        b"started worker-1",
    ]


def test_logs_are_bounded_and_can_be_followed(tmp_path: Path) -> None:
    path = tmp_path / "job" / "logs"
    log = LogDirectory(path, limit=100)
    for n in range(35):
        log.write("worker-0", f"line {n:04d}")
    log.write("server-0", "x")
    assert labels(path) == ["server-0", "worker-0"]
    kept = tail(path, "worker-0", None)
    assert kept[-1] == "line 0034" and 10 <= len(kept) < 35
    assert tail(path, "worker-0", 2) == ["line 0033", "line 0034"]
    with pytest.raises(ConfigError, match="no log of 'worker-7'; there are: server-0, worker-0"):
        tail(path, "worker-7", 2)
    timer = threading.Timer(0.05, log.write, ("worker-0", "more"))
    timer.start()
    seen = next(follow(path, ["worker-0"], seconds=0.001))
    timer.join()
    log.close()
    assert seen == ("worker-0", "more")


def test_notes_are_printed() -> None:
    assert Supervisor().on(Told("note", "suspect"), 0.0) == [Print("suspect")]


def test_output_prefixes_keeps_tracebacks_and_survives_any_bytes(tmp_path: Path) -> None:
    target = io.StringIO()
    output = Output(9, False, LogDirectory(tmp_path))
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


def test_the_token_of_a_job_is_found_by_its_address(run_base: Path) -> None:
    path = rundir.create("mine", "x.py")
    rundir.describe(path, address="tcp://127.0.0.1:7")
    token = rundir.mint_token(path)
    assert rundir.token_of("tcp://127.0.0.1:7") == token
    assert rundir.token_of("tcp://127.0.0.1:8") is None
    with pytest.raises(ConfigError, match="a job named 'mine' is running"):
        rundir.create("mine", "x.py")
    rundir.remove(path)


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

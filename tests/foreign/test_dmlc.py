# SPDX-License-Identifier: Apache-2.0
"""What MXNet's own launchers say, and where a job of theirs may listen."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from kvtrain import platform
from kvtrain.config import Config, foreign_role, launched
from kvtrain.errors import ConfigError
from kvtrain.ps.net.foreign import listening_address, prepare, shared_token
from kvtrain.ps.net.token import read_token

JOB = {
    "DMLC_ROLE": "worker",
    "DMLC_PS_ROOT_URI": "127.0.0.1",
    "DMLC_PS_ROOT_PORT": "9000",
    "DMLC_NUM_WORKER": "4",
    "DMLC_NUM_SERVER": "2",
}
#: of a documentation network: nobody's address
ELSEWHERE = {**JOB, "DMLC_PS_ROOT_URI": "203.0.113.7"}


def test_what_the_environment_says() -> None:
    config = Config.from_environ(JOB)
    assert (config.role, config.num_workers, config.num_servers) == ("worker", 4, 2)
    assert config.scheduler == "tcp://127.0.0.1:9000" and config.foreign
    assert launched(JOB) and not launched({**JOB, "DMLC_ROLE": "server"})
    ours = Config.from_environ({**JOB, "KVTRAIN_SCHEDULER": "ipc:///x", "KVTRAIN_ROLE": "server"})
    assert (ours.scheduler, ours.role, ours.foreign) == ("ipc:///x", "server", False)
    assert Config.from_environ({**JOB, "DMLC_INTERFACE": "lo"}).interface == "lo"


@pytest.mark.parametrize(
    ("bound", "chunk"), [("1000000", 4_000_000), ("10", 4096), ("1000000000", 64 << 20)]
)
def test_the_bound_of_big_arrays_is_the_size_of_a_chunk(bound: str, chunk: int) -> None:
    environ = {**JOB, "MXNET_KVSTORE_BIGARRAY_BOUND": bound}
    assert Config.from_environ(environ).chunk_bytes == chunk
    environ["KVTRAIN_CHUNK_BYTES"] = "8192"
    assert Config.from_environ(environ).chunk_bytes == 8192


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"DMLC_ROLE": "boss"}, "DMLC_ROLE='boss': expected one of worker, server, scheduler"),
        ({"DMLC_ROLE": "server", "DMLC_PS_ROOT_URI": ""}, "DMLC_PS_ROOT_URI is not set"),
        ({"DMLC_ROLE": "scheduler", "DMLC_NUM_WORKER": ""}, "DMLC_NUM_WORKER is not set"),
    ],
)
def test_roles_and_what_they_need(change: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        foreign_role({**JOB, **change})


def test_which_processes_become_a_role() -> None:
    assert foreign_role({**JOB, "DMLC_ROLE": "server"}) == "server"
    assert foreign_role({**JOB, "DMLC_ROLE": "scheduler"}) == "scheduler"
    for change in ({}, {"DMLC_ROLE": ""}, {"DMLC_ROLE": "server", "KVTRAIN_ROLE": "server"}):
        assert foreign_role({**JOB, **change}) is None


@pytest.mark.parametrize("name", ["DMLC_PS_ROOT_PORT", "DMLC_NUM_WORKER"])
def test_numbers(name: str) -> None:
    for text in ("many", "70000") if name.endswith("PORT") else ("many",):
        with pytest.raises(ConfigError, match=name):
            Config.from_environ({**JOB, name: text})


def test_on_one_machine_processes_meet_on_loopback_with_a_token(run_base: Path) -> None:
    own = platform.resolve(socket.gethostname())
    for uri in ("127.0.0.1", "localhost", *([own] if platform.is_own_address(own) else [])):
        config = prepare(Config.from_environ({**JOB, "DMLC_PS_ROOT_URI": uri}))
        assert (config.scheduler, config.host) == ("tcp://127.0.0.1:9000", "127.0.0.1")
        assert listening_address(config) == "tcp://127.0.0.1:9000"
        token = read_token(config)
        assert len(token) == 32
    path = Path(config.token_file or "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and run_base in path.parents
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert read_token(prepare(Config.from_environ(JOB))) == token
    path.parent.chmod(0o755)
    with pytest.raises(ConfigError, match="mode 0700"):
        shared_token(path.parent)


def test_beyond_one_machine_only_when_allowed(run_base: Path) -> None:
    with pytest.raises(ConfigError, match=r"203\.0\.113\.7 is another machine.*KVTRAIN_INSECURE=1"):
        prepare(Config.from_environ(ELSEWHERE))
    allowed = {**ELSEWHERE, "KVTRAIN_INSECURE": "1"}
    config = prepare(Config.from_environ(allowed))
    assert config.scheduler == "tcp://203.0.113.7:9000"
    assert platform.is_own_address(config.host)
    assert listening_address(config) == "tcp://0.0.0.0:9000"
    assert read_token(config) and not list(run_base.iterdir())
    secret = run_base / "secret"
    secret.write_text("ab" * 20)
    with_secret = prepare(Config.from_environ({**allowed, "KVTRAIN_TOKEN_FILE": str(secret)}))
    assert read_token(with_secret) == bytes.fromhex("ab" * 20)
    named = prepare(Config.from_environ({**allowed, "DMLC_INTERFACE": "lo"}))
    assert named.host == (platform.interface_address("lo") or "127.0.0.1")
    with pytest.raises(ConfigError, match="DMLC_INTERFACE='nosuch0'"):
        prepare(Config.from_environ({**allowed, "DMLC_INTERFACE": "nosuch0"}))


def test_a_job_of_our_own_launcher_is_left_alone() -> None:
    config = Config(role="worker", scheduler="ipc:///x", token_file="t")
    assert prepare(config) is config

# SPDX-License-Identifier: Apache-2.0
"""The only file that reads the environment: one frozen :class:`Config`.

Holds KVTRAIN_* and the DMLC_* variables of MXNet's own launchers. Reading is done by
:meth:`Config.from_environ`; everybody else takes a Config.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from kvtrain import platform
from kvtrain.errors import ConfigError

ROLES = ("worker", "server", "scheduler")
TRANSPORTS = ("auto", "shm", "ipc", "tcp")
ON_WORKER_LOSS = ("abort", "shrink", "restart")


@dataclass(frozen=True, slots=True)
class Config:
    """What the environment says about this process. ``None``: not said."""

    #: worker, server or scheduler; None outside a job
    role: str | None = None
    #: rank wanted at join; None: the scheduler chooses
    rank: int | None = None
    #: name of the job
    job: str | None = None
    #: address of the scheduler: ``ipc:///path`` or ``tcp://host:port``
    scheduler: str | None = None
    #: file (mode 0600) that holds the job's token
    token_file: str | None = None
    #: random name that the launcher gave to this process
    launch_token: str | None = None
    #: file descriptor that closes when the launcher dies
    lifeline_fd: int | None = None
    #: "READ,WRITE" descriptors of the launcher's pipe (scheduler only)
    control_fds: str | None = None
    #: the job's run directory (sockets, journal)
    run_dir: str | None = None
    #: auto, shm, ipc or tcp
    transport: str = "auto"
    #: forces one kernel backend
    backend: str | None = None
    #: compute threads of this process
    num_threads: int | None = None
    #: refuse gradients that hold NaN or infinity
    check_finite: bool = False
    #: keep each core's event story
    trace: bool = False
    #: True/False forces allocator tuning on or off
    malloc: bool | None = None
    #: seconds until a join that is not complete fails
    join_timeout: float = 60.0
    #: seconds until a round or barrier with healthy members fails
    round_timeout: float = 3600.0
    #: seconds of silence after which a process counts as dead (scheduler only)
    dead_after: float = 60.0
    #: bytes of one chunk
    chunk_bytes: int = 1 << 20
    #: processes of the job (scheduler only)
    num_workers: int | None = None
    num_servers: int | None = None
    #: servers beside the primary that hold each shard (scheduler only)
    replicas: int = 0
    #: abort, shrink or restart (scheduler only)
    on_worker_loss: str = "abort"
    #: of this process; the launcher gives a restarted scheduler the next one
    incarnation: int | None = None
    #: random identity of the job, carried by its checkpoints
    job_id: str | None = None
    #: checkpoints: where, every so many rounds or seconds, how many stay, from where to go on
    checkpoint_dir: str | None = None
    checkpoint_rounds: int = 0
    checkpoint_seconds: float = 0.0
    checkpoint_keep: int = 3
    resume: str | None = None
    #: this worker goes on with weights that the servers have already
    resumed: bool = False
    #: most bytes of one server; 0: no limit
    server_memory: int = 0
    #: host that servers listen on with tcp
    host: str = "127.0.0.1"
    #: a launcher of MXNet's named the scheduler (DMLC_PS_ROOT_URI)
    foreign: bool = False
    #: network interface whose address servers announce (DMLC_INTERFACE)
    interface: str | None = None
    #: listen beyond this machine without encryption, and without a token if there is none
    insecure: bool = False
    #: where Trainers run the optimizer that do not say it (MXNET_UPDATE_ON_KVSTORE)
    update_on_kvstore: bool | None = None
    #: modules that servers import before they start, separated by commas
    imports: str | None = None
    #: the launcher's own output is a terminal
    tty: bool = False

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Config:
        """Read KVTRAIN_* (and DMLC_* where KVTRAIN_* says nothing) from `environ`.

        Raises
        ------
        ConfigError
            A variable holds a value that cannot be used; names it and what is allowed.
        """
        env = os.environ if environ is None else environ
        found: dict[str, Any] = {}
        for field in fields(cls):
            name = "KVTRAIN_" + field.name.upper()
            text = env.get(name, "")
            if text:
                found[field.name] = _parse(name, text, str(field.type))
        _from_dmlc(env, found)
        role = found.get("role")
        if role is not None and role not in ROLES:
            raise ConfigError(f"KVTRAIN_ROLE={role!r}: expected one of {', '.join(ROLES)}")
        if found.get("transport", "auto") not in TRANSPORTS:
            raise ConfigError(
                f"KVTRAIN_TRANSPORT={found['transport']!r}: expected one of {', '.join(TRANSPORTS)}"
            )
        loss = found.get("on_worker_loss", "abort")
        if loss not in ON_WORKER_LOSS:
            raise ConfigError(
                f"KVTRAIN_ON_WORKER_LOSS={loss!r}: expected one of {', '.join(ON_WORKER_LOSS)}"
            )
        if found.get("replicas", 0) < 0:
            raise ConfigError(f"KVTRAIN_REPLICAS={found['replicas']}: expected 0 or more")
        return cls(**found)


def _parse(name: str, text: str, kind: str) -> Any:
    try:
        if kind.startswith("int"):
            return int(text)
        if kind.startswith("float"):
            value = float(text)
            if not value > 0:
                raise ValueError
            return value
    except ValueError:
        wanted = "a whole number" if kind.startswith("int") else "a positive number"
        raise ConfigError(f"{name}={text!r}: expected {wanted}") from None
    if kind.startswith("bool"):
        if text.lower() not in ("0", "1", "true", "false", "yes", "no", "on", "off"):
            raise ConfigError(f"{name}={text!r}: expected 0 or 1")
        return text.lower() in ("1", "true", "yes", "on")
    return text


def _from_dmlc(env: Mapping[str, str], found: dict[str, Any]) -> None:
    """MXNet's own launchers name the role and the scheduler's address."""
    role = env.get("DMLC_ROLE")
    if role and "role" not in found:
        found["role"] = role
    for name, field in (("DMLC_NUM_WORKER", "num_workers"), ("DMLC_NUM_SERVER", "num_servers")):
        if env.get(name) and field not in found:
            found[field] = _parse(name, env[name], "int")
    if env.get("DMLC_INTERFACE") and "interface" not in found:
        found["interface"] = env["DMLC_INTERFACE"]
    name = "MXNET_UPDATE_ON_KVSTORE"
    if env.get(name) and "update_on_kvstore" not in found:
        found["update_on_kvstore"] = _parse(name, env[name], "bool")
    bound = env.get("MXNET_KVSTORE_BIGARRAY_BOUND")
    if bound and "chunk_bytes" not in found:
        elements = _parse("MXNET_KVSTORE_BIGARRAY_BOUND", bound, "int")
        found["chunk_bytes"] = min(max(4 * elements, _SMALLEST_CHUNK), _LARGEST_CHUNK)
    host, port = env.get("DMLC_PS_ROOT_URI"), env.get("DMLC_PS_ROOT_PORT")
    if host and port and "scheduler" not in found:
        if not 0 < _parse("DMLC_PS_ROOT_PORT", port, "int") < 65536:
            raise ConfigError(f"DMLC_PS_ROOT_PORT={port!r}: expected a port, 1 to 65535")
        found["scheduler"] = f"tcp://{host}:{port}"
        found["foreign"] = True


#: chunks of an array above MXNET_KVSTORE_BIGARRAY_BOUND: not so many that headers outweigh data
_SMALLEST_CHUNK, _LARGEST_CHUNK = 4 << 10, 64 << 20


def foreign_role(environ: Mapping[str, str] | None = None) -> str | None:
    """``server`` or ``scheduler`` if MXNet's own launcher started this process as that.

    Raises
    ------
    ConfigError
        The role is unknown, or where the scheduler is was not said.
    """
    env = os.environ if environ is None else environ
    role = env.get("DMLC_ROLE")
    if not role or env.get("KVTRAIN_ROLE") or role == "worker":
        return None
    if role not in ROLES:
        raise ConfigError(f"DMLC_ROLE={role!r}: expected one of {', '.join(ROLES)}")
    wanted = ["DMLC_PS_ROOT_URI", "DMLC_PS_ROOT_PORT"]
    if role == "scheduler":
        wanted += ["DMLC_NUM_WORKER", "DMLC_NUM_SERVER"]
    missing = [name for name in wanted if not env.get(name)]
    if missing:
        raise ConfigError(f"DMLC_ROLE={role}, but {', '.join(missing)} is not set")
    return role


def is_command() -> bool:
    """Whether this process is the ``kvtrain`` command and no user's script."""
    return "launcher" in sys.modules or sys.orig_argv[1:3] == ["-m", "kvtrain"]


def launched(environ: Mapping[str, str] | None = None) -> bool:
    """True inside a job: this process was started as a worker with a scheduler to join."""
    config = Config.from_environ(environ)
    return config.role == "worker" and config.scheduler is not None


def resumed(environ: Mapping[str, str] | None = None) -> bool:
    """True in a worker that goes on: after ``--resume``, started again, or joined later."""
    return launched(environ) and Config.from_environ(environ).resumed


def run_base(environ: Mapping[str, str] | None = None) -> Path:
    """Directory of this user's run directories: short enough for names of sockets."""
    import tempfile  # takes longer to import than all of this file; few processes ask

    env = os.environ if environ is None else environ
    base = Path(env.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    if not base.is_dir() or len(str(base)) > 50:
        base = Path("/tmp") if Path("/tmp").is_dir() else Path(tempfile.gettempdir())
    return base / f"kvtrain-{platform.user_id()}"


def cache_directory(environ: Mapping[str, str] | None = None) -> Path:
    """Where downloaded data and models are kept: MXNET_HOME, else ``~/.mxnet``."""
    env = os.environ if environ is None else environ
    return Path(env.get("MXNET_HOME") or Path.home() / ".mxnet")


def getenv(name: str) -> str | None:
    """An environment variable of this process; None if it is not set."""
    return os.environ.get(name)


def setenv(name: str, value: str | None) -> None:
    """Set an environment variable of this process, or remove it with None."""
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = str(value)


def on_terminal(environ: Mapping[str, str] | None = None) -> bool:
    """True where a progress bar makes sense: standard output, or the launcher's, is a terminal."""
    return Config.from_environ(environ).tty or sys.stdout.isatty()

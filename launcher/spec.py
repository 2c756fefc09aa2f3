# SPDX-License-Identifier: Apache-2.0
"""What a job is: every option once, with its default, help and check.

The command line and the keys of a TOML file are derived from the fields.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kvtrain.errors import ConfigError

TRANSPORTS = ("auto", "shm", "ipc", "tcp")
WORKER_LOSS = ("abort", "shrink", "restart")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def _option(default: Any, help: str, *flags: str, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"help": help, "flags": flags, "choices": choices})


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One job. Options are checked when the object is made."""

    #: script or command with its arguments
    command: tuple[str, ...] = ()
    workers: int = _option(1, "Number of workers.", "-n", "--workers")
    servers: int | None = _option(
        None,
        "Number of servers. Default: 1 for up to 2 workers, else 2; at least replicas + 1.",
        "-s",
        "--servers",
    )
    replicas: int = _option(0, "Backups of each shard: server losses that are survived.")
    on_worker_loss: str = _option(
        "abort",
        "What a lost worker means: the job ends, goes on without it, or it is started again.",
        choices=WORKER_LOSS,
    )
    transport: str = _option(
        "auto",
        "How processes talk: auto takes the first of shm, ipc, tcp that works.",
        choices=TRANSPORTS,
    )
    host: str = _option("127.0.0.1", "Address to listen at with tcp.", "--host", "--bind")
    port: int = _option(0, "Port of the scheduler with tcp; 0: any free one.")
    insecure: bool = _option(False, "Allow listening beyond this machine without encryption.")
    log_dir: str | None = _option(None, "Also write each process's output to a file here.")
    join_timeout: float = _option(60.0, "Seconds until a join that is not complete fails.")
    round_timeout: float = _option(3600.0, "Seconds until a waiting round or barrier fails.")
    checkpoint_dir: str | None = _option(None, "Directory for checkpoints of the job.")
    checkpoint_every: str | None = _option(
        None, "Rounds (100), or seconds, minutes, hours (30s, 5m, 1h) between two checkpoints."
    )
    checkpoint_keep: int = _option(3, "Checkpoints that are kept.")
    resume: str | None = _option(
        None, "Go on from the newest whole checkpoint in this directory, or from this one."
    )
    server_memory: str | None = _option(
        None,
        "Most memory of one server for weights, states and contributions (500M, 8G). In sync mode "
        "room for one gradient and a chunk is enough: it sums what it has early.",
    )
    name: str | None = _option(None, "Name of the job. Default: made from the script's.")
    chunk_bytes: int = _option(1 << 20, "Bytes of one chunk of a parameter.")
    imports: tuple[str, ...] = _option(
        (),
        "Module that servers import first (repeatable): makes an optimizer class known.",
        "--import",
        "imports",
    )
    env: tuple[str, ...] = _option((), "NAME=VALUE for every process (repeatable).")

    def __post_init__(self) -> None:
        if not self.command:
            raise ConfigError("no script was given: kvtrain launch -n 4 train.py")
        _at_least("-n", self.workers, 1, "workers")
        if self.servers is not None:
            _at_least("-s", self.servers, 1, "servers")
        if self.replicas < 0:
            raise ConfigError(f"--replicas {self.replicas}: 0 or more backups of each shard")
        if self.servers is not None and self.servers <= self.replicas:
            raise ConfigError(
                f"-s {self.servers}: --replicas {self.replicas} needs at least "
                f"{self.replicas + 1} servers"
            )
        if self.on_worker_loss not in WORKER_LOSS:
            known = ", ".join(WORKER_LOSS)
            raise ConfigError(f"--on-worker-loss {self.on_worker_loss!r}: known are {known}")
        self._check_checkpoints()
        if self.transport not in TRANSPORTS:
            known = ", ".join(TRANSPORTS)
            raise ConfigError(f"--transport {self.transport!r}: known are {known}")
        if not 0 <= self.port < 65536:
            raise ConfigError(f"--port {self.port}: a port is a number from 0 to 65535")
        if self.port and self.transport == "ipc":
            raise ConfigError("--port is for tcp; drop it or use --transport tcp")
        for name in ("join_timeout", "round_timeout"):
            if not getattr(self, name) > 0:
                flag = name.replace("_", "-")
                raise ConfigError(f"--{flag} {getattr(self, name)}: must be above 0 seconds")
        _at_least("--chunk-bytes", self.chunk_bytes, 64, "bytes")
        if self.host not in ("127.0.0.1", "localhost", "::1") and not self.insecure:
            raise ConfigError(
                f"--host {self.host}: listening beyond this machine is not encrypted yet; "
                "add --insecure if the network is trusted"
            )
        if self.name is not None and not re.fullmatch(r"[A-Za-z0-9._-]{1,40}", self.name):
            raise ConfigError(
                f"--name {self.name!r}: up to 40 letters, digits, dots, dashes and underscores"
            )
        for pair in self.env:
            if not re.match(r"[A-Za-z_][A-Za-z0-9_]*=", pair):
                raise ConfigError(f"--env {pair!r}: expected NAME=VALUE")
        self._check_command()

    def _check_checkpoints(self) -> None:
        interval(self.checkpoint_every)
        memory(self.server_memory)
        _at_least("--checkpoint-keep", self.checkpoint_keep, 1, "checkpoints")
        if self.checkpoint_every is not None and self.saves_to is None:
            raise ConfigError("--checkpoint-every needs --checkpoint-dir DIRECTORY")
        if self.resume is not None and not Path(self.resume).exists():
            raise ConfigError(f"--resume {self.resume}: there is no such directory")

    def _check_command(self) -> None:
        first = self.command[0]
        if first.endswith(".py"):
            if not Path(first).is_file():
                raise ConfigError(f"there is no script {first!r} (looked in {Path.cwd()})")
        elif shutil.which(first) is None:
            raise ConfigError(f"there is no command {first!r}; a Python script ends in .py")

    @property
    def uses_tcp(self) -> bool:
        """Whether the processes talk over tcp."""
        return self.transport == "tcp" or bool(self.port)

    @property
    def server_count(self) -> int:
        """Servers: as asked, else 1 for up to 2 workers, 2 for more, and replicas + 1."""
        if self.servers is not None:
            return self.servers
        return max(1 if self.workers <= 2 else 2, self.replicas + 1)

    @property
    def saves_to(self) -> str | None:
        """Where checkpoints go: as asked, else where the job goes on from."""
        if self.checkpoint_dir is not None or self.resume is None:
            return self.checkpoint_dir
        resumed = Path(self.resume)
        return str(resumed if resumed.is_dir() else resumed.parent)


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process to start."""

    role: str
    rank: int
    argv: tuple[str, ...]
    #: on top of the launcher's own environment
    environment: Mapping[str, str]
    #: names this process in everything that is said about it
    token: str
    #: tells it from one of the same rank that still hands over
    mark: str = ""

    @property
    def label(self) -> str:
        """``worker-2``; the scheduler has no number."""
        return self.role if self.role == "scheduler" else f"{self.role}-{self.rank}{self.mark}"


def _at_least(flag: str, value: int, least: int, what: str) -> None:
    if value < least:
        raise ConfigError(f"{flag} {value}: at least {least} {what} are needed")


def interval(text: str | None) -> tuple[int, float]:
    """``"100"`` is (100, 0.0): rounds; ``"30s"``, ``"5m"``, ``"1h"`` are seconds; None: never.

    Raises
    ------
    ConfigError
        The text is none of these.
    """
    if text is None:
        return 0, 0.0
    match = re.fullmatch(r"([0-9]+|[0-9]*\.[0-9]+(?=[smh]))([smh]?)", text)
    if not match or not float(match[1]) > 0:
        raise ConfigError(
            f"--checkpoint-every {text!r}: a number of rounds (100) or a time (30s, 5m, 1h)"
        )
    if not match[2]:
        return int(match[1]), 0.0
    return 0, float(match[1]) * _SECONDS[match[2]]


def memory(text: str | None) -> int:
    """``"8G"`` as bytes; None is 0: no limit. Raises ConfigError for anything else."""
    if text is None:
        return 0
    match = re.fullmatch(r"([0-9]+)([KMGT]?)B?", text.upper())
    if not match or int(match[1]) == 0:
        raise ConfigError(f"--server-memory {text!r}: bytes, or 500M, 8G")
    return int(match[1]) * _BYTES[match[2]]


def options() -> list[dataclasses.Field[Any]]:
    """The fields that are options."""
    return [f for f in dataclasses.fields(JobSpec) if "help" in f.metadata]


def from_toml(path: str) -> dict[str, Any]:
    """Options from a TOML file's table ``[job]``.

    Raises
    ------
    ConfigError
        The file cannot be read, or holds a key that is no option; names file and key.
    """
    try:
        with open(path, "rb") as file:
            held = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"--config {path}: {error}") from None
    known = {f.name for f in options()}
    for table in held:
        if table != "job":
            raise ConfigError(f"{path}: unknown table [{table}]; known: [job]")
    job = held.get("job", {})
    for key, value in job.items():
        if key not in known:
            raise ConfigError(f"{path}: unknown key job.{key}; known: {', '.join(sorted(known))}")
        if isinstance(value, list):
            job[key] = tuple(map(str, value))
    return dict(job)

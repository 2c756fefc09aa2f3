# SPDX-License-Identifier: Apache-2.0
"""Pure: from a job to the processes that make it."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from launcher.spec import JobSpec, ProcessSpec

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job runs, minted by the launcher."""

    job: str
    run_dir: str
    token_file: str
    #: random names, one per process
    tokens: tuple[str, ...]
    cores: int
    tty: bool
    #: variables that the user has set already, which are left alone
    given: frozenset[str]


def scheduler_address(spec: JobSpec, place: Place) -> str:
    """Where the scheduler is told to listen."""
    if spec.uses_tcp:
        return f"tcp://{spec.host}:{spec.port}"
    return f"ipc://{place.run_dir}/scheduler.sock"


def plan(spec: JobSpec, place: Place, address: str) -> list[ProcessSpec]:
    """Scheduler, servers, workers, in the order in which they are started.

    `address` is where the scheduler is found (for the scheduler itself: where it listens).
    """
    tokens = iter(place.tokens)
    threads = str(max(1, place.cores // spec.workers))
    common = {
        "KVTRAIN_JOB": place.job,
        "KVTRAIN_RUN_DIR": place.run_dir,
        "KVTRAIN_TOKEN_FILE": place.token_file,
        "KVTRAIN_TRANSPORT": "tcp" if spec.uses_tcp else "ipc",
        "KVTRAIN_HOST": spec.host,
        "KVTRAIN_JOIN_TIMEOUT": repr(spec.join_timeout),
        "KVTRAIN_ROUND_TIMEOUT": repr(spec.round_timeout),
        "KVTRAIN_CHUNK_BYTES": str(spec.chunk_bytes),
        "PYTHONUNBUFFERED": "1",
    }
    for variable in (*_THREADS, "KVTRAIN_NUM_THREADS"):
        if variable not in place.given:
            common[variable] = threads
    if place.tty:
        common["KVTRAIN_TTY"] = "1"
    if spec.imports:
        common["KVTRAIN_IMPORTS"] = ",".join(spec.imports)
    for pair in spec.env:
        variable, _, value = pair.partition("=")
        common[variable] = value
    python = (sys.executable, "-m", "kvtrain")

    def process(role: str, rank: int, *argv: str, **more: str) -> ProcessSpec:
        token = next(tokens)
        environment = {
            **common,
            "KVTRAIN_ROLE": role,
            "KVTRAIN_RANK": str(rank),
            "KVTRAIN_LAUNCH_TOKEN": token,
            **more,
        }
        return ProcessSpec(role, rank, (*python, *argv), environment, token)

    processes = [
        process(
            "scheduler",
            0,
            "scheduler",
            "--bind",
            address,
            KVTRAIN_NUM_WORKERS=str(spec.workers),
            KVTRAIN_NUM_SERVERS=str(spec.server_count),
        )
    ]
    for rank in range(spec.server_count):
        processes.append(process("server", rank, "server", "--join", address))
    for rank in range(spec.workers):
        processes.append(process("worker", rank, "worker", "--join", address, "--", *spec.command))
    return processes


def count(spec: JobSpec) -> int:
    """Number of processes of a job."""
    return 1 + spec.server_count + spec.workers

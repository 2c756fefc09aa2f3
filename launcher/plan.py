# SPDX-License-Identifier: Apache-2.0
"""Pure: from a job to the processes that make it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from launcher.spec import JobSpec, ProcessSpec, interval, memory

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
#: seconds between checkpoints when a directory is given and no interval
DEFAULT_EVERY = 600.0


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
    #: random identity, unlike the name never used twice; checkpoints carry it
    job_id: str = ""


def scheduler_address(spec: JobSpec, place: Place) -> str:
    """Where the scheduler is told to listen."""
    if spec.uses_tcp:
        return f"tcp://{spec.host}:{spec.port}"
    return f"ipc://{place.run_dir}/scheduler.sock"


def plan(spec: JobSpec, place: Place, address: str) -> list[ProcessSpec]:
    """Scheduler, servers, workers, in the order in which they are started.

    `address` is where the scheduler is found (for the scheduler itself: where it listens).
    """
    roles = [("scheduler", 0)]
    roles += [("server", rank) for rank in range(spec.server_count)]
    roles += [("worker", rank) for rank in range(spec.workers)]
    return [
        process(spec, place, address, role, rank, token)
        for (role, rank), token in zip(roles, place.tokens, strict=True)
    ]


def process(
    spec: JobSpec,
    place: Place,
    address: str,
    role: str,
    rank: int,
    token: str,
    incarnation: int = 1,
    again: bool = False,
    mark: str = "",
) -> ProcessSpec:
    """One process, at the job's start or in the place of one that was lost.

    `incarnation` counts the starts of a scheduler; `again`: in the place of a lost one.
    """
    environment = {
        **_common(spec, place),
        "KVTRAIN_ROLE": role,
        "KVTRAIN_RANK": str(rank),
        "KVTRAIN_LAUNCH_TOKEN": token,
    }
    argv: tuple[str, ...] = (role, "--join", address)
    if role == "scheduler":
        argv = (role, "--bind", address)
        environment |= _scheduler(spec, place)
        environment["KVTRAIN_INCARNATION"] = str(incarnation)
    elif role == "worker":
        argv = (*argv, "--", *spec.command)
        if again or spec.resume is not None:
            environment["KVTRAIN_RESUMED"] = "1"
    return ProcessSpec(
        role, rank, (sys.executable, "-m", "kvtrain", *argv), environment, token, mark
    )


def _scheduler(spec: JobSpec, place: Place) -> dict[str, str]:
    """What only the scheduler needs to know; everybody else hears it in the Welcome."""
    rounds, seconds = interval(spec.checkpoint_every)
    found = {
        "KVTRAIN_NUM_WORKERS": str(spec.workers),
        "KVTRAIN_NUM_SERVERS": str(spec.server_count),
        "KVTRAIN_REPLICAS": str(spec.replicas),
        "KVTRAIN_ON_WORKER_LOSS": spec.on_worker_loss,
        "KVTRAIN_JOB_ID": place.job_id,
        "KVTRAIN_CHECKPOINT_KEEP": str(spec.checkpoint_keep),
    }
    if spec.saves_to is not None:
        found["KVTRAIN_CHECKPOINT_DIR"] = os.path.abspath(spec.saves_to)
        if spec.checkpoint_every is None:
            seconds = DEFAULT_EVERY
    if rounds:
        found["KVTRAIN_CHECKPOINT_ROUNDS"] = str(rounds)
    if seconds:
        found["KVTRAIN_CHECKPOINT_SECONDS"] = repr(seconds)
    if spec.resume is not None:
        found["KVTRAIN_RESUME"] = os.path.abspath(spec.resume)
    if spec.server_memory is not None:
        found["KVTRAIN_SERVER_MEMORY"] = str(memory(spec.server_memory))
    return found


def _common(spec: JobSpec, place: Place) -> dict[str, str]:
    """The environment of every process of the job."""
    threads = str(max(1, place.cores // spec.workers))
    common = {
        "KVTRAIN_JOB": place.job,
        "KVTRAIN_RUN_DIR": place.run_dir,
        "KVTRAIN_TOKEN_FILE": place.token_file,
        "KVTRAIN_TRANSPORT": spec.transport,
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
    return common


def count(spec: JobSpec) -> int:
    """Number of processes of a job."""
    return 1 + spec.server_count + spec.workers

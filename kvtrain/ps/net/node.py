# SPDX-License-Identifier: Apache-2.0
"""Runs a scheduler or a server: reads the configuration, opens sockets, starts the loop."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kvtrain import platform
from kvtrain.config import Config
from kvtrain.errors import ConfigError
from kvtrain.kernels import identity as kernel_identity
from kvtrain.ps.core.joining import Identity
from kvtrain.ps.core.membership import SCHEDULER
from kvtrain.ps.core.messages import JobFailed, JobFinished, LauncherStop, Message
from kvtrain.ps.core.scheduler import SchedulerCore
from kvtrain.ps.core.server import ServerCore
from kvtrain.ps.core.settings import JobSettings
from kvtrain.ps.core.store import MakeOptimizer
from kvtrain.ps.core.story import Story
from kvtrain.ps.net.control import ControlPipe
from kvtrain.ps.net.journal import JournalFile
from kvtrain.ps.net.loop import Loop
from kvtrain.ps.net.sharing import shared_memory
from kvtrain.ps.net.token import read_token
from kvtrain.ps.net.transport import Links, ipc_address


def _stderr(text: str) -> None:
    sys.stderr.write(f"kvtrain: {text}\n")
    sys.stderr.flush()


def run_scheduler(
    config: Config, address: str, cleanup: Callable[[Path], None] | None = None
) -> int:
    """Be the scheduler at `address` until the job ends; returns the exit status.

    Parameters
    ----------
    cleanup : callable, optional
        Removes the run directory when the launcher is gone and cannot do it itself.
    """
    if config.num_workers is None or config.num_servers is None:
        raise ConfigError(
            "a scheduler must know the size of the job: KVTRAIN_NUM_WORKERS and "
            "KVTRAIN_NUM_SERVERS (kvtrain scheduler -n WORKERS -s SERVERS)"
        )
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = JobSettings(
        workers=config.num_workers,
        servers=config.num_servers,
        job=config.job or "",
        chunk_bytes=config.chunk_bytes,
        join_timeout=config.join_timeout,
        round_timeout=config.round_timeout,
        note_after=min(60.0, config.round_timeout / 2),
        suspect_round_timeout=min(300.0, config.round_timeout),
        replicas=config.replicas,
        server_memory=config.server_memory,
        on_worker_loss=config.on_worker_loss,
    )
    core = SchedulerCore(settings, time.monotonic(), config.incarnation or 1)
    pipe: ControlPipe | None = None
    orphaned = False

    def gone() -> None:
        nonlocal orphaned
        orphaned = True
        loop.inbox.append(LauncherStop(reason="the launcher is gone"))
        if pipe is not None:
            links.unwatch(pipe.descriptor)

    def note(text: str) -> None:
        if pipe is not None:
            pipe.tell("note", text=text)
        else:
            _stderr(text)

    def to_launcher(message: Message) -> None:
        if pipe is not None:
            pipe.send(message)
        elif isinstance(message, JobFailed):
            _stderr(f"the job has failed: {message.text}")
        elif isinstance(message, JobFinished):
            _stderr("the job has finished")

    links = Links(read_token(config), note)
    run_dir = Path(config.run_dir) if config.run_dir else None
    journal = JournalFile(None if run_dir is None else run_dir / "journal")
    story = Story() if config.trace else None
    loop = Loop(core, links, note, journal, to_launcher, story=story)
    if config.control_fds:
        pipe = ControlPipe(config.control_fds, gone)
    try:
        bound = links.bind(address)
        if pipe is not None:
            held = pipe
            links.watch(pipe.descriptor, lambda: loop.inbox.extend(held.read()))
            pipe.tell("bound", address=bound)
        else:
            _stderr(
                f"scheduler at {bound}, waiting for {settings.workers} workers and "
                f"{settings.servers} servers"
            )

        def terminated(number: int, frame: Any) -> None:
            loop.inbox.append(LauncherStop(reason=f"the scheduler got signal {number}"))

        signal.signal(signal.SIGTERM, terminated)
        error = loop.run()
    finally:
        links.close(linger=1.0)
    if orphaned and run_dir is not None and cleanup is not None:
        cleanup(run_dir)
    return 0 if error is None else 1


def run_server(config: Config, make_optimizer: MakeOptimizer) -> int:
    """Be a server of the job until it ends; returns the exit status."""
    if config.scheduler is None:
        raise ConfigError("a server needs the scheduler's address: kvtrain server --join ADDRESS")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if config.malloc is not False:
        platform.tune_allocator()
    arena, sharing = shared_memory(config, lambda: core.node, _stderr)
    links = Links(read_token(config), _stderr, sharing=sharing)
    try:
        if config.scheduler.startswith("ipc://") and config.transport != "tcp":
            directory = config.run_dir or os.path.dirname(config.scheduler[len("ipc://") :])
            address = links.bind(ipc_address(directory, f"server-{os.getpid()}.sock"))
        else:
            address = links.bind(f"tcp://{config.host}:0")
        identity = Identity(
            host=platform.host_name(),
            pid=os.getpid(),
            launch_token=config.launch_token or "",
            rank=-1 if config.rank is None else config.rank,
            address=address,
            kernel=kernel_identity(),
        )
        settings = JobSettings(workers=0, servers=0, join_timeout=config.join_timeout)
        nonce = secrets.randbits(48)
        core = ServerCore(identity, nonce, settings, time.monotonic(), make_optimizer, memory=arena)

        def turn() -> None:
            core.joining.turns += 1

        def orphaned() -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        if config.lifeline_fd is not None:
            links.watch(config.lifeline_fd, orphaned)
        links.connect(SCHEDULER, config.scheduler)
        story = Story() if config.trace else None
        loop = Loop(core, links, _stderr, turn=turn, story=story, address_of=core.address_of)
        signal.signal(signal.SIGTERM, lambda number, frame: loop.calls.append(core.hand_over))
        error = loop.run()
    finally:
        links.close(linger=1.0)
    if error is not None and not core.welcomed:
        _stderr(f"{type(error).__name__}: {error}")
        return 1
    return 0

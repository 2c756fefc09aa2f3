# SPDX-License-Identifier: Apache-2.0
"""Runs a server: reads the configuration, opens sockets, starts the loop."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time

from kvtrain import platform
from kvtrain.config import Config
from kvtrain.errors import ConfigError
from kvtrain.kernels import identity as kernel_identity
from kvtrain.ps.core.joining import Identity
from kvtrain.ps.core.membership import SCHEDULER
from kvtrain.ps.core.server import ServerCore
from kvtrain.ps.core.settings import JobSettings
from kvtrain.ps.core.store import MakeOptimizer
from kvtrain.ps.core.story import Story
from kvtrain.ps.net.disk import DiskThread
from kvtrain.ps.net.loop import Loop
from kvtrain.ps.net.sharing import shared_memory
from kvtrain.ps.net.token import read_token
from kvtrain.ps.net.transport import Links, ipc_address


def _stderr(text: str) -> None:
    sys.stderr.write(f"kvtrain: {text}\n")
    sys.stderr.flush()


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
            address = links.bind(ipc_address(directory, f"server-{os.getpid()}.sock"), direct=True)
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
        disk = DiskThread(lambda: core.settings, _stderr)
        loop = Loop(
            core,
            links,
            _stderr,
            turn=turn,
            story=story,
            disk=disk,
            address_of=core.address_of,
        )
        signal.signal(signal.SIGTERM, lambda number, frame: loop.calls.append(core.hand_over))
        error = loop.run()
    finally:
        links.close(linger=1.0)
    if error is not None and not core.welcomed:
        _stderr(f"{type(error).__name__}: {error}")
        return 1
    return 0

# SPDX-License-Identifier: Apache-2.0
"""Runs a scheduler: its configuration, journal, checkpoint to go on from, pipe and loop."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kvtrain.config import Config
from kvtrain.errors import ConfigError, KVTrainError
from kvtrain.ps.core.messages import JobFailed, JobFinished, LauncherStop, Message
from kvtrain.ps.core.scheduler import SchedulerCore
from kvtrain.ps.core.settings import JobSettings
from kvtrain.ps.core.shards import SHARDS
from kvtrain.ps.core.story import Story
from kvtrain.ps.net.control import ControlPipe
from kvtrain.ps.net.disk import DiskThread, saved_job
from kvtrain.ps.net.journal import JournalFile, read_journal
from kvtrain.ps.net.loop import Loop
from kvtrain.ps.net.resuming import Resumed, choose, owner
from kvtrain.ps.net.token import read_token
from kvtrain.ps.net.transport import Links


def run_scheduler(
    config: Config, address: str, cleanup: Callable[[Path], None] | None = None
) -> int:
    """Be the scheduler at `address` until the job ends; returns the exit status.

    Parameters
    ----------
    cleanup : callable, optional
        Removes the run directory when the launcher is gone and cannot do it itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = _Scheduler(config)
    try:
        error = process.run(address)
    except KVTrainError as wrong:
        # a launcher would start it again; it must know that this is the end
        if process.pipe is None:
            raise
        process.pipe.tell("failed", text=f"{type(wrong).__name__}: {wrong}")
        return 1
    if process.orphaned and config.run_dir and cleanup is not None:
        cleanup(Path(config.run_dir))
    return 0 if error is None else 1


class _Scheduler:
    """One run of a scheduler process."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.orphaned = False
        self.pipe: ControlPipe | None = None
        self._loop: Loop | None = None
        self._links: Links | None = None
        if config.control_fds:
            self.pipe = ControlPipe(config.control_fds, self._launcher_gone)

    def run(self, address: str) -> Exception | None:
        """Until the job ends; returns its error."""
        config = self._config
        run_dir = Path(config.run_dir) if config.run_dir else None
        incarnation = config.incarnation or 1
        records = read_journal(run_dir / "journal") if run_dir and incarnation > 1 else []
        resumed = choose(config, records, self._note)
        settings = _settings(config, resumed)
        core = SchedulerCore(settings, time.monotonic(), incarnation)
        if records:
            core.recover(records, time.monotonic())
        if resumed is not None:
            core.resume(saved_job(resumed.manifest))
            steps = ", ".join(f"step {s.step}" for s in resumed.manifest.stores)
            if not records:
                self._note(f"the job goes on from {resumed.path} ({steps})")
        links = self._links = Links(read_token(config), self._note)
        disk = DiskThread(lambda: settings, self._note, owner(config, resumed))
        journal = JournalFile(None if run_dir is None else run_dir / "journal")
        story = Story() if config.trace else None
        loop = self._loop = Loop(
            core, links, self._note, journal, self._to_launcher, story=story, disk=disk
        )
        try:
            self._listen(links, loop, address, settings)
            return loop.run()
        finally:
            links.close(linger=1.0)

    def _listen(self, links: Links, loop: Loop, address: str, settings: JobSettings) -> None:
        bound = links.bind(address)
        if self.pipe is not None:
            pipe = self.pipe
            links.watch(pipe.descriptor, lambda: loop.inbox.extend(pipe.read()))
            pipe.tell("bound", address=bound)
        else:
            _stderr(
                f"scheduler at {bound}, waiting for {settings.workers} workers and "
                f"{settings.servers} servers"
            )

        def terminated(number: int, frame: Any) -> None:
            loop.inbox.append(LauncherStop(reason=f"the scheduler got signal {number}"))

        signal.signal(signal.SIGTERM, terminated)

    def _launcher_gone(self) -> None:
        self.orphaned = True
        if self._loop is not None:
            self._loop.inbox.append(LauncherStop(reason="the launcher is gone"))
        if self._links is not None and self.pipe is not None:
            self._links.unwatch(self.pipe.descriptor)

    def _note(self, text: str) -> None:
        if self.pipe is not None:
            self.pipe.tell("note", text=text)
        else:
            _stderr(text)

    def _to_launcher(self, message: Message) -> None:
        if self.pipe is not None:
            self.pipe.send(message)
        elif isinstance(message, JobFailed):
            _stderr(f"the job has failed: {message.text}")
        elif isinstance(message, JobFinished):
            _stderr("the job has finished")


def _settings(config: Config, resumed: Resumed | None) -> JobSettings:
    if config.num_workers is None or config.num_servers is None:
        raise ConfigError(
            "a scheduler must know the size of the job: KVTRAIN_NUM_WORKERS and "
            "KVTRAIN_NUM_SERVERS (kvtrain scheduler -n WORKERS -s SERVERS)"
        )
    return JobSettings(
        workers=config.num_workers,
        servers=config.num_servers,
        job=config.job or "",
        # where each element lies follows from these; a checkpoint keeps its own
        chunk_bytes=config.chunk_bytes if resumed is None else resumed.manifest.chunk_bytes,
        shards=SHARDS if resumed is None else resumed.manifest.shards,
        join_timeout=config.join_timeout,
        round_timeout=config.round_timeout,
        note_after=min(60.0, config.round_timeout / 2),
        suspect_round_timeout=min(300.0, config.round_timeout),
        heartbeat=min(1.0, config.dead_after / 5),
        suspect_after=min(10.0, config.dead_after / 2),
        dead_after=config.dead_after,
        replicas=config.replicas,
        server_memory=config.server_memory,
        on_worker_loss=config.on_worker_loss,
        checkpoint_dir=config.checkpoint_dir or "",
        checkpoint_rounds=config.checkpoint_rounds,
        checkpoint_seconds=config.checkpoint_seconds,
        run=(config.job_id or "run")[:8],
        restore="" if resumed is None else str(resumed.path),
    )


def _stderr(text: str) -> None:
    sys.stderr.write(f"kvtrain: {text}\n")
    sys.stderr.flush()

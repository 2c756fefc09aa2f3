# SPDX-License-Identifier: Apache-2.0
"""The disk of a role: checkpoint files are written and read by a thread beside the loop."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvtrain import __version__
from kvtrain.checkpoint import FORMAT, CheckpointDirectory, Manifest, read_part, write_part
from kvtrain.errors import CheckpointError, FormatError, KVTrainError
from kvtrain.ps.core.effects import Discard, Disk, LoadShards, Publish, SavePart
from kvtrain.ps.core.messages.base import Message
from kvtrain.ps.core.messages.disk import PartWritten, Published, ShardsLoaded
from kvtrain.ps.core.saved import SavedJob
from kvtrain.ps.core.settings import JobSettings


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose checkpoints are written, and how many stay."""

    job: str
    name: str
    keep: int


class DiskThread:
    """Carries out disk effects one after another; the answers are read by the loop.

    Parameters
    ----------
    settings : callable
        The job's settings, once they are known.
    owner : Owner, optional
        Of the scheduler, which publishes.
    note : callable
        Told of what went wrong and of what retention deleted.
    """

    def __init__(
        self,
        settings: Callable[[], JobSettings],
        note: Callable[[str], None],
        owner: Owner | None = None,
    ) -> None:
        self._settings = settings
        self._note = note
        self._owner = owner
        self._asked: queue.SimpleQueue[Disk | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Message] = queue.SimpleQueue()
        #: readable when there are answers
        self.descriptor, self._wake = os.pipe()
        self._thread: threading.Thread | None = None

    def submit(self, effect: Disk) -> None:
        """Begin; the answer comes later."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="kvtrain-disk", daemon=True)
            self._thread.start()
        self._asked.put(effect)

    def answers(self) -> list[Message]:
        """What is done since the last call."""
        os.read(self.descriptor, 4096)
        found = []
        while not self._answers.empty():
            found.append(self._answers.get())
        return found

    def close(self, seconds: float = 5.0) -> None:
        """Finish what was begun, for at most so long."""
        if self._thread is not None:
            self._asked.put(None)
            self._thread.join(seconds)
            if self._thread.is_alive():
                return  # it still uses the pipe; the process ends anyway
        os.close(self.descriptor)
        os.close(self._wake)

    def _work(self) -> None:
        while (effect := self._asked.get()) is not None:
            answer = self._carry_out(effect)
            if answer is not None:
                self._answers.put(answer)
                os.write(self._wake, b".")

    def _carry_out(self, effect: Disk) -> Message | None:
        match effect:
            case SavePart():
                return _save(effect)
            case LoadShards():
                return _load(effect)
            case Publish():
                return self._publish(effect)
            case Discard():
                # a disk that is full must not stay full of what came to nothing
                CheckpointDirectory(Path(effect.directory)).discard(effect.run, effect.attempt)
                return None

    def _publish(self, effect: Publish) -> Message:
        assert self._owner is not None, "only a scheduler publishes"
        settings, job = self._settings(), effect.job
        directory = CheckpointDirectory(Path(effect.directory))
        try:
            directory.claim(self._owner.job, self._owner.name)
            found = directory.publish(
                Manifest(
                    format=FORMAT,
                    version=__version__,
                    job=self._owner.job,
                    name=self._owner.name,
                    attempt=effect.attempt,
                    kind=job.kind,
                    saved=time.time(),
                    workers=settings.workers,
                    servers=settings.servers,
                    chunk_bytes=settings.chunk_bytes,
                    shards=settings.shards,
                    stores=job.stores,
                    keys=job.keys,
                    parts=job.parts,
                )
            )
            # what was just read back is the newest verified one
            directory.retain(self._owner.keep, found)
        except (KVTrainError, OSError) as error:
            return Published(attempt=effect.attempt, error=str(error))
        return Published(attempt=effect.attempt, path=str(found.path))


def _save(effect: SavePart) -> Message:
    directory = Path(effect.directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        part = write_part(directory, effect.file, effect.shard, effect.view, effect.chunks)
    except (CheckpointError, OSError) as error:
        return PartWritten(attempt=effect.attempt, shard=effect.shard, error=str(error))
    return PartWritten(attempt=effect.attempt, shard=effect.shard, part=part)


def _load(effect: LoadShards) -> Message:
    path = Path(effect.manifest)
    try:
        manifest = load_manifest(path)
        entries = {entry.id: entry for entry in manifest.keys}
        chunks = [
            chunk
            for part in manifest.parts
            if part.shard in effect.shards
            for chunk in read_part(path.parent, part, entries)
        ]
    except KVTrainError as error:
        return ShardsLoaded(error=str(error))
    return ShardsLoaded(job=saved_job(manifest), chunks=tuple(chunks))


def load_manifest(path: Path) -> Manifest:
    """The manifest at `path`; raises FormatError if it is damaged or not there."""
    for found in CheckpointDirectory(path.parent).list():
        if found.path == path:
            if found.manifest is None:
                raise FormatError(found.error)
            return found.manifest
    raise FormatError(f"{path}: there is no such checkpoint")


def saved_job(manifest: Manifest) -> SavedJob:
    """What the cores need to know of a checkpoint."""
    return SavedJob(manifest.kind, manifest.stores, manifest.keys, manifest.parts)

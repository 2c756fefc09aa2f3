# SPDX-License-Identifier: Apache-2.0
"""What a process's own disk answers to its core. Never on the wire, so without a tag."""

from __future__ import annotations

from dataclasses import dataclass, field

from kvtrain.ps.core.messages.base import Message
from kvtrain.ps.core.saved import SavedChunk, SavedJob, SavedPart


@dataclass(frozen=True, slots=True, kw_only=True)
class PartWritten(Message):
    """The file of a part is on the disk; or it is not, and `error` says why."""

    attempt: int
    shard: int
    part: SavedPart | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardsLoaded(Message):
    """Chunks of shards from a checkpoint, and what the manifest says; or `error` says why not."""

    job: SavedJob | None = None
    chunks: tuple[SavedChunk, ...] = field(default=(), compare=False, repr=False)
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published(Message):
    """The manifest is on the disk under `path`, verified; or `error` says why not."""

    attempt: int
    path: str = ""
    error: str = ""

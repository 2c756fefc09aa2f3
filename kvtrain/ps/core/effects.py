# SPDX-License-Identifier: Apache-2.0
"""What a core may ask its shell to do. Effects are carried out in the order given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvtrain.ps.core.membership import Epoch, NodeId
from kvtrain.ps.core.messages import Message
from kvtrain.ps.core.saved import SavedChunk, SavedJob


@dataclass(frozen=True, slots=True)
class Send:
    """Send `message` to `to`; it may be lost, late, doubled or reordered."""

    to: NodeId
    message: Message
    #: over a network a higher one goes first
    priority: float = 0


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """Copy `source` to `target` before what follows, and before the program goes on."""

    target: np.ndarray[Any, Any]
    source: np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Complete:
    """The worker's request `request` is done with `value`."""

    request: int
    value: Any = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Fail:
    """The worker's request `request` failed with `error`."""

    request: int
    error: Exception


@dataclass(frozen=True, slots=True)
class Journal:
    """Write and fsync `record` before carrying out what follows (PROTOCOL R52)."""

    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stop:
    """End this process; `error` says why, None for a normal end."""

    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """Tell the humans."""

    text: str


@dataclass(frozen=True, slots=True)
class SavePart:
    """Write chunks of one shard to a file; answered with PartWritten."""

    attempt: int
    directory: str
    file: str
    shard: int
    view: Epoch
    chunks: tuple[SavedChunk, ...] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class LoadShards:
    """Read these shards from a checkpoint's manifest; answered with ShardsLoaded."""

    manifest: str
    shards: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Publish:
    """Write the manifest of a checkpoint, last of all; answered with Published."""

    attempt: int
    directory: str
    job: SavedJob


@dataclass(frozen=True, slots=True)
class Discard:
    """Delete what was written for an attempt that was given up; nothing answers."""

    attempt: int
    directory: str
    run: str


Disk = SavePart | LoadShards | Publish | Discard
Effect = Send | Copy | Complete | Fail | Journal | Stop | Note | Disk

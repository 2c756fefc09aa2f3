# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint holds, as values: chunks, parts, stores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvtrain.ps.core.membership import Epoch
from kvtrain.ps.core.shards import ChunkId, KeyEntry


@dataclass(frozen=True, slots=True)
class SavedChunk:
    """Committed weights of one chunk with all that its next update depends on."""

    chunk: ChunkId
    version: int
    weight: np.ndarray[Any, Any] = field(compare=False, repr=False)
    #: optimizer state, flat arrays as long as the weight or of their own length; None: none yet
    state: tuple[np.ndarray[Any, Any], ...] | None = field(default=None, compare=False, repr=False)
    #: counters and hyper-parameters, small plain data
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SavedPart:
    """One file with the chunks of one shard."""

    file: str
    shard: int
    view: Epoch
    bytes: int
    sha256: str
    chunks: tuple[ChunkId, ...]


@dataclass(frozen=True, slots=True)
class SavedStore:
    """One store of the job: what must agree when a job goes on from the checkpoint."""

    number: int
    type: str
    sync: bool
    #: the cut: state before the first round of this step
    step: int = 0
    #: registered name and plain configuration of the servers' optimizer; "" without one
    optimizer: str = ""
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SavedJob:
    """What the scheduler knows of a checkpoint: all but the arrays."""

    kind: str
    stores: tuple[SavedStore, ...]
    keys: tuple[KeyEntry, ...]
    parts: tuple[SavedPart, ...]

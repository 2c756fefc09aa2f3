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
    """Committed state of one chunk: all that its next update depends on."""

    chunk: ChunkId
    version: int
    #: flat: the weights, then the optimizer's state; before them, of a row-sparse chunk of which
    #: some rows have arisen, the numbers of those rows
    arrays: tuple[np.ndarray[Any, Any], ...] = field(compare=False, repr=False)
    #: what StoredChunk.image said beside the arrays: small plain data
    image: dict[str, Any] = field(default_factory=dict)
    #: counters and hyper-parameters, small plain data
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> np.ndarray[Any, Any] | None:
        """Numbers of the rows that have arisen; None: all, or a dense chunk."""
        return self.arrays[0] if self.image.get("some") else None

    @property
    def weight(self) -> np.ndarray[Any, Any]:
        """The weights, flat."""
        return self.arrays[int(bool(self.image.get("some")))]

    @property
    def state(self) -> tuple[np.ndarray[Any, Any], ...]:
        """The optimizer's state, flat."""
        return self.arrays[1 + int(bool(self.image.get("some"))) :]


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

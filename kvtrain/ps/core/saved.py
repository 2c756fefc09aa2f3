# SPDX-License-Identifier: Apache-2.0
"""A chunk as a checkpoint holds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvtrain.ps.core.shards import ChunkId


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

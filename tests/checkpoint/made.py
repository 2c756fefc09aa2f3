# SPDX-License-Identifier: Apache-2.0
"""Checkpoints made by hand, with a distinct value in every element."""

from pathlib import Path

import numpy as np

from kvtrain.checkpoint import FORMAT, CheckpointDirectory, Found, Manifest
from kvtrain.checkpoint.parts import part_name, write_part
from kvtrain.ps.core.membership import Epoch
from kvtrain.ps.core.saved import SavedChunk, SavedStore
from kvtrain.ps.core.shards import KeyEntry, KeySpec, make_entry

VIEW = Epoch(1, 3)


def entries() -> list[KeyEntry]:
    specs = (
        KeySpec("w", False, (10, 3), "float32"),
        KeySpec("b", False, (3,), "float64"),
        KeySpec("empty", False, (0, 4), "float32"),
        KeySpec("n", False, (), "int64"),
    )
    return [make_entry(i, 0, spec, 64, i) for i, spec in enumerate(specs)]


def values(scale: float = 1.0) -> dict[str, np.ndarray]:
    found = {}
    for entry in entries():
        flat = np.arange(entry.size) + 100 * entry.id + 1
        found[entry.spec.name] = (flat * scale).astype(entry.spec.dtype).reshape(entry.spec.shape)
    return found


def save(path: Path, attempt: int, step: int, scale: float = 1.0, shards: int = 4) -> Found:
    """A whole checkpoint of :func:`values` times `scale`."""
    directory = CheckpointDirectory(path)
    directory.claim("0123abcd", "made")
    by_shard: dict[int, list[SavedChunk]] = {}
    for entry in entries():
        flat = values(scale)[entry.spec.name].reshape(-1)
        for chunk in entry:
            low, high = entry.bounds(chunk.part)
            state = (flat[low:high] * 2, np.array([7.0])) if entry.spec.name == "w" else ()
            arrays = (flat[low:high], *state)
            saved = SavedChunk(chunk, step, arrays, {}, {"hyper": {"lr": 0.5}})
            by_shard.setdefault(entry.shard(chunk.part, shards), []).append(saved)
    parts = tuple(
        write_part(path, part_name("r", attempt, shard, VIEW), shard, VIEW, chunks)
        for shard, chunks in sorted(by_shard.items())
    )
    return directory.publish(
        Manifest(
            format=FORMAT,
            version="0.1.0",
            job="0123abcd",
            name="made",
            attempt=attempt,
            kind="exact",
            saved=1000.0 + attempt,
            workers=2,
            servers=1,
            chunk_bytes=64,
            shards=shards,
            stores=(SavedStore(0, "dist_sync", True, step, "sgd", {"learning_rate": 0.5}),),
            keys=tuple(entries()),
            parts=parts,
        )
    )

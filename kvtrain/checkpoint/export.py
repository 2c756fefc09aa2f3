# SPDX-License-Identifier: Apache-2.0
"""Whole arrays out of a checkpoint: as NumPy, as MXNet's ``.params``, as safetensors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from kvtrain.checkpoint import durable
from kvtrain.checkpoint.manifest import Manifest
from kvtrain.checkpoint.parts import read_part
from kvtrain.context import cpu
from kvtrain.errors import CheckpointError
from kvtrain.ndarray import NDArray
from kvtrain.ndarray.serialization import dumps
from kvtrain.ps.core.rows import DRAWN, RowInitializer, row_width
from kvtrain.ps.core.saved import SavedChunk
from kvtrain.ps.core.shards import KeyEntry

Array = np.ndarray[Any, Any]


def arrays(directory: Path, manifest: Manifest, store: int = 0) -> dict[str, Array]:
    """The weights of one store, by the user's names.

    Raises
    ------
    FormatError
        A part is missing or damaged.
    """
    entries = {entry.id: entry for entry in manifest.keys}
    found = {
        entry.id: np.empty(entry.size, entry.spec.dtype)
        for entry in manifest.keys
        if entry.store == store
    }
    for part in manifest.parts:
        if not any(chunk.key in found for chunk in part.chunks):
            continue
        for saved in read_part(directory, part, entries):
            target = found.get(saved.chunk.key)
            if target is not None:
                _place(saved, entries[saved.chunk.key], target)
    return {
        entries[key].spec.name: flat.reshape(entries[key].spec.shape) for key, flat in found.items()
    }


def _place(saved: SavedChunk, entry: KeyEntry, target: Array) -> None:
    """Write a chunk to its place in the flat array of its key."""
    part = saved.chunk.part
    if not entry.row_parts:
        low, high = entry.bounds(part)
        target[low:high] = saved.weight
        return
    width = row_width(entry)
    mine = target.reshape(-1, width)[part :: entry.row_parts]
    if saved.rows is None:
        mine[:] = saved.weight.reshape(mine.shape)
        return
    # rows that nobody has touched are what a read of them would give
    text = "" if saved.image.get("zeroed") else entry.spec.initializer
    draw = RowInitializer.from_text(text).drawer(entry.spec.name, width, target.dtype)
    for low in range(0, len(mine), DRAWN):
        numbers = np.arange(low, min(low + DRAWN, len(mine))) * entry.row_parts + part
        mine[low : low + len(numbers)] = draw(numbers)
    mine[saved.rows] = saved.weight.reshape(-1, width)


def export(directory: Path, manifest: Manifest, target: Path, store: int = 0) -> list[str]:
    """Write the weights to `target`: ``.params`` (MXNet's) or ``.safetensors`` by its ending.

    Returns the names written.

    Raises
    ------
    CheckpointError
        Another ending, no keys in that store, or the file cannot be written.
    """
    if target.suffix not in (".params", ".safetensors"):
        raise CheckpointError(f"{target}: the name must end in .params or .safetensors")
    found = arrays(directory, manifest, store)
    if not found:
        known = sorted({entry.store for entry in manifest.keys})
        raise CheckpointError(f"the checkpoint holds no keys of store {store}; stores: {known}")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        if target.suffix == ".params":
            durable.write(target, dumps({n: NDArray(a, cpu()) for n, a in found.items()}))
        else:
            save_file(found, temporary, {"format": "np"})
            durable.settle(temporary, target)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write {target}: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return sorted(found)

# SPDX-License-Identifier: Apache-2.0
"""The safetensors file of one shard: weights, optimizer state, counters."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from kvtrain.checkpoint import durable
from kvtrain.checkpoint.manifest import FORMAT
from kvtrain.checkpoint.plain import MAX_ITEMS
from kvtrain.errors import CheckpointError, FormatError
from kvtrain.ps.core.membership import Epoch
from kvtrain.ps.core.rows import row_width, rows_in
from kvtrain.ps.core.saved import SavedChunk, SavedPart
from kvtrain.ps.core.shards import DTYPES, ChunkId, KeyEntry

_META = "kvtrain"


def part_name(run: str, attempt: int, shard: int, view: Epoch) -> str:
    """Name of the file: no two attempts, shards or views share one (PROTOCOL R51)."""
    return f"part-{run}-{attempt}-{shard}-{view.scheduler}.{view.counter}.safetensors"


def write_part(
    directory: Path, name: str, shard: int, view: Epoch, chunks: Iterable[SavedChunk]
) -> SavedPart:
    """Write the chunks of one shard; returns how the manifest names the file.

    Raises
    ------
    CheckpointError
        The disk is full, or the directory cannot be written; nothing is left behind.
    """
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    described = []
    held = list(chunks)
    for saved in held:
        names = _names(saved.chunk, saved.image, len(saved.arrays))
        for name_, array in zip(names, saved.arrays, strict=True):
            tensors[name_] = np.ascontiguousarray(array)
        described.append(
            {
                "chunk": list(saved.chunk),
                "version": saved.version,
                "arrays": len(saved.arrays),
                "image": saved.image,
                "extra": saved.extra,
            }
        )
    meta = {"format": FORMAT, "shard": shard, "view": list(view), "chunks": described}
    final = directory / name
    temporary = directory / f".{name}.{os.getpid()}.new"
    try:
        save_file(tensors, temporary, {_META: json.dumps(meta)})
        durable.settle(temporary, final)
        size, checksum = durable.sha256(final)
    except (OSError, SafetensorError) as error:
        # the library reports a full disk as an error of its own
        final.unlink(missing_ok=True)
        raise CheckpointError(f"cannot write {final}: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)
    found = tuple(saved.chunk for saved in held)
    return SavedPart(name, shard, view, size, checksum, found)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (OSError, SafetensorError, KeyError) as error:
        raise FormatError(f"{path}: damaged ({error!s:.120})") from None


def check_part(directory: Path, part: SavedPart) -> None:
    """Compare a file with what the manifest says of it.

    Raises
    ------
    FormatError
        It is missing, shorter, longer or has another checksum; names it.
    """
    path = directory / part.file
    try:
        size = path.stat().st_size
        if size != part.bytes:
            raise FormatError(f"{path}: {size} bytes, {part.bytes} were written: torn or damaged")
        _, checksum = durable.sha256(path, part.bytes)
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from None
    if checksum != part.sha256:
        raise FormatError(f"{path}: damaged (its SHA-256 does not match the manifest's)")


def read_part(directory: Path, part: SavedPart, entries: dict[int, KeyEntry]) -> list[SavedChunk]:
    """The chunks of a part, checked against the manifest and the directory of keys.

    Raises
    ------
    FormatError
        As :func:`check_part`, or the content is not what manifest and keys say.
    """
    check_part(directory, part)
    path = directory / part.file
    with _opened(path) as file:
        described = _described(file.metadata() or {}, path)
        if [d["chunk"] for d in described] != [list(c) for c in part.chunks]:
            raise FormatError(f"{path}: holds other chunks than the manifest says")
        return [_chunk(file, d, entries, path) for d in described]


def _described(metadata: dict[str, str], path: Path) -> list[dict[str, Any]]:
    try:
        meta = json.loads(metadata[_META])
        chunks = meta["chunks"]
        good = isinstance(chunks, list) and len(chunks) <= MAX_ITEMS
        good = good and meta["format"] == FORMAT and all(_is_description(c) for c in chunks)
    except (KeyError, ValueError, TypeError, RecursionError):
        good = False
    if not good:
        raise FormatError(f"{path}: its description of the chunks cannot be read")
    return list(chunks)


def _is_description(plain: Any) -> bool:
    return (
        isinstance(plain, dict)
        and isinstance(plain.get("chunk"), list)
        and len(plain["chunk"]) == 2
        and all(type(n) is int for n in plain["chunk"])
        and type(plain.get("version")) is int
        and type(plain.get("arrays")) is int
        and 1 <= plain["arrays"] <= 64
        and isinstance(plain.get("image"), dict)
        and isinstance(plain.get("extra"), dict)
    )


def _names(chunk: ChunkId, image: dict[str, Any], count: int) -> list[str]:
    """What the arrays of a chunk are called in the file."""
    first = ["rows", "weight"] if image.get("some") else ["weight"]
    names = [*first, *(f"state/{i}" for i in range(count - len(first)))][:count]
    return [f"{chunk.key}/{chunk.part}/{name}" for name in names]


def _chunk(
    file: Any, described: dict[str, Any], entries: dict[int, KeyEntry], path: Path
) -> SavedChunk:
    chunk = ChunkId(*described["chunk"])
    entry = entries.get(chunk.key)
    if entry is None:
        raise FormatError(f"{path}: holds key id {chunk.key}, which the manifest does not know")
    names = _names(chunk, described["image"], described["arrays"])
    arrays = tuple(file.get_tensor(name) for name in names)
    for array in arrays:
        if array.ndim != 1 or array.dtype.name not in DTYPES:
            raise FormatError(f"{path}: an array of shape {array.shape}, dtype {array.dtype}")
    saved = SavedChunk(chunk, described["version"], arrays, described["image"], described["extra"])
    if not _fits(saved, entry):
        raise FormatError(
            f"{path}: chunk {chunk.part} of key {entry.spec.name!r} ({entry.spec.describe()}) "
            f"cannot have weights of {saved.arrays[-1].shape} of {saved.arrays[-1].dtype}"
        )
    return saved


def _fits(saved: SavedChunk, entry: KeyEntry) -> bool:
    """Whether the weights are as many as the chunk has."""
    if len(saved.arrays) <= bool(saved.image.get("some")):
        return False
    weight, rows = saved.weight, saved.rows
    if weight.dtype != entry.spec.dtype:
        return False
    if not entry.row_parts:
        low, high = entry.bounds(saved.chunk.part)
        return rows is None and weight.size == high - low
    width, most = row_width(entry), rows_in(entry, saved.chunk.part)
    if rows is None:
        return bool(weight.size == most * width)
    within = not rows.size or (rows.min() >= 0 and rows.max() < most)
    return bool(rows.dtype == np.int64 and weight.size == rows.size * width and within)

# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint is: its cut, its keys, its parts."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from kvtrain.checkpoint.plain import from_plain, to_plain
from kvtrain.errors import FormatError
from kvtrain.ps.core.saved import SavedPart, SavedStore
from kvtrain.ps.core.shards import DTYPES, ChunkId, KeyEntry

#: version of the format that is written; older ones stay readable
FORMAT = 1
#: bytes of a manifest that are read
MAX_BYTES = 256 << 20
KINDS = ("exact", "aligned", "fuzzy")
_PART = re.compile(r"part-[A-Za-z0-9._-]{1,120}\.safetensors")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One checkpoint.

    `kind`: ``exact`` (every chunk as before step `SavedStore.step` of its store), ``aligned``
    (the same, reached by a short stop) or ``fuzzy`` (each push whole per chunk, chunks at
    different versions).
    """

    format: int
    version: str
    #: identity of the job and of everything resumed from it
    job: str
    name: str
    attempt: int
    kind: str
    #: seconds since 1970
    saved: float
    workers: int
    servers: int
    chunk_bytes: int
    shards: int
    stores: tuple[SavedStore, ...]
    keys: tuple[KeyEntry, ...]
    parts: tuple[SavedPart, ...]

    def entry(self, key: int) -> KeyEntry:
        """The directory entry with this id."""
        return next(entry for entry in self.keys if entry.id == key)

    def dump(self) -> bytes:
        """As the bytes of a file, with a checksum of its own."""
        body = to_plain(self)
        text = json.dumps({"checksum": _checksum(body), **body}, indent=1)
        return text.encode() + b"\n"

    @property
    def steps(self) -> dict[int, int]:
        """The cut: step by store."""
        return {store.number: store.step for store in self.stores}


def _checksum(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def parse(content: bytes, name: str) -> Manifest:
    """A manifest from the bytes of its file.

    Raises
    ------
    FormatError
        It is damaged, of a newer format, or contradicts itself; names the file and the place.
    """
    if len(content) > MAX_BYTES:
        raise FormatError(f"{name}: longer than {MAX_BYTES} bytes; not a manifest")
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{name}: no JSON ({type(error).__name__}: {error!s:.80})") from None
    if not isinstance(body, dict) or type(body.get("format")) is not int:
        raise FormatError(f"{name}: not the manifest of a checkpoint")
    if not 1 <= body["format"] <= FORMAT:
        raise FormatError(
            f"{name}: checkpoint format {body['format']}; this kvtrain reads up to {FORMAT}"
        )
    stored = body.pop("checksum", None)
    if stored != _checksum(body):
        raise FormatError(f"{name}: damaged (its checksum does not match)")
    manifest = from_plain(Manifest, body, name)
    _check(manifest, name)
    return manifest


def _check(manifest: Manifest, name: str) -> None:
    """What types do not say."""
    if manifest.kind not in KINDS:
        raise FormatError(f"{name}: kind {manifest.kind!r}; known: {', '.join(KINDS)}")
    if not 1 <= manifest.shards <= 1 << 20:
        raise FormatError(f"{name}: {manifest.shards} shards")
    entries: dict[int, KeyEntry] = {}
    for entry in manifest.keys:
        spec = entry.spec
        if entry.id in entries:
            raise FormatError(f"{name}: key id {entry.id} is there twice")
        if spec.dtype not in DTYPES or any(n < 0 for n in spec.shape) or len(spec.shape) > 32:
            raise FormatError(f"{name}: key {spec.name!r} has {spec.describe()}")
        if entry.chunk_elements < 1 or not 0 <= entry.first_shard < manifest.shards:
            raise FormatError(f"{name}: key {spec.name!r} has an impossible layout")
        if entry.size > 1 << 48 or entry.chunks > 1 << 32:
            raise FormatError(f"{name}: key {spec.name!r} has {entry.size} elements")
        entries[entry.id] = entry
    seen: set[ChunkId] = set()
    for part in manifest.parts:
        if not _PART.fullmatch(part.file):
            raise FormatError(f"{name}: {part.file!r:.80} is no name of a part")
        for chunk in part.chunks:
            held = entries.get(chunk.key)
            if held is None or not 0 <= chunk.part < held.chunks or chunk in seen:
                raise FormatError(f"{name}: {part.file} holds {tuple(chunk)}, which is wrong")
            if held.shard(chunk.part, manifest.shards) != part.shard:
                raise FormatError(f"{name}: {part.file} holds a chunk of another shard")
            seen.add(chunk)
    wanted = sum(entry.chunks for entry in manifest.keys)
    if len(seen) != wanted:
        raise FormatError(f"{name}: {wanted - len(seen)} of {wanted} chunks are in no part")

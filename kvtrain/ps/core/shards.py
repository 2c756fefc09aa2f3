# SPDX-License-Identifier: Apache-2.0
"""Keys, chunks and shards: where each slice of a parameter lives.

A key's flat array is cut into chunks of equal length (the last may be shorter); chunk i lies
in shard ``(first_shard + i) % shards``. The layout is arithmetic on the directory entry, so
no table per chunk exists anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import NamedTuple

#: shards of a job: many more than servers, so that they can be dealt anew one by one
SHARDS = 64
#: dtypes that may travel and be stored
DTYPES = ("float32", "float64", "float16", "int8", "uint8", "int32", "int64", "bool")
#: most elements of one key
MOST = 1 << 48
ITEMSIZE = dict(zip(DTYPES, (4, 8, 2, 1, 1, 4, 8, 1), strict=True))


class ChunkId(NamedTuple):
    """A contiguous slice of a key's flat array."""

    key: int
    part: int


@dataclass(frozen=True, slots=True)
class KeySpec:
    """What a worker says about a key when it initialises it."""

    #: the user's name
    name: str
    #: True if the user's name was an int
    numeric: bool
    shape: tuple[int, ...]
    dtype: str
    storage: str = "default"
    #: True: never cut (its optimizer needs norms over the whole key)
    whole: bool = False
    #: "sync", "async" or "ssp"; empty: as the type of the store says
    consistency: str = ""
    #: description of the gradient codec; empty: none
    compression: str = ""
    #: how rows of a row-sparse key arise that nobody gave values; empty: as zeros
    initializer: str = ""

    def problem(self) -> str:
        """Why nobody can mean this; empty if it makes sense."""
        if self.dtype not in DTYPES:
            return f"key {self.name!r:.60} of unknown dtype {self.dtype!r:.20}"
        if len(self.shape) > 32 or any(n < 0 for n in self.shape) or prod(self.shape) > MOST:
            return f"key {self.name!r:.60} of shape {self.shape!s:.80}"
        return ""

    def describe(self) -> str:
        """``shape (2, 3), dtype float32, storage default``, for error texts."""
        more = {
            "consistency": self.consistency,
            "compression": self.compression,
            "initializer": self.initializer,
        }
        shown = "".join(f", {name} {value}" for name, value in more.items() if value)
        return f"shape {self.shape}, dtype {self.dtype}, storage {self.storage}{shown}"


@dataclass(frozen=True)
class KeyEntry:
    """A key in the directory."""

    id: int
    store: int
    spec: KeySpec
    #: elements of a full chunk
    chunk_elements: int
    first_shard: int
    #: chunks that the rows of a row-sparse key are dealt to; 0: the key is dense
    row_parts: int = 0

    def problem(self) -> str:
        """Why nobody can mean this; empty if it makes sense."""
        if self.chunk_elements < 1 or self.first_shard < 0 or self.id < 0:
            return f"key {self.spec.name!r:.60} with an impossible layout"
        return ""

    # worked out once: they are wanted several times in every round
    @cached_property
    def size(self) -> int:
        """Elements of the whole key."""
        return prod(self.spec.shape)

    @cached_property
    def chunks(self) -> int:
        """How many chunks the key has; an empty array has one."""
        return self.row_parts or max(1, -(-self.size // self.chunk_elements))

    def bounds(self, part: int) -> tuple[int, int]:
        """First and past-the-last element of chunk `part` in the flat array."""
        low = part * self.chunk_elements
        return low, min(low + self.chunk_elements, self.size)

    def shard(self, part: int, shards: int) -> int:
        """The shard in which chunk `part` lies."""
        return (self.first_shard + part) % shards

    @cached_property
    def ids(self) -> tuple[ChunkId, ...]:
        """Names of the chunks."""
        return tuple([ChunkId(self.id, i) for i in range(self.chunks)])

    def __iter__(self) -> Iterator[ChunkId]:
        return iter(self.ids)


def make_entry(
    id_: int, store: int, spec: KeySpec, chunk_bytes: int, first_shard: int, row_parts: int = 1
) -> KeyEntry:
    """Lay out a new key. A `whole` key is one chunk whatever its size; the rows of a row-sparse
    one are dealt to `row_parts` chunks, one for each server."""
    elements = max(1, chunk_bytes // ITEMSIZE[spec.dtype])
    if spec.whole:
        elements = max(1, prod(spec.shape))
    sparse = spec.storage == "row_sparse"
    return KeyEntry(
        id=id_,
        store=store,
        spec=spec,
        chunk_elements=elements,
        first_shard=first_shard,
        row_parts=max(1, min(row_parts, spec.shape[0])) if sparse else 0,
    )

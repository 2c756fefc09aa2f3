# SPDX-License-Identifier: Apache-2.0
"""Row-sparse keys: how rows are dealt to chunks, how they travel, how they arise.

Row r of a key with P chunks is row ``r // P`` of chunk ``r % P``: neighbours lie on different
servers, so a hot prefix loads all of them, and no directory per row exists. A chunk is a
*table* whose rows are all there, or one whose rows arise at the first push to them, each
drawn from (seed, key, row) alone; reading draws a row without keeping it, so nobody ever
holds the dense table. Row numbers are 64-bit everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from math import prod
from typing import Any

import numpy as np

from kvtrain.errors import ConfigError, KeyMismatch, RemoteProtocolError
from kvtrain.kernels import xp
from kvtrain.ps.core.shards import ITEMSIZE, ChunkId, KeyEntry

Array = np.ndarray[Any, Any]
#: wire code of packed rows
PACKED = 255
#: rows drawn at a time
DRAWN = 8192


# ---- where rows lie and how they travel --------------------------------------------------------


def row_width(entry: KeyEntry) -> int:
    """Elements of one row."""
    return prod(entry.spec.shape[1:])


def rows_in(entry: KeyEntry, part: int) -> int:
    """How many rows of the key lie in chunk `part`."""
    return (entry.spec.shape[0] - part + entry.row_parts - 1) // entry.row_parts


def deal(ids: Array, parts: int) -> list[tuple[Array | slice, Array]]:
    """For each chunk: which of the sorted `ids` it gets, and their numbers there."""
    if parts == 1:
        return [(slice(None), ids)]
    local = ids // parts
    home = ids - local * parts  # a remainder takes several times as long
    chosen = [np.flatnonzero(home == part) for part in range(parts)]
    return [(places, local[places]) for places in chosen]


class Dealer:
    """Deals, and remembers the last ids: rows that were pushed are often pulled next."""

    def __init__(self) -> None:
        self._last: tuple[Array, int, list[tuple[Array | slice, Array]]] | None = None

    def __call__(self, ids: Array, parts: int) -> list[tuple[Array | slice, Array]]:
        """As :func:`deal`; the result is not written."""
        last = self._last
        if parts == 1:
            return deal(ids, parts)
        if last is not None and last[1] == parts and np.array_equal(last[0], ids):
            return last[2]
        found = deal(ids, parts)
        self._last = (ids.copy(), parts, found)
        return found


@dataclass(frozen=True, slots=True)
class Placed:
    """Rows of a table (k, width) to which the rows of one chunk go."""

    table: Array
    places: Array

    def fits(self, array: Array) -> bool:
        """Whether an answer has as many elements, of this type."""
        size = self.places.size * self.table.shape[1]
        return array.shape == (size,) and bool(array.dtype == self.table.dtype)

    def fill(self, array: Array) -> None:
        """Put an answer to its places."""
        rows = np.asarray(array).reshape(self.places.size, self.table.shape[1])
        xp.put_rows(self.table, self.places, rows)


def pack(ids: Array, values: Array) -> Array:
    """Row numbers and rows (k, width) as bytes."""
    wire = np.empty(ids.nbytes + values.nbytes, np.uint8)
    pack_into(wire, ids, values)
    return wire


def pack_into(wire: Array, ids: Array, values: Array) -> None:
    """As :func:`pack`, into bytes that are there."""
    size = ids.nbytes
    wire[:size].view("<i8")[...] = ids
    wire[size:].view(values.dtype).reshape(values.shape)[...] = values


def pack_some(wire: Array, ids: Array, values: Array, places: Array | slice) -> None:
    """As :func:`pack_into` of ``values[places]``."""
    if isinstance(places, slice):
        pack_into(wire, ids, values[places])
        return
    size = ids.nbytes
    wire[:size].view("<i8")[...] = ids
    out = wire[size:].view(values.dtype).reshape(places.size, *values.shape[1:])
    xp.take_rows(values, places, out)


def unpack(wire: Array, width: int, dtype: Any) -> tuple[Array, Array]:
    """Row numbers (k,) and rows (k, width), as views of checked bytes."""
    kind = np.dtype(dtype)
    count = wire.size // (8 + width * kind.itemsize)
    ids = wire[: 8 * count].view("<i8")
    return ids, wire[8 * count :].view(kind).reshape(count, width)


def check_ids(entry: KeyEntry, part: int, ids: Array, what: str) -> None:
    """Raise RemoteProtocolError unless `ids` rise strictly within the chunk."""
    count = rows_in(entry, part)
    rising = ids.size < 2 or bool((ids[1:] > ids[:-1]).all())
    if ids.dtype != np.int64 or not rising or (ids.size and not 0 <= ids[0] <= ids[-1] < count):
        raise RemoteProtocolError(
            f"{what} of key {entry.spec.name!r}, chunk {part}: row numbers must be int64, rise "
            f"strictly and lie in 0..{count - 1}"
        )


def check_request(entry: KeyEntry, ids: Array, what: str) -> None:
    """Raise KeyMismatch unless a worker's row numbers rise strictly within the key."""
    rows = entry.spec.shape[0]
    rising = ids.size < 2 or bool((ids[1:] > ids[:-1]).all())
    if ids.dtype != np.int64 or not rising or (ids.size and not 0 <= ids[0] <= ids[-1] < rows):
        raise KeyMismatch(
            f"{what} of key {entry.spec.name!r}: row numbers must be int64, rise strictly and lie "
            f"in 0..{rows - 1}"
        )


def check_packed(entry: KeyEntry, chunk: ChunkId, code: int, wire: Array, what: str) -> None:
    """Raise RemoteProtocolError unless `wire` holds rows of the chunk."""
    size = 8 + row_width(entry) * ITEMSIZE[entry.spec.dtype]
    if code != PACKED or wire.dtype != np.uint8 or wire.ndim != 1 or wire.size % size:
        raise RemoteProtocolError(
            f"{what} of row-sparse key {entry.spec.name!r}: {wire.size} of {wire.dtype} under "
            f"code {code} are no rows of {size} bytes"
        )
    check_ids(entry, chunk.part, unpack(wire, row_width(entry), entry.spec.dtype)[0], what)


def first_values(entry: KeyEntry, array: Array) -> list[Array]:
    """What each chunk of a key is initialised with; of a row-sparse key packed rows."""
    if not entry.row_parts:
        return [array[slice(*entry.bounds(chunk.part))] for chunk in entry]
    ids, values = unpack(array, row_width(entry), entry.spec.dtype)
    return [pack(local, values[places]) for places, local in deal(ids, entry.row_parts)]


# ---- how rows arise ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RowInitializer:
    """First values of rows that nobody gave values: see kernels' ``draw_rows``."""

    kind: str = "constant"
    first: float = 0.0
    second: float = 0.0
    seed: int = 0

    def describe(self) -> str:
        """As text, for the directory."""
        return json.dumps([self.kind, self.first, self.second, self.seed])

    @classmethod
    def from_text(cls, text: str) -> RowInitializer:
        """Rebuild; an empty text means zeros."""
        if not text:
            return cls()
        try:
            kind, first, second, seed = json.loads(text)
            made = cls(str(kind), float(first), float(second), int(seed))
            made.drawer("", 1, np.float32)(np.zeros(1, np.int64))
        except (ValueError, TypeError, OverflowError):
            raise ConfigError(f"row initializer {text!r:.80}: not understood") from None
        return made

    def drawer(self, name: str, width: int, dtype: Any) -> Callable[[Array], Array]:
        """``rows of the key -> their first values`` for the key called `name`."""
        own = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
        seed = (self.seed * 0x9E3779B97F4A7C15 + own) & 0xFFFFFFFFFFFFFFFF

        def draw(rows: Array) -> Array:
            out = np.empty((len(rows), width), dtype)
            for low in range(0, len(rows), DRAWN):
                part = rows[low : low + DRAWN]
                out[low : low + DRAWN] = xp.draw_rows(
                    self.kind, self.first, self.second, part, width, seed, dtype
                )
            return out

        return draw

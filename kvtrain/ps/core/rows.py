# SPDX-License-Identifier: Apache-2.0
"""Row-sparse keys: how rows are dealt to chunks, how they travel, how a server holds them.

Row r of a key with P chunks is row ``r // P`` of chunk ``r % P``: neighbours lie on different
servers, so a hot prefix loads all of them, and no directory per row exists. A chunk is a
*table* whose rows are all there, or one whose rows arise at the first push to them, each
drawn from (seed, key, row) alone; reading draws a row without keeping it, so nobody ever
holds the dense table. Row numbers are 64-bit everywhere.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import prod
from typing import Any

import numpy as np

from kvtrain.errors import ConfigError, KeyMismatch, LocalProtocolError, RemoteProtocolError
from kvtrain.kernels import xp
from kvtrain.ps.core.row_index import RowIndex
from kvtrain.ps.core.shards import ITEMSIZE, ChunkId, KeyEntry
from kvtrain.ps.core.store import Arithmetic, Optimizers, StoredChunk

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
    home, local = ids % parts, ids // parts
    chosen = [np.flatnonzero(home == part) for part in range(parts)]
    return [(places, local[places]) for places in chosen]


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


# ---- a table -----------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class StoredRows(StoredChunk):
    """A chunk of a row-sparse key. Its weight has shape (room, width): all rows of the chunk, or
    room for those that have arisen so far."""

    #: rows of the chunk
    rows: int = 0
    #: which rows of the key they are: ``row * stride + start``
    start: int = 0
    stride: int = 1
    draw: Callable[[Array], Array] = field(default=lambda rows: np.empty((len(rows), 0)))
    #: places of the rows that have arisen; None: all are there, in order
    index: RowIndex | None = None
    #: rows that have not arisen are zeros, whatever the key's initializer says
    zeroed: bool = False

    @property
    def held(self) -> int:
        """Rows that take memory."""
        return len(self._weight) if self.index is None else self.index.count

    @property
    def width(self) -> int:
        """Elements of a row."""
        return int(self._weight.shape[1])

    def read(self, ids: Array, out: Array | None = None) -> Array:
        """Committed rows, flat (in `out`); rows that have not arisen are drawn and not kept."""
        if self._making:
            raise LocalProtocolError(f"{self.id}: version {self.version} is not committed yet")
        rows = np.empty(ids.size * self.width, self.dtype) if out is None else out
        rows = rows.reshape(ids.size, self.width)
        if self.index is None:
            xp.take_rows(self._weight, ids, rows)
            return rows.reshape(-1)
        places = self.index.find(ids)
        xp.take_rows(self._weight, np.maximum(places, 0), rows)
        missing = np.flatnonzero(places < 0)
        if missing.size:
            rows[missing] = self._drawn(ids[missing])
        return rows.reshape(-1)

    def committed(self, lend: bool = False) -> Array:
        """Refused: a table is read by rows, never as a whole."""
        raise LocalProtocolError(f"{self.id} holds rows of a row-sparse key; read them by number")

    def _drawn(self, ids: Array) -> Array:
        return self.draw(ids * self.stride + self.start)

    def places(self, ids: Array, state_of: Callable[[Array], tuple[Array, ...]]) -> Array:
        """Where `ids` are in the weight; those that have not arisen do now, with their state."""
        if self.index is None:
            return ids
        places = self.index.find(ids)
        missing = np.flatnonzero(places < 0)
        if missing.size:
            new = self.index.add(ids[missing])
            places[missing] = new
            self._make_room(self.index.count)
            values = self._drawn(ids[missing])
            xp.put_rows(self._weight, new, values)
            for table, fresh in zip(self.state or (), state_of(values), strict=False):
                xp.put_rows(table, new, fresh)
        return places

    def _make_room(self, count: int) -> None:
        # always more room than rows, so that an update of some rows is never one of the whole
        if count < len(self._weight):
            return
        room = count + count // 2 + 64
        self._weight = _longer(self._weight, room)
        if self.state is not None:
            self.state = tuple(_longer(array, room) for array in self.state)

    def _zero(self) -> None:
        self.draw = RowInitializer().drawer("", self.width, self.dtype)
        self.zeroed = True

    def image(self) -> tuple[list[Array], dict[str, Any]]:
        """As of a dense chunk; first the numbers of the rows, if not all are there."""
        ids = [] if self.index is None else [self.index.rows()]
        held = self.held
        state = None if self.state is None else [array[:held] for array in self.state]
        arrays = [*ids, self._weight[:held].ravel().copy()]
        arrays += [array.ravel().copy() for array in state or ()]
        shapes = None if state is None else [list(array.shape[1:]) for array in state]
        return arrays, {"shapes": shapes, "some": self.index is not None, "zeroed": self.zeroed}

    def restore(self, arrays: Sequence[Array], extra: Mapping[str, Any]) -> None:
        """Take over an image; raises ValueError if it does not fit."""
        self.begin()
        left, count = list(arrays), self.rows
        self.index = None
        if extra.get("some"):
            self.index, ids = RowIndex(), left.pop(0)
            count = len(ids)
            self.index.add(ids)
        if extra.get("zeroed"):
            self._zero()
        room = 0 if self.index is None else count // 2 + 64
        self._weight = _longer(left.pop(0).reshape(count, self.width), count + room)
        shapes = extra.get("shapes")
        self.state = None
        if shapes is not None:
            tables = [
                array.reshape([count, *map(int, shape)])
                for array, shape in zip(left, shapes, strict=True)
            ]
            self.state = tuple(_longer(table, count + room) for table in tables)
        self._making = False

    def checksum(self) -> int:
        """Of the rows that are there."""
        return zlib.crc32(np.ascontiguousarray(self._weight[: self.held]).view(np.uint8).data)

    def replace_rows(self, ids: Array, values: Array) -> None:
        """From now on these rows, and zeros elsewhere (a round without an optimizer)."""
        if self.index is None and len(ids) == self.rows:
            xp.put_rows(self._weight, ids, values)
            return
        self._zero()
        self.index = RowIndex()
        self._weight = np.empty((len(ids) + 64, self.width), self.dtype)
        self.state = None
        xp.put_rows(self._weight, self.index.add(ids), values)


def _longer(array: Array, room: int) -> Array:
    out = np.empty((room, *array.shape[1:]), array.dtype)
    out[: len(array)] = array
    return out


def make_rows(entry: KeyEntry, chunk: ChunkId, name: str | int, wire: Array) -> StoredRows:
    """A chunk at version 0, from rank 0's packed rows; the others arise by the initializer."""
    width, dtype = row_width(entry), np.dtype(entry.spec.dtype)
    ids, values = unpack(wire, width, dtype)
    count = rows_in(entry, chunk.part)
    initializer = RowInitializer.from_text(entry.spec.initializer)
    whole = len(ids) == count
    made = StoredRows(
        chunk,
        name,
        0,
        values.copy() if whole else np.empty((len(ids) + 64, width), dtype),
        rows=count,
        start=chunk.part,
        stride=entry.row_parts,
        draw=initializer.drawer(entry.spec.name, width, dtype),
        index=None if whole else RowIndex(),
    )
    if made.index is not None:
        xp.put_rows(made._weight, made.index.add(ids), values)
    return made


def check_lazy(entry: KeyEntry, stored: StoredRows, optimizers: Optimizers) -> None:
    """Raise KeyMismatch if the store's optimizer cannot update some rows of this table."""
    if not optimizers.installed:
        return
    optimizer: Any = optimizers.under({})
    if optimizer.lazy_rows or (stored.index is None and optimizer.blockwise):
        return
    raise KeyMismatch(
        f"push of row-sparse key {entry.spec.name!r}: optimizer {optimizers.name} does not "
        "update only the rows of a gradient (lazy_update=False, or none that can), as a table "
        "needs that is never held as a whole; use sgd, adam, adagrad or ftrl"
    )


class RowArithmetic:
    """Applies contributions to tables."""

    def __init__(self, arithmetic: Arithmetic) -> None:
        self._arithmetic = arithmetic

    def assign_sum(self, stored: StoredRows, arrays: Sequence[Array]) -> None:
        """Without an optimizer: the table becomes the ordered sum, zeros elsewhere."""
        stored.begin()
        if arrays:
            stored.replace_rows(*xp.merge_rows([self._open(stored, a) for a in arrays]))

    def reduce(
        self,
        stored: StoredRows,
        arrays: Sequence[Array],
        scales: Sequence[float | None],
        optimizers: Optimizers | None,
    ) -> tuple[Array | None, float | None]:
        """The sum in the order given as packed rows, for other servers."""
        if not arrays:
            return None, None
        scale, factors = self._arithmetic.scales(stored, scales, optimizers)
        parts = self._scaled([self._open(stored, array) for array in arrays], factors)
        return pack(*xp.merge_rows(parts)), scale

    def update(
        self,
        stored: StoredRows,
        arrays: Sequence[Array],
        scales: Sequence[float | None],
        optimizers: Optimizers,
        schedule_at: int | None,
    ) -> None:
        """Sum in the order given and run the optimizer on the rows of the sum."""
        stored.begin()
        optimizer: Any
        optimizer, hyper, factors = self._arithmetic.prepare(
            stored, stored._weight, arrays, scales, optimizers, schedule_at
        )
        if not arrays:
            return
        parts = self._scaled([self._open(stored, array) for array in arrays], factors)
        ids, total = xp.merge_rows(parts)
        if optimizer.lazy_rows:
            places = stored.places(ids, optimizer.state_arrays)
            optimizer.update_rows(stored._weight, places, total, stored.state, hyper)
            return
        dense = np.zeros_like(stored._weight)
        xp.put_rows(dense, ids, total)
        optimizer.update_block(stored._weight, dense, stored.state, hyper)

    @staticmethod
    def _scaled(
        parts: list[tuple[Array, Array]], factors: Sequence[float] | None
    ) -> list[tuple[Array, Array]]:
        if factors is None:
            return parts
        return [
            (ids, np.multiply(values, values.dtype.type(factor)))
            for (ids, values), factor in zip(parts, factors, strict=True)
        ]

    @staticmethod
    def _open(stored: StoredRows, array: Array) -> tuple[Array, Array]:
        return unpack(np.asarray(array), stored.width, stored.dtype)

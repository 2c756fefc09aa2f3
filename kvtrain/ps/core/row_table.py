# SPDX-License-Identifier: Apache-2.0
"""How a server holds the rows of a chunk: all of them, or those that have arisen."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvtrain.errors import LocalProtocolError
from kvtrain.kernels import xp
from kvtrain.ps.core.row_index import NUMBER, RowIndex
from kvtrain.ps.core.rows import RowInitializer, row_width, rows_in, unpack
from kvtrain.ps.core.shards import ChunkId, KeyEntry
from kvtrain.ps.core.store import StoredChunk

Array = np.ndarray[Any, Any]


class KeptRows:
    """Rows as they were at the start of a step, before the first round that changed them."""

    def __init__(self, width: int, dtype: np.dtype[Any]) -> None:
        self._index = RowIndex()
        self._values = np.empty((64, width), dtype)

    @property
    def nbytes(self) -> int:
        """Bytes that they take."""
        return self._index.nbytes + self._index.count * self._values[:1].nbytes

    def missing(self, ids: Array) -> Array:
        """Those of `ids` that are not kept yet."""
        return ids[self._index.find(ids) < 0] if self._index.count else ids

    def add(self, ids: Array, values: Array) -> None:
        """Keep rows, which are not kept yet."""
        places = self._index.add(ids)
        if self._index.count > len(self._values):
            self._values = _longer(self._values, self._index.count * 3 // 2)
        xp.put_rows(self._values, places, values)

    def put_into(self, ids: Array, rows: Array) -> None:
        """Of the present `rows` (k, width) with numbers `ids`, set back those that are kept."""
        places = self._index.find(ids)
        at = np.flatnonzero(places >= 0)
        if at.size:
            rows[at] = xp.take_rows(self._values, places[at])

    def image(self) -> list[Array]:
        """Numbers and values (flat), for another server."""
        return [self._index.rows(), self._values[: self._index.count].ravel().copy()]

    @classmethod
    def of_image(cls, arrays: Sequence[Array], width: int) -> KeptRows:
        """From an image."""
        ids, values = arrays
        made = cls(width, values.dtype)
        made.add(np.array(ids), values.reshape(-1, width))
        return made


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
    #: restart: rows from before the first round of the last step that closed (R25)
    kept: KeptRows | None = None

    @property
    def held(self) -> int:
        """Rows that take memory."""
        return len(self._weight) if self.index is None else self.index.count

    @property
    def width(self) -> int:
        """Elements of a row."""
        return int(self._weight.shape[1])

    def memory(self) -> tuple[int, int]:
        """Bytes of the rows that are there; bytes of their numbers and of rows that are kept."""
        numbers = 0 if self.index is None else self.index.nbytes
        kept = 0 if self.kept is None else self.kept.nbytes
        return self.held * self._row_bytes, numbers + kept

    def growth(self, ids: Array, restart: bool) -> tuple[int, int]:
        """By how much :meth:`memory` grows at most with a change of these rows."""
        new = 0 if self.index is None else int((self.index.find(ids) < 0).sum())
        kept = len(ids) if restart else 0
        return new * self._row_bytes, new * NUMBER + kept * (self._row_bytes + NUMBER)

    @property
    def _row_bytes(self) -> int:
        return self.width * self.dtype.itemsize

    def read(self, ids: Array, out: Array | None = None) -> Array:
        """Committed rows, flat (in `out`); rows that have not arisen are drawn and not kept."""
        if self._making:
            raise LocalProtocolError(f"{self.id}: version {self.version} is not committed yet")
        rows = None if out is None else out.reshape(ids.size, self.width)
        return self._present(ids, rows).reshape(-1)

    def _present(self, ids: Array, out: Array | None = None) -> Array:
        rows = np.empty((ids.size, self.width), self.dtype) if out is None else out
        if self.index is None:
            xp.take_rows(self._weight, ids, rows)
            return rows
        places = self.index.find(ids)
        xp.take_rows(self._weight, np.maximum(places, 0), rows)
        missing = np.flatnonzero(places < 0)
        if missing.size:
            rows[missing] = self._drawn(ids[missing])
        return rows

    def keep_from_here(self) -> None:
        """A step begins: what its rounds will change is kept as it is now."""
        self.kept = KeptRows(self.width, self.dtype)

    def before_step(self, ids: Array) -> Array:
        """Rows as :meth:`read` gives them, but from before the last step's first round."""
        flat = self.read(ids)
        if self.kept is not None:
            self.kept.put_into(ids, flat.reshape(ids.size, self.width))
        return flat

    def about_to_change(self, ids: Array | None = None) -> None:
        """These rows (None: all) change with the record in the making."""
        if self.kept is None:
            return
        if ids is None:
            ids = np.arange(self.rows) if self.index is None else self.index.rows()
        ids = self.kept.missing(ids)
        if ids.size:
            self.kept.add(ids, self._present(ids))

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
        self.about_to_change(arrays[0] if extra.get("some") else None)
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

    def put_states(self, ids: Array, arrays: Sequence[Array], optimizer: Any) -> None:
        """The optimizer's states of rows `ids`, flat; other rows have fresh ones."""
        self.state = None
        places = self.places(ids, optimizer.state_arrays)
        self.state = optimizer.state_arrays(self._weight)
        for table, given in zip(self.state, arrays, strict=False):
            xp.put_rows(table, places, given.reshape(ids.size, *table.shape[1:]))

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

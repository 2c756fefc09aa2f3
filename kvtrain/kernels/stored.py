# SPDX-License-Identifier: Apache-2.0
"""Arrays that are mostly zero, as they are stored: rows with their numbers, and CSR matrices.

Plain NumPy parts without context, tape or network. The parts of one are not written after it
was made, unless its owner says otherwise, so that several holders may share it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from kvtrain.kernels.numpy import rows

Array = np.ndarray[Any, Any]


class Rows:
    """Some rows of an array; all others are zero.

    Parameters
    ----------
    ids : array of int64, (n,)
        Row numbers; canonical if they rise strictly.
    values : array, (n, ...)
        The rows.
    shape : tuple of int
        Shape of the whole.
    """

    __slots__ = ("_ordered", "ids", "shape", "values")
    stype = "row_sparse"
    # ndarray + Rows asks Rows
    __array_ufunc__ = None

    def __init__(
        self, ids: Array, values: Array, shape: tuple[int, ...], ordered: bool = False
    ) -> None:
        self.ids = ids
        self.values = values
        self.shape = shape
        #: known to be canonical and in range
        self._ordered = ordered

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.values.dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions of the whole."""
        return len(self.shape)

    @classmethod
    def zeros(cls, shape: tuple[int, ...], dtype: Any) -> Rows:
        """No rows at all."""
        return cls(np.empty(0, np.int64), np.empty((0, *shape[1:]), dtype), shape)

    @classmethod
    def of(cls, raw: Array) -> Rows:
        """The rows of a dense array that have a value other than zero."""
        flat = raw.reshape(raw.shape[0], math.prod(raw.shape[1:]))
        ids = np.flatnonzero(flat.any(axis=1))
        return cls(ids, raw[ids], raw.shape)

    def dense(self) -> Array:
        """The whole, as a new array."""
        out = np.zeros(self.shape, self.values.dtype)
        if self.ids.size:
            self._check(self.ids.min(), self.ids.max())
            out[self.ids] = self.values
        return out

    def _check(self, low: int, high: int) -> None:
        if low < 0 or high >= self.shape[0]:
            raise ValueError(
                f"row {low if low < 0 else high} of a row_sparse array of shape {self.shape}"
            )

    def canonical(self) -> Rows:
        """Itself, or with the rows in order and those of one number added, in their order.

        Raises
        ------
        ValueError
            A row number is out of range.
        """
        ids = self.ids
        if self._ordered:
            return self
        if ids.size < 2 or (ids[1:] > ids[:-1]).all():
            if ids.size:
                self._check(ids[0], ids[-1])
            self._ordered = True
            return self
        self._check(ids.min(), ids.max())
        order = np.argsort(ids, kind="stable")
        ids = ids[order]
        starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
        values = self.values[order]
        if starts.size < ids.size:
            ids, values = ids[starts], np.add.reduceat(values, starts, axis=0)
        return Rows(ids, values, self.shape, ordered=True)

    def map(self, values: Array) -> Rows:
        """The same rows with other values."""
        return Rows(self.ids, values, self.shape, self._ordered)

    def take(self, ids: Array) -> Rows:
        """Rows `ids` (each in range, in any order); those that are not held are zero."""
        held = self.canonical()
        if held.ids.size == self.shape[0]:  # all rows are there
            return Rows(ids, rows.take_rows(held.values, ids), self.shape)
        values = np.zeros((ids.size, *self.shape[1:]), self.dtype)
        if held.ids.size:
            places = np.minimum(np.searchsorted(held.ids, ids), held.ids.size - 1)
            found = held.ids[places] == ids
            values[found] = held.values[places[found]]
        return Rows(ids, values, self.shape)

    def astype(self, dtype: Any) -> Rows:
        """Values in another type."""
        return self.map(self.values.astype(dtype))

    def copy(self) -> Rows:
        """A copy of all parts."""
        return Rows(self.ids.copy(), self.values.copy(), self.shape, self._ordered)

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Rows):
            return merge_rows([self, other])
        out = np.array(other)
        held = self.canonical()
        out[held.ids] += held.values
        return out

    __radd__ = __add__

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        out = self.dense()
        return out if dtype is None else out.astype(dtype, copy=False)

    def problem(self, full: bool = True) -> str | None:
        """What is wrong with the parts; None: nothing. Without `full` ids are not read."""
        ids = self.ids
        if ids.ndim != 1 or self.values.shape != (ids.size, *self.shape[1:]):
            return (
                f"indices of shape {ids.shape} and data of shape {self.values.shape} "
                f"do not make a row_sparse array of shape {self.shape}"
            )
        if full and ids.size:
            falls = (np.diff(ids) <= 0).any()
            if not falls and ids[0] >= 0 and ids[-1] < self.shape[0]:
                return None
            return (
                f"the indices of a row_sparse array of shape {self.shape} must be non-negative, "
                f"less than {self.shape[0]}, and in ascending order"
            )
        return None


def merge_rows(parts: Sequence[Rows]) -> Rows:
    """Sum of arrays of one shape, row by row, in the order given."""
    held = [part.canonical() for part in parts]
    if len(held) == 1:
        return held[0]
    ids, values = rows.merge_rows([(part.ids, part.values) for part in held])
    return Rows(ids, values, held[0].shape, ordered=True)


class Csr:
    """A matrix of which each row lists its non-zero elements.

    Parameters
    ----------
    data : array, (n,)
        Elements, row by row.
    indices : array of int64, (n,)
        Column of each element; canonical if they rise strictly within each row.
    indptr : array of int64, (rows + 1,)
        Where each row begins in `data`; the last is n.
    shape : (int, int)
    """

    __slots__ = ("data", "indices", "indptr", "shape")
    stype = "csr"
    __array_ufunc__ = None

    def __init__(self, data: Array, indices: Array, indptr: Array, shape: tuple[int, ...]) -> None:
        self.data = data
        self.indices = indices
        self.indptr = indptr
        self.shape = shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.data.dtype

    @property
    def ndim(self) -> int:
        """Two."""
        return len(self.shape)

    @classmethod
    def zeros(cls, shape: tuple[int, ...], dtype: Any) -> Csr:
        """No elements at all."""
        indptr = np.zeros(shape[0] + 1, np.int64)
        return cls(np.empty(0, dtype), np.empty(0, np.int64), indptr, shape)

    @classmethod
    def of(cls, raw: Array) -> Csr:
        """The elements of a dense matrix other than zero."""
        rows, columns = np.nonzero(raw)
        indptr = np.zeros(raw.shape[0] + 1, np.int64)
        np.cumsum(np.bincount(rows, minlength=raw.shape[0]), out=indptr[1:])
        return cls(raw[rows, columns], columns.astype(np.int64), indptr, raw.shape)

    @classmethod
    def from_places(cls, data: Array, rows: Array, columns: Array, shape: tuple[int, ...]) -> Csr:
        """From the row and column of each element; those of one place are added."""
        order = np.lexsort((columns, rows))
        data, rows, columns = data[order], rows[order], columns[order]
        if data.size > 1:
            fresh = np.r_[True, (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])]
            if not fresh.all():
                starts = np.flatnonzero(fresh)
                data = np.add.reduceat(data, starts)
                rows, columns = rows[starts], columns[starts]
        indptr = np.zeros(shape[0] + 1, np.int64)
        np.cumsum(np.bincount(rows, minlength=shape[0]), out=indptr[1:])
        return cls(data, columns.astype(np.int64), indptr, shape)

    def rows(self) -> Array:
        """Row of each element."""
        return np.repeat(np.arange(self.shape[0]), np.diff(self.indptr))

    def canonical(self) -> Csr:
        """Itself, or with the columns of each row in order and those of one place added.

        Raises
        ------
        ValueError
            The parts do not fit each other or the shape.
        """
        wrong = self.problem(full=False)
        if wrong is not None:
            raise ValueError(wrong)
        if self.indices.size and (self.indices.min() < 0 or self.indices.max() >= self.shape[1]):
            raise ValueError(f"a column out of range in a csr array of shape {self.shape}")
        rows = self.rows()
        if self.data.size > 1:
            step = np.diff(self.indices)
            if ((step <= 0) & (rows[1:] == rows[:-1])).any():
                return Csr.from_places(self.data, rows, self.indices, self.shape)
        return self

    def dense(self) -> Array:
        """The whole, as a new array."""
        out = np.zeros(self.shape, self.data.dtype)
        held = self.canonical()
        out[held.rows(), held.indices] = held.data
        return out

    def map(self, data: Array) -> Csr:
        """The same places with other values."""
        return Csr(data, self.indices, self.indptr, self.shape)

    def part(self, low: int, high: int) -> Csr:
        """Rows `low` to `high`."""
        at = self.indptr[low : high + 1]
        cut = slice(int(at[0]), int(at[-1]))
        return Csr(
            self.data[cut].copy(),
            self.indices[cut].copy(),
            at - at[0],
            (high - low, self.shape[1]),
        )

    def astype(self, dtype: Any) -> Csr:
        """Values in another type."""
        return self.map(self.data.astype(dtype))

    def copy(self) -> Csr:
        """A copy of all parts."""
        return Csr(self.data.copy(), self.indices.copy(), self.indptr.copy(), self.shape)

    def __add__(self, other: Any) -> Any:
        return self.dense() + np.asarray(other)

    __radd__ = __add__

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        out = self.dense()
        return out if dtype is None else out.astype(dtype, copy=False)

    def problem(self, full: bool = True) -> str | None:
        """What is wrong with the parts; None: nothing. Without `full` columns are not read."""
        data, indices, indptr = self.data, self.indices, self.indptr
        if len(self.shape) != 2 or data.ndim != 1 or data.shape != indices.shape:
            return (
                f"data of shape {data.shape} and indices of shape {indices.shape} do not make a "
                f"csr array of shape {self.shape}"
            )
        if indptr.shape != (self.shape[0] + 1,):
            return (
                f"indptr of shape {indptr.shape} for a csr array of shape {self.shape}: "
                f"{self.shape[0] + 1} values are needed"
            )
        if indptr[0] != 0 or indptr[-1] != data.size or (np.diff(indptr) < 0).any():
            return (
                "the indptr of a csr array must start with 0, not fall, and end with the number "
                f"of elements ({data.size})"
            )
        if full and indices.size:
            rows = self.rows()
            falls = (np.diff(indices) <= 0) & (rows[1:] == rows[:-1])
            if indices.min() < 0 or indices.max() >= self.shape[1] or falls.any():
                return (
                    f"the indices of a csr array of shape {self.shape} must be non-negative, "
                    f"less than {self.shape[1]}, and in ascending order within each row"
                )
        return None


Stored = Rows | Csr


#: storage types by name
STORAGE = ("csr", "default", "row_sparse")


def zeros_of(stype: str, shape: tuple[int, ...], dtype: Any) -> Any:
    """Zeros in storage `stype`; ValueError for an unknown one, or no matrix for ``'csr'``."""
    kind = np.dtype(dtype)
    if stype == "default":
        return np.zeros(shape, kind)
    if stype == "row_sparse":
        if not shape:
            raise ValueError("an array without dimensions has no rows")
        return Rows.zeros(shape, kind)
    if stype == "csr":
        if len(shape) != 2:
            raise ValueError(f"a csr array has two dimensions, not the shape {shape}")
        return Csr.zeros(shape, kind)
    raise ValueError(f"unknown storage type {stype!r}; known: {', '.join(STORAGE)}")


def dense(raw: Any) -> Any:
    """`raw` as a dense array; anything that is not stored sparsely as it is."""
    return raw.dense() if isinstance(raw, Rows | Csr) else raw


def cast_storage(raw: Any, stype: str) -> Any:
    """`raw` (dense or stored) in another storage; there is no way between the sparse two.

    Raises
    ------
    ValueError
        No such conversion.
    """
    held = raw.stype if isinstance(raw, Rows | Csr) else "default"
    if stype not in STORAGE:
        raise ValueError(f"storage type {stype!r}; known: {', '.join(STORAGE)}")
    if held == stype:
        return raw
    if stype == "default":
        return raw.dense()
    if held != "default":
        raise ValueError(f"cast_storage from {held} to {stype} is not supported")
    if stype == "csr":
        if raw.ndim != 2:
            raise ValueError(
                f"To convert to a CSR, the NDArray should be 2 Dimensional. Current shape is "
                f"{raw.shape}"
            )
        return Csr.of(raw)
    if raw.ndim < 1:
        raise ValueError(f"an array of shape {raw.shape} has no rows")
    return Rows.of(raw)

# SPDX-License-Identifier: Apache-2.0
"""Rows of tables: gathered, written, merged, drawn; blocked, a row moved as one item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
#: rows that are moved at a time: blocks fit the second-level cache
ROWS = 4096


def _items(table: Array) -> Array | None:
    """The table as one opaque item per row; None where its memory does not allow it."""
    if table.ndim < 1 or not table.flags.c_contiguous or table[:1].nbytes == 0:
        return None
    return table.reshape(len(table), -1).view(f"V{table[:1].nbytes}").reshape(-1)


def take_rows(table: Array, rows: Array, out: Array | None = None) -> Array:
    """``table[rows]``; the rows, int64 (k,), are in range."""
    if out is None:
        out = np.empty((len(rows), *table.shape[1:]), table.dtype)
    source, target = _items(table), _items(out)
    if source is None or target is None:
        np.take(table, rows, axis=0, mode="clip", out=out)
    else:
        np.take(source, rows, mode="clip", out=target)
    return out


def put_rows(table: Array, rows: Array, values: Array) -> None:
    """``table[rows] = values``; the rows are distinct and in range."""
    target = _items(table)
    source = _items(values) if values.dtype == table.dtype else None
    if source is None or target is None:
        table[rows] = values
    else:
        target[rows] = source


def add_rows(table: Array, rows: Array, values: Array) -> None:
    """``table[rows] += values``; the rows are distinct and in range."""
    scratch = np.empty((min(ROWS, len(rows)), *table.shape[1:]), table.dtype)
    for low in range(0, len(rows), ROWS):
        ids = rows[low : low + ROWS]
        part = take_rows(table, ids, scratch[: len(ids)])
        np.add(part, values[low : low + ROWS], out=part)
        put_rows(table, ids, part)


def merge_rows(parts: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """The sum of several sets of rows: row numbers, ascending, and for each the ordered sum.

    Parameters
    ----------
    parts : sequence of (int64 (k,), array (k, ...))
        Row numbers rise strictly in each. Contributions to a row are added in the order of
        `parts`, from the first one (so -0.0 is kept). Nothing of them is changed; with one
        part the result is that part.
    """
    if len(parts) == 1:
        return parts[0]
    every = np.concatenate([ids for ids, _ in parts])
    # runs that are sorted already: merging them is cheap for a stable sort
    order = np.argsort(every, kind="stable")
    inorder = every[order]
    first = np.empty(len(every), np.bool_)
    first[:1] = True
    np.not_equal(inorder[1:], inorder[:-1], out=first[1:])
    ids = inorder[first]
    place = np.empty(len(every), np.int64)
    place[order] = np.cumsum(first) - 1
    repeat = np.empty(len(every), np.bool_)
    repeat[order] = ~first
    values = parts[0][1]
    total = np.empty((len(ids), *values.shape[1:]), values.dtype)
    bounds = np.cumsum([0, *(len(rows) for rows, _ in parts)])
    # put last ones first, so that each row holds its first contribution; then add the others
    for i in range(len(parts) - 1, -1, -1):
        put_rows(total, place[bounds[i] : bounds[i + 1]], parts[i][1])
    for i in range(1, len(parts)):
        again = np.flatnonzero(repeat[bounds[i] : bounds[i + 1]])
        if again.size:
            add_rows(total, place[bounds[i] + again], take_rows(parts[i][1], again))
    return ids, total


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def _mixed(words: Array) -> Array:
    """The finaliser of SplitMix64 (Steele et al., 2014), in place."""
    spare = words >> np.uint64(30)
    words ^= spare
    words *= _MIX[0]
    np.right_shift(words, np.uint64(27), out=spare)
    words ^= spare
    words *= _MIX[1]
    np.right_shift(words, np.uint64(31), out=spare)
    words ^= spare
    return words


def _uniform01(rows: Array, width: int, seed: int, stream: int) -> Array:
    """One float64 in [0, 1) for each (seed, stream, row, column), whatever else is drawn."""
    start = _mixed(np.array([seed & 0xFFFFFFFFFFFFFFFF], np.uint64) + _GOLDEN)
    start = _mixed(start + np.uint64(stream) * _MIX[0])
    by_row = _mixed(rows.astype(np.uint64) * _GOLDEN + start)
    columns = np.arange(1, width + 1, dtype=np.uint64) * _GOLDEN
    return (_mixed(by_row[:, None] + columns) >> np.uint64(11)) * 2.0**-53


def draw_rows(
    kind: str, first: float, second: float, rows: Array, width: int, seed: int, dtype: Any
) -> Array:
    """First values of rows, each a function of (seed, row, column) only.

    Parameters
    ----------
    kind : str
        ``constant`` (value `first`), ``uniform`` (from `first` to `second`) or ``normal``
        (mean `first`, deviation `second`).
    rows : int64 (k,)
    """
    rows = np.ascontiguousarray(rows, np.int64)
    if kind == "constant":
        return np.full((len(rows), width), first, dtype)
    if kind == "uniform":
        drawn = _uniform01(rows, width, seed, 0)
        return (first + (second - first) * drawn).astype(dtype)
    if kind == "normal":
        radius = np.sqrt(-2.0 * np.log1p(-_uniform01(rows, width, seed, 0)))
        angle = 2.0 * np.pi * _uniform01(rows, width, seed, 1)
        return (first + second * radius * np.cos(angle)).astype(dtype)
    raise ValueError(f"draw_rows: {kind!r} is neither constant, uniform nor normal")

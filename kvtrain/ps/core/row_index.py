# SPDX-License-Identifier: Apache-2.0
"""Which rows of a table are there, and where."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
#: bytes that an index takes for a row at least: it is at most half full
NUMBER = 32


class RowIndex:
    """Row number -> place, for rows that are there: open addressing, in whole arrays."""

    def __init__(self) -> None:
        self._bits = 10
        self._keys = np.full(1 << self._bits, -1, np.int64)
        self._places = np.zeros(1 << self._bits, np.int64)
        self.count = 0

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return int(self._keys.nbytes + self._places.nbytes)

    def _home(self, ids: Array) -> Array:
        mixed = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        return (mixed >> np.uint64(64 - self._bits)).astype(np.int64)

    def find(self, ids: Array) -> Array:
        """Places of `ids`; -1 for those that are not there."""
        at = self._home(ids)
        held = self._keys[at]
        found = np.where(held == ids, self._places[at], -1)
        open_ = np.flatnonzero((held != ids) & (held >= 0))
        mask = len(self._keys) - 1
        while open_.size:
            at[open_] = (at[open_] + 1) & mask
            held, wanted = self._keys[at[open_]], ids[open_]
            hit = held == wanted
            found[open_[hit]] = self._places[at[open_[hit]]]
            open_ = open_[~hit & (held >= 0)]
        return found

    def add(self, ids: Array) -> Array:
        """Give the next places to `ids`, which are distinct and not there; returns them."""
        places = np.arange(self.count, self.count + len(ids))
        self.count += len(ids)
        if self.count * 2 > len(self._keys):
            self._grow()
        self._put(ids, places)
        return places

    def rows(self) -> Array:
        """The rows that are there, by place."""
        out = np.empty(self.count, np.int64)
        held = self._keys >= 0
        out[self._places[held]] = self._keys[held]
        return out

    def _put(self, ids: Array, places: Array) -> None:
        at, mask = self._home(ids), len(self._keys) - 1
        while ids.size:
            free = self._keys[at] < 0
            self._keys[at[free]] = ids[free]  # of several with one home, one gets it
            won = self._keys[at] == ids
            self._places[at[won]] = places[won]
            lost = ~won
            ids, places, at = ids[lost], places[lost], (at[lost] + 1) & mask

    def _grow(self) -> None:
        keys, places = self._keys, self._places
        while self.count * 2 > 1 << self._bits:
            self._bits += 1
        self._keys = np.full(1 << self._bits, -1, np.int64)
        self._places = np.zeros(1 << self._bits, np.int64)
        held = keys >= 0
        self._put(keys[held], places[held])

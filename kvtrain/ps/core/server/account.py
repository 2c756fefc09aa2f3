# SPDX-License-Identifier: Apache-2.0
"""What a server's memory holds, counted, and the limit that it keeps (``--server-memory``).

A server holds its weights, the optimizer's state, and at most one contribution per worker and
chunk. Contributions that are read in a worker's own memory take none here. With restart it keeps
the weights from before the last step, and of tables whose rows arise it knows their numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from kvtrain.errors import ServerMemoryExceeded
from kvtrain.ps.core.memory import LentArray
from kvtrain.ps.core.rounds import AsyncLedger, SyncLedger
from kvtrain.ps.core.store import BlockOptimizer

Array = np.ndarray[Any, Any]


class Account:
    """Bytes by what they are for."""

    def __init__(self) -> None:
        #: bytes that all of it may take; 0: no limit
        self.limit = 0
        self.name = ""
        self.weights = 0
        #: bytes of optimizer state, foreseen from the day the optimizer is set
        self.state = 0
        self.held = 0
        #: weights of before (restart), and numbers of rows
        self.kept = 0
        self.most = 0
        #: store -> bytes of its weights here, and bytes of state per byte of weight
        self._stores: dict[int, int] = {}
        self._ratios: dict[int, float] = {}

    @property
    def total(self) -> int:
        """Bytes of everything."""
        return self.weights + self.state + self.held + self.kept

    def new_weights(self, store: int, nbytes: int, kept: int = 0) -> None:
        """A chunk comes into being; ServerMemoryExceeded if there is no room for it."""
        self.check(store, nbytes, kept, "a new key")
        self.changed(store, nbytes, kept)

    def needs(self, store: int, nbytes: int, kept: int) -> int:
        """Bytes that new weights take with their state and what is kept of them."""
        return nbytes + int(nbytes * self._ratios.get(store, 0.0)) + kept

    def check(self, store: int, nbytes: int, kept: int, what: str) -> None:
        """ServerMemoryExceeded unless there is room for more weights and what is kept of them."""
        self._check(nbytes, int(nbytes * self._ratios.get(store, 0.0)), 0, what, kept)

    def changed(self, store: int, nbytes: int, kept: int) -> None:
        """Chunks of a store take so much more (less) than before."""
        before = self._stores.get(store, 0)
        ratio = self._ratios.get(store, 0.0)
        self._stores[store] = before + nbytes
        self.kept += kept
        self._add(nbytes, int((before + nbytes) * ratio) - int(before * ratio), 0)

    def gone(self, store: int, nbytes: int, kept: int, ledger: SyncLedger | AsyncLedger) -> None:
        """A chunk is held here no more, nor what was contributed to it."""
        self.changed(store, -nbytes, -kept)
        self._add(0, 0, -sum(map(private, ledger.arrays())))

    def new_optimizer(self, store: int, optimizer: BlockOptimizer) -> None:
        """An optimizer with states of its own; ServerMemoryExceeded if they have no room."""
        one = np.zeros((1, 1), np.float32)
        ratio = sum(part.nbytes for part in optimizer.state_arrays(one)) / one.nbytes
        weights = self._stores.get(store, 0)
        more = int(weights * ratio) - int(weights * self._ratios.get(store, 0.0))
        self._check(0, more, 0, "the optimizer's state")
        self._ratios[store] = ratio
        self._add(0, more, 0)

    def hold(self, array: Array | None) -> None:
        """A contribution is kept; ServerMemoryExceeded if there is no room for it."""
        size = private(array)
        if size:
            if self.limit:
                self._check(0, 0, size, "a contribution")
            self.held += size
            if self.total > self.most:
                self.most = self.total

    def has_room(self, size: int) -> bool:
        """Whether `size` bytes more are within the limit."""
        return not self.limit or not size or self.total + size <= self.limit

    def let_go(self, array: Array | None) -> None:
        """A contribution is in a record, or was not kept after all."""
        self.held -= private(array)

    def _check(self, weights: int, state: int, held: int, what: str, kept: int = 0) -> None:
        wanted = self.total + weights + state + held + kept
        if self.limit and wanted > self.limit:
            raise ServerMemoryExceeded(
                f"{self.name}: with {what} it needs {wanted:,} bytes, the limit is "
                f"{self.limit:,} (weights {self.weights + weights:,}, optimizer state "
                f"{self.state + state:,}, contributions {self.held + held:,}, kept for restart "
                f"and numbers of rows {self.kept + kept:,}); raise "
                "--server-memory or start more servers (-s)"
            )

    def _add(self, weights: int, state: int, held: int) -> None:
        self.weights += weights
        self.state += state
        self.held += held
        self.most = max(self.most, self.total)

    def recount(self, ledgers: Iterable[SyncLedger | AsyncLedger]) -> None:
        """Contributions of a lost worker were dropped: count what is left."""
        self.held = sum(sum(map(private, ledger.arrays())) for ledger in ledgers)

    def to_plain(self) -> dict[str, int]:
        """For statistics."""
        return {
            "memory_weights": self.weights,
            "memory_state": self.state,
            "memory_contributions": self.held,
            "memory_kept": self.kept,
            "memory_most": self.most,
            "memory_limit": self.limit,
        }


def private(array: Array | None) -> int:
    """Bytes of this process that an array takes."""
    return 0 if array is None or isinstance(array, LentArray) else int(array.nbytes)

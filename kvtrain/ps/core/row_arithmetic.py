# SPDX-License-Identifier: Apache-2.0
"""Contributions of rows, summed in rank order and applied to tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kvtrain.errors import KeyMismatch
from kvtrain.kernels import xp
from kvtrain.ps.core.row_table import StoredRows
from kvtrain.ps.core.rows import pack, unpack
from kvtrain.ps.core.shards import KeyEntry
from kvtrain.ps.core.store import Arithmetic, Optimizers

Array = np.ndarray[Any, Any]


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
        stored.about_to_change(ids if optimizer.lazy_rows else None)
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

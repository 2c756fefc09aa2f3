# SPDX-License-Identifier: Apache-2.0
"""Tables of one process whose rows arise at the first push to them."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.errors import ConfigError
from kvtrain.kvstore.base import Key
from kvtrain.optimizer import Updater
from kvtrain.ps.core.row_arithmetic import RowArithmetic
from kvtrain.ps.core.row_table import StoredRows, make_rows
from kvtrain.ps.core.rows import RowInitializer, pack
from kvtrain.ps.core.shards import ChunkId, KeySpec, make_entry
from kvtrain.ps.core.store import Arithmetic

Array = np.ndarray[Any, Any]


class _OneOptimizer:
    """The store's own optimizer, as tables ask for it; it is changed in place."""

    def __init__(self, optimizer: Any) -> None:
        self.number = 1
        self._optimizer = optimizer

    def under(self, changes: Any) -> Any:
        return self._optimizer


class Table:
    """One key: its rows arise by `rows`, but for the `first` ones, given by number and value."""

    def __init__(
        self,
        key: Key,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        rows: RowInitializer,
        first: tuple[Array, Array] | None = None,
    ) -> None:
        spec = KeySpec(
            name=str(key),
            numeric=isinstance(key, int),
            shape=shape,
            dtype=dtype.name,
            storage="row_sparse",
            initializer=rows.describe(),
        )
        self.shape, self.dtype = shape, dtype
        self._arithmetic = RowArithmetic(Arithmetic())
        entry = make_entry(0, 0, spec, 1 << 20, 0)
        ids, values = first or (np.empty(0, np.int64), np.empty((0, 1), dtype))
        self.stored: StoredRows = make_rows(entry, ChunkId(0, 0), key, pack(ids, values))

    def push(self, key: Key, ids: Array, values: Array, updater: Any) -> None:
        """One update of the rows `ids`, or without an optimizer their new values."""
        wire, stored = pack(ids, values), self.stored
        if updater is None:
            self._arithmetic.assign_sum(stored, [wire])
        elif not isinstance(updater, Updater):
            raise ConfigError(
                f"push of key {key!r}: a table whose rows arise at first touch takes an optimizer "
                "(set_optimizer), not a function"
            )
        else:
            optimizer: Any = updater.optimizer
            if not optimizer.lazy_rows:
                raise ConfigError(
                    f"push of key {key!r}: {type(optimizer).__name__} does not update only the "
                    "rows of a gradient; use sgd, adam, adagrad or ftrl"
                )
            one: Any = _OneOptimizer(optimizer)
            self._arithmetic.update(stored, [wire], [None], one, None)
        stored.commit(stored.version + 1)

    def read(self, ids: Array) -> Array:
        """Rows (k, ...)."""
        return self.stored.read(ids).reshape(len(ids), *self.shape[1:])

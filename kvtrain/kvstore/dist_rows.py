# SPDX-License-Identifier: Apache-2.0
"""Row-sparse keys of a job's store."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.errors import KeyMismatch, KeyNotInitialized, NonFiniteGradient
from kvtrain.kernels.stored import Rows
from kvtrain.kvstore.base import Key
from kvtrain.kvstore.rows import is_sparse, merged
from kvtrain.kvstore.waiting import Waiting
from kvtrain.ndarray import NDArray
from kvtrain.ps.core import requests as r
from kvtrain.ps.net.client import WorkerNode

Array = np.ndarray[Any, Any]


class DistRows:
    """Pushes and pulls rows of the row-sparse keys of one store."""

    def __init__(self, node: WorkerNode, store: int, check_finite: bool) -> None:
        self._node = node
        self._store = store
        self._finite = check_finite
        self.shapes: dict[Key, tuple[tuple[int, ...], np.dtype[Any]]] = {}
        #: tables that are never held as a whole
        self.drawn: set[Key] = set()

    def push(
        self, key: Key, given: list[NDArray] | None, priority: int, rescale_grad: float | None
    ) -> None:
        """Contribute the sum of row-sparse arrays; None is a contribution without rows."""
        shape, dtype = self.shapes[key]
        if given:
            ids, values = merged(given)
            if self._finite and values.dtype.kind == "f" and not np.isfinite(values).all():
                step, n = self._node.round_of(self._store, str(key))
                raise NonFiniteGradient(
                    f"push of key {key!r} by worker-{self._node.rank} in round (step {step}, push "
                    f"{n}): {int((~np.isfinite(values)).sum())} of {values.size} elements of its "
                    "rows are NaN or infinite"
                )
        else:
            width = int(np.prod(shape[1:], dtype=np.int64))
            ids, values = np.empty(0, np.int64), np.empty((0, width), dtype)
        request = r.RowPushRequest(
            self._store, str(key), ids, values, priority, rescale_grad, empty=not given
        )
        self._node.submit(request, detached=True)

    def pull(self, key: Key, targets: list[NDArray], ids: Array) -> None:
        """Read rows into row-sparse targets, or the whole into dense ones."""
        if key not in self.shapes:
            raise KeyNotInitialized(
                f"row_sparse_pull of key {key!r}: this worker (rank {self._node.rank}) has not "
                "initialised it; call kv.init or kv.init_row_sparse first, on every worker"
            )
        shape, dtype = self.shapes[key]
        values = np.empty((len(ids), *shape[1:]), dtype)
        request = r.RowPullRequest(self._store, str(key), ids, values.reshape(-1))
        waiting = Waiting(self._node, self._node.submit(request))

        def arrived() -> Array:
            waiting.wait()
            return values

        for i, target in enumerate(targets):
            target._set_pending(_filler(arrived, target, ids, i > 0))

    def pull_all(self, key: Key, targets: list[NDArray]) -> None:
        """Read every row; refused for a table whose rows arise at first touch."""
        if key in self.drawn:
            raise KeyMismatch(
                f"pull of key {key!r}: its table is never held as a whole; use row_sparse_pull"
            )
        self.pull(key, targets, np.arange(self.shapes[key][0][0]))


def _filler(arrived: Any, target: Any, ids: Array, copy: bool) -> Any:
    def fill() -> None:
        values = arrived()
        if is_sparse(target):
            rows = Rows(ids, values, target.shape)
            target._set_parts(rows.copy() if copy else rows)
        else:
            np.copyto(target._fill(), values)

    return fill

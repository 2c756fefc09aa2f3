# SPDX-License-Identifier: Apache-2.0
"""Arguments of ``row_sparse_pull``: which rows go into which array."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.errors import KeyMismatch
from kvtrain.ndarray import NDArray


def _numbers(key: Any, array: NDArray, row_id: Any) -> Any:
    """Sorted, distinct row numbers for one array."""
    what = f"row_sparse_pull of key {key!r}"
    if array.stype != "row_sparse":
        raise KeyMismatch(f"{what}: out must be row_sparse, got storage type {array.stype}")
    if not isinstance(row_id, NDArray):
        raise KeyMismatch(f"{what}: row_ids must be NDArrays, got {type(row_id).__name__}")
    ids = np.unique(row_id._read()).astype(np.int64)
    if ids.size and (ids[0] < 0 or ids[-1] >= array.shape[0]):
        wrong = ids[0] if ids[0] < 0 else ids[-1]
        raise KeyMismatch(f"{what}: row {wrong}; the key has rows 0 to {array.shape[0] - 1}")
    return ids


def rows_for(keys: list[Any], outs: list[list[NDArray]], row_ids: Any) -> list[list[Any]]:
    """Row numbers for each array of `outs`, in its nesting.

    Parameters
    ----------
    row_ids : NDArray or (nested) list of NDArray
        One for all arrays, one per array, or for several keys one (or a list) per key.

    Raises
    ------
    KeyMismatch
        See :meth:`kvtrain.kvstore.KVStore.row_sparse_pull`.
    """
    if not isinstance(row_ids, list | tuple):
        given = [[row_ids] * len(arrays) for arrays in outs]
    elif len(keys) == 1 and not any(isinstance(r, list | tuple) for r in row_ids):
        given = [list(row_ids) * (len(outs[0]) if len(row_ids) == 1 else 1)]
    else:
        given = [
            list(part) if isinstance(part, list | tuple) else [part] * len(arrays)
            for part, arrays in zip(row_ids, outs, strict=False)
        ]
    if [len(part) for part in given] != [len(arrays) for arrays in outs]:
        raise KeyMismatch(
            f"row_sparse_pull: {sum(len(arrays) for arrays in outs)} arrays and "
            f"{sum(len(part) for part in given)} row_ids; give one for all, or one for each"
        )
    return [
        [_numbers(key, array, row_id) for array, row_id in zip(arrays, part, strict=True)]
        for key, arrays, part in zip(keys, outs, given, strict=True)
    ]

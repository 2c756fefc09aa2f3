# SPDX-License-Identifier: Apache-2.0
"""What users say about rows: their numbers, their gradients, how they arise."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from kvtrain import initializer as init
from kvtrain.errors import ConfigError, KeyMismatch
from kvtrain.kernels import xp
from kvtrain.kernels.stored import Rows
from kvtrain.ndarray import NDArray
from kvtrain.ps.core.rows import RowInitializer

Array = np.ndarray[Any, Any]


def _numbers(key: Any, array: NDArray, row_id: Any) -> Any:
    """Sorted, distinct row numbers for one array."""
    what = f"row_sparse_pull of key {key!r}"
    if array.stype != "row_sparse":
        raise KeyMismatch(f"{what}: out must be row_sparse, got storage type {array.stype}")
    if not isinstance(row_id, NDArray):
        raise KeyMismatch(f"{what}: row_ids must be NDArrays, got {type(row_id).__name__}")
    if row_id.stype != "default":
        raise KeyMismatch(f"{what}: row_ids must be dense, got storage type {row_id.stype}")
    raw = row_id._read().reshape(-1)
    if raw.dtype.kind == "f":  # MXNet's examples give them as float32
        whole = np.isfinite(raw) & (raw == np.floor(raw))
        if not whole.all():
            raise KeyMismatch(
                f"{what}: {raw[~whole][0]} is no whole number; use row ids of dtype int64"
            )
    elif raw.dtype.kind not in "iu":
        raise KeyMismatch(f"{what}: row ids of dtype {raw.dtype}; use int64")
    ids = raw.astype(np.int64)
    if ids.size > 1 and not (ids[1:] > ids[:-1]).all():
        ids = np.unique(ids)
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


def is_sparse(array: NDArray) -> bool:
    """Whether an array is stored by rows."""
    return bool(array.stype == "row_sparse")


def rows_of(array: Any) -> tuple[Array, Array]:
    """Row numbers, rising, and rows (k, width) of a row-sparse array.

    Raises
    ------
    KeyMismatch
        A row number is out of range.
    """
    try:
        parts: Rows = array._parts().canonical()
    except ValueError as error:
        raise KeyMismatch(str(error)) from None
    width = prod(parts.shape[1:])
    values = np.ascontiguousarray(parts.values).reshape(len(parts.ids), width)
    return np.ascontiguousarray(parts.ids, np.int64), values


def merged(arrays: list[NDArray]) -> tuple[Array, Array]:
    """The ordered sum of row-sparse arrays: row numbers, rising, and rows."""
    found: tuple[Array, Array] = xp.merge_rows([rows_of(array) for array in arrays])
    return found


def check_storage(key: Any, arrays: list[NDArray], sparse: bool, what: str) -> None:
    """Raise KeyMismatch where storage types are mixed."""
    for array in arrays:
        if is_sparse(array) != sparse or array.stype not in ("default", "row_sparse"):
            raise KeyMismatch(
                f"{what} of key {key!r}: got a {array.stype} array, the key is "
                f"{'row_sparse' if sparse else 'dense'}; convert with "
                f"tostype({'row_sparse' if sparse else 'default'!r}), or initialise the key with "
                "an array of that storage"
            )


def row_initializer(given: Any, shape: tuple[int, ...], seed: int) -> RowInitializer:
    """How the rows of a table arise.

    Raises
    ------
    ConfigError
        An initializer that cannot be evaluated row by row; lists those that can.
    """
    made = init.create(given) if isinstance(given, str) else given
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ConfigError(f"init_row_sparse: seed={seed!r} is no whole number")
    match made:
        case init.Zero():
            return RowInitializer()
        case init.One():
            return RowInitializer("constant", 1.0)
        case init.Constant() if isinstance(made.value, int | float):
            return RowInitializer("constant", float(made.value))
        case init.Uniform():
            return RowInitializer("uniform", -made.scale, made.scale, seed)
        case init.Normal():
            return RowInitializer("normal", 0.0, made.sigma, seed)
        case init.Xavier():
            return _xavier(made, shape, seed)
    raise ConfigError(
        f"init_row_sparse: {given!r} cannot be evaluated row by row; known: zeros, ones, "
        "Constant of a number, Uniform, Normal, Xavier"
    )


def _xavier(made: Any, shape: tuple[int, ...], seed: int) -> RowInitializer:
    fan_in, fan_out = float(prod(shape[1:])), float(shape[0] * prod(shape[2:]))
    factor = {"avg": (fan_in + fan_out) / 2.0, "in": fan_in, "out": fan_out}[made.factor_type]
    scale = float(np.sqrt(made.magnitude / factor))
    if made.rnd_type == "uniform":
        return RowInitializer("uniform", -scale, scale, seed)
    return RowInitializer("normal", 0.0, scale, seed)

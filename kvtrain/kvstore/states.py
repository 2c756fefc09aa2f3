# SPDX-License-Identifier: Apache-2.0
"""Optimizer states of a job's servers in the file format of :class:`kvtrain.optimizer.Updater`."""

from __future__ import annotations

import os
import secrets
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np

from kvtrain.context import cpu
from kvtrain.errors import FormatError
from kvtrain.kernels.stored import Rows, dense
from kvtrain.ndarray import NDArray
from kvtrain.ndarray.stored.array import raw_of, wrap
from kvtrain.optimizer import Optimizer, Updater, bridge
from kvtrain.ps.core import requests as r
from kvtrain.ps.net.client import WorkerNode

Shapes = dict[Any, tuple[tuple[int, ...], np.dtype[Any]]]


def _like(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Something of a weight's shape and dtype that takes no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def _in_shape(array: Any, shape: tuple[int, ...]) -> Any:
    """A flat state in the weight's shape, or with one number per row."""
    if array.size == int(np.prod(shape)):
        return array.reshape(shape)
    return array.reshape(shape[0], -1) if shape and array.size % shape[0] == 0 else array


def _by_rows(rows: Any, array: Any, shape: tuple[int, ...]) -> Any:
    """Flat states of rows: a whole array where all rows are there, else a row-sparse one."""
    width = array.size // rows.size if rows.size else int(np.prod(shape[1:], dtype=np.int64))
    rest = shape[1:] if width == int(np.prod(shape[1:], dtype=np.int64)) else (width,)
    values = array.reshape(rows.size, *rest)
    if rows.size == shape[0]:
        return NDArray(values, cpu())
    return wrap(Rows(rows, values, (shape[0], *rest)), cpu())


def _rows_and_flat(arrays: list[Any], count: int) -> tuple[Any, list[Any]]:
    """The rows of some states, and their values, flat."""
    parts = [raw_of(array) for array in arrays]
    found = [p.canonical() for p in parts if isinstance(p, Rows)]
    if not found:
        return np.arange(count), [np.ascontiguousarray(p).reshape(-1) for p in parts]
    rows = np.unique(np.concatenate([p.ids for p in found]))
    return rows, [
        np.ascontiguousarray(p.take(rows).values if isinstance(p, Rows) else p[rows]).reshape(-1)
        for p in parts
    ]


def save(
    node: WorkerNode,
    store: int,
    shapes: Shapes,
    optimizer: Optimizer,
    fname: str | os.PathLike[str],
    dump_optimizer: bool,
) -> None:
    """Write a file of all keys' states; whole or not at all.

    A row-sparse key's have the storage of the key: rows, of those that have arisen.
    """
    names = {str(key): key for key in shapes}
    updater = Updater(Optimizer.from_config(*optimizer.to_config()))
    made = updater.optimizer
    counts = made._index_update_count
    for key in node.call(r.ReadStatesRequest(store)):
        if not key.updates:
            continue
        shape, dtype = shapes[names[key.name]]
        if key.rows is None:
            arrays = [NDArray(_in_shape(array, shape), cpu()) for array in key.arrays]
        else:
            arrays = [_by_rows(key.rows, array, shape) for array in key.arrays]
        updater.states[names[key.name]] = bridge.nested(made, _like(shape, dtype), arrays)
        counts[names[key.name]] = made.begin_num_update + key.updates
    made.num_update = max([made.begin_num_update, *counts.values()])
    path = Path(fname)
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        fresh.write_bytes(updater.get_states(dump_optimizer))
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def load(
    node: WorkerNode,
    store: int,
    shapes: Shapes,
    sparse: Container[Any],
    optimizer: Optimizer,
    fname: str | os.PathLike[str],
) -> Optimizer:
    """Install the file's optimizer (the present one if it has none) and its states.

    `sparse` are the keys that are row-sparse.
    """
    updater = Updater(Optimizer.from_config(*optimizer.to_config()))
    updater.set_states(Path(fname).read_bytes())
    loaded = updater.optimizer
    if type(loaded) is not type(optimizer):
        raise FormatError(
            f"{os.fspath(fname)}: states of {type(loaded).__name__}; this store runs "
            f"{type(optimizer).__name__}"
        )
    counts = max(loaded._all_index_update_counts.values(), key=len, default={})
    by_index = {i: getattr(p, "name", i) for i, p in optimizer.param_dict.items()}
    found = {}
    for index, state in updater.states.items():
        key = index if index in shapes else by_index.get(index, index)
        found[key] = state, counts.get(index, loaded.num_update)
    loaded.param_dict = optimizer.param_dict
    # the schedule goes on where it was, whatever step the job is in
    name, config = loaded.to_config()
    begin = loaded.num_update - node.step_of(store)
    config["begin_num_update"] = begin
    made: Optimizer = Optimizer.from_config(name, config)
    made.param_dict = optimizer.param_dict
    keys = []
    for key, (state, count) in found.items():
        shape, dtype = shapes.get(key, ((), np.dtype(np.float32)))
        arrays = bridge.unnested(made, _like(shape, dtype), state)
        wanted = len(made.state_arrays(np.zeros((1,) * len(shape), dtype)))
        if len(arrays) != wanted:
            raise FormatError(
                f"{os.fspath(fname)}: {len(arrays)} arrays of state for key {key!r}; this "
                f"{name} has {wanted}"
            )
        rows = None
        if key in sparse:
            rows, parts = _rows_and_flat(arrays, shape[0])
        else:
            parts = [np.ascontiguousarray(dense(raw_of(a))).reshape(-1) for a in arrays]
        keys.append(r.KeyStates(str(key), count - begin, tuple(parts), rows))
    node.call(r.SetOptimizerRequest(store, name, config))
    if node.rank == 0:
        node.call(r.WriteStatesRequest(store, tuple(keys)))
    return made

# SPDX-License-Identifier: Apache-2.0
"""Optimizer states of a job's servers in the file format of :class:`kvtrain.optimizer.Updater`."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np

from kvtrain.context import cpu
from kvtrain.errors import ConfigError, FormatError
from kvtrain.ndarray import NDArray
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


def save(
    node: WorkerNode,
    store: int,
    shapes: Shapes,
    optimizer: Optimizer,
    fname: str | os.PathLike[str],
    dump_optimizer: bool,
) -> None:
    """Write a file of all dense keys' states; whole or not at all."""
    names = {str(key): key for key in shapes}
    updater = Updater(Optimizer.from_config(*optimizer.to_config()))
    made = updater.optimizer
    counts = made._index_update_count
    for key in node.call(r.ReadStatesRequest(store)):
        if not key.updates:
            continue
        shape, dtype = shapes[names[key.name]]
        arrays = [NDArray(_in_shape(array, shape), cpu()) for array in key.arrays]
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
    optimizer: Optimizer,
    fname: str | os.PathLike[str],
) -> Optimizer:
    """Install the file's optimizer (the present one if it has none) and its states."""
    if node.replicas:
        raise ConfigError(
            "load_optimizer_states: states cannot be written to servers with replicas; go on from "
            "a checkpoint instead (kvtrain launch --resume DIR)"
        )
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
        parts = tuple(np.ascontiguousarray(a._read()).reshape(-1) for a in arrays)
        keys.append(r.KeyStates(str(key), count - begin, parts))
    node.call(r.SetOptimizerRequest(store, name, config))
    if node.rank == 0:
        node.call(r.WriteStatesRequest(store, tuple(keys)))
    return made

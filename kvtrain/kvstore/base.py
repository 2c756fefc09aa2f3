# SPDX-License-Identifier: Apache-2.0
"""What all stores share: keys, arguments, MXNet's methods."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kvtrain import compression
from kvtrain.errors import CheckpointError, ConfigError, KeyMismatch
from kvtrain.kvstore.consistency import Consistency
from kvtrain.kvstore.plugin import KVStoreBase
from kvtrain.kvstore.rows import row_initializer, rows_for
from kvtrain.ndarray import NDArray
from kvtrain.optimizer import Optimizer, Updater, get_updater
from kvtrain.ps.core.rows import RowInitializer

Key = str | int
Updating = Callable[[Any, NDArray, NDArray], None]


class KVStore(KVStoreBase, ABC):
    """Key-value store of arrays, shared by contexts or by the workers of a job.

    Made by :func:`kvtrain.kv.create`. A key is a str or an int, one kind per store. Values are
    one NDArray, or a list of NDArrays (one per context) whose sum is meant; several keys go
    with a list of values.
    """

    def __init__(self, name: str) -> None:
        self._type = name
        self._updater: Any = None
        self._numeric: bool | None = None
        self._codec: compression.Compressor | None = None
        self._consistency, self._steps = Consistency(""), 0
        #: names of the keys that were initialised
        self._names: list[str] = []

    # ---- what it is -----------------------------------------------------------------------

    @property
    def type(self) -> str:
        """The type name that it was created with."""
        return self._type

    @property
    def rank(self) -> int:
        """Rank of this worker, from 0."""
        return 0

    @property
    def num_workers(self) -> int:
        """Number of workers."""
        return 1

    @property
    def resume_step(self) -> int:
        """The step at which this script begins: 0, or where it goes on: after ``--resume``, when
        started again by ``--on-worker-loss restart``, and when it joined the running job."""
        return 0

    def is_capable(self, capability: str) -> bool:
        """Whether the store can run an optimizer (``"optimizer"``)."""
        if str(capability).lower() != "optimizer":
            raise ConfigError(f"unknown capability {capability!r}; known: optimizer")
        return True

    # ---- arrays ---------------------------------------------------------------------------

    @abstractmethod
    def _init(self, keys: list[Key], values: list[NDArray]) -> None: ...

    @abstractmethod
    def _push(
        self,
        keys: list[Key],
        values: Sequence[list[NDArray] | None],
        outs: list[list[NDArray]] | None,
        priorities: list[int],
        rescale_grad: float | None,
    ) -> None: ...

    @abstractmethod
    def _pull(self, keys: list[Key], outs: list[list[NDArray]], priorities: list[int]) -> None: ...

    def init(self, key: Any, value: Any) -> None:
        """Give keys their first values; once per key.

        Parameters
        ----------
        key : str, int or list of them
        value : NDArray or list of NDArray
            In a job every worker calls it and rank 0's values count.

        Raises
        ------
        KeyAlreadyInitialized
            This worker has initialised the key before.
        KeyMismatch
            Another worker initialised it with another shape, dtype or storage.
        """
        keys, values = self._pairs(key, value, "init")
        self._init(keys, [parts[0] for parts in values])
        self._names += [str(name) for name in keys]

    def push(
        self, key: Any, value: Any, priority: int = 0, *, rescale_grad: float | None = None
    ) -> None:
        """Add arrays to keys, or hand them to the updater.

        Parameters
        ----------
        value : NDArray, list of NDArray, or a list of those for a list of keys
            Arrays in a list for one key are summed in their order.
        priority : int
            Higher ones are sent first.
        rescale_grad : float, optional
            Factor that the servers' optimizer applies to this contribution.
        """
        keys, values = self._merged(*self._pairs(key, value, "push"))
        self._push(keys, values, None, [priority] * len(keys), rescale_grad)

    def pull(
        self, key: Any, out: Any = None, priority: int = 0, ignore_sparse: bool = True
    ) -> None:
        """Read keys into arrays, after this worker's own pushes so far.

        The arrays are pending until their first use, which waits.

        Parameters
        ----------
        ignore_sparse : bool
            Leave sparse arrays alone, for which :meth:`row_sparse_pull` is meant.
        """
        if out is None:
            raise ConfigError("pull: out must be given")
        keys, outs = self._merged(*self._pairs(key, out, "pull"))
        if ignore_sparse:
            outs = [[array for array in targets if not array._sparse] for targets in outs]
            keys = [name for name, targets in zip(keys, outs, strict=True) if targets]
            outs = [targets for targets in outs if targets]
        self._pull(keys, outs, [priority] * len(keys))

    def pushpull(self, key: Any, value: Any, out: Any = None, priority: int = 0) -> None:
        """Push, then pull the result, in one trip; without `out` into `value` itself."""
        keys, values = self._merged(*self._pairs(key, value, "pushpull"))
        if out is None:
            outs = values
        else:
            _, outs = self._merged(*self._pairs(key, out, "pushpull"))
        self._push(keys, values, outs, [priority] * len(keys), None)

    def broadcast(self, key: Any, value: Any, out: Any, priority: int = 0) -> None:
        """Initialise keys, then pull rank 0's values into `out`."""
        self.init(key, value)
        self.pull(key, out, priority, ignore_sparse=False)

    def _broadcast(
        self, names: list[str], values: list[NDArray], outs: list[list[NDArray]]
    ) -> None:
        self.broadcast(names, values, out=outs)

    def _push_pull(
        self,
        names: list[str],
        values: Sequence[list[NDArray] | None],
        outs: list[list[NDArray]],
        priorities: list[int],
        rescale_grad: float,
    ) -> None:
        """What a Trainer does in a step: everything in one call, None for an untouched key."""
        keys: list[Key] = list(names)
        self._kind(keys)
        self._push(keys, values, outs, priorities, rescale_grad)

    def row_sparse_pull(
        self, key: Any, out: Any = None, priority: int = 0, row_ids: Any = None
    ) -> None:
        """Read some rows of keys into row_sparse arrays, which then hold just those rows.

        Parameters
        ----------
        key : str, int or list of them
        out : RowSparseNDArray, or list of them
        priority : int
        row_ids : NDArray or list of NDArray
            Numbers of the rows for each array of `out`, or one for all; need not be sorted or
            distinct.

        Raises
        ------
        KeyMismatch
            An array is not row_sparse, a row number is out of range, or the lists do not fit.
        """
        if out is None or row_ids is None:
            raise ConfigError("row_sparse_pull: out and row_ids must be given")
        keys, outs = self._pairs(key, out, "row_sparse_pull")
        ids = rows_for(keys, outs, row_ids)
        names, targets = self._merged(keys, outs)
        _, wanted = self._merged(keys, ids)
        self._pull_rows(names, targets, wanted, [priority] * len(names))

    def init_row_sparse(
        self,
        key: Key,
        shape: tuple[int, ...],
        dtype: Any = "float32",
        initializer: Any = "uniform",
        seed: int = 0,
    ) -> None:
        """Make a row-sparse key whose rows arise at the first push to them.

        Nobody ever holds the dense table: the first values of a row are a function of (seed,
        key, row) alone, and a row that was only read takes no memory. Rows are read with
        :meth:`row_sparse_pull`; the optimizer must update lazily.

        Parameters
        ----------
        shape : tuple of int
            Rows first; at least two dimensions.
        initializer : str or Initializer
            zeros, ones, Constant of a number, Uniform, Normal or Xavier.
        seed : int
            Other seeds, other values; the global seed has no part in it.

        Raises
        ------
        KeyAlreadyInitialized, KeyMismatch, ConfigError
            As :meth:`init`; an initializer that cannot be evaluated row by row.
        """
        self._kind([key])
        wrong = not isinstance(shape, list | tuple) or len(shape) < 2
        if wrong or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in shape):
            raise KeyMismatch(f"init_row_sparse of key {key!r}: shape {shape!r} has no rows")
        kind = np.dtype(dtype)
        if kind.kind != "f":
            raise KeyMismatch(f"init_row_sparse of key {key!r}: dtype {kind} is no float type")
        made = row_initializer(initializer, tuple(shape), seed)
        self._init_rows(key, tuple(shape), kind, made)
        self._names.append(str(key))

    def _init_rows(
        self, key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], initializer: RowInitializer
    ) -> None:
        raise ConfigError(f"init_row_sparse: stores of type {self.type!r} have no such thing")

    def _pull_rows(
        self,
        keys: list[Key],
        outs: list[list[NDArray]],
        ids: list[list[Any]],
        priorities: list[int],
    ) -> None:
        """Rows `ids` (int64, sorted, distinct, in range; per array) of keys into `outs`."""
        raise ConfigError(f"row_sparse_pull: stores of type {self.type!r} have no such thing")

    # ---- keys -----------------------------------------------------------------------------

    def _kind(self, keys: list[Key]) -> None:
        for key in keys:
            if isinstance(key, bool) or not isinstance(key, str | int):
                raise KeyMismatch(f"key {key!r} is a {type(key).__name__}; use str or int")
            numeric = isinstance(key, int)
            if self._numeric is None:
                self._numeric = numeric
            elif self._numeric != numeric:
                raise KeyMismatch(
                    f"key {key!r}: this store has {'int' if self._numeric else 'str'} keys; "
                    "one store takes one kind"
                )

    def _pairs(self, key: Any, value: Any, what: str) -> tuple[list[Key], list[list[NDArray]]]:
        """Keys, and a list of arrays for each."""
        if isinstance(key, list | tuple):
            keys = list(key)
            if not isinstance(value, list | tuple) or len(value) != len(keys):
                count = len(value) if isinstance(value, list | tuple) else 1
                raise KeyMismatch(f"{what}: {len(keys)} keys and {count} values")
            values = [list(v) if isinstance(v, list | tuple) else [v] for v in value]
        else:
            keys = [key]
            values = [list(value) if isinstance(value, list | tuple) else [value]]
        self._kind(keys)
        for name, parts in zip(keys, values, strict=True):
            if not parts or not all([isinstance(part, NDArray) for part in parts]):
                raise KeyMismatch(f"{what} of key {name!r}: the value must be one or more NDArrays")
            first = parts[0]
            if any([p.shape != first.shape or p.dtype != first.dtype for p in parts[1:]]):
                shown = ", ".join(f"{p.shape} {p.dtype.__name__}" for p in parts)
                raise KeyMismatch(f"{what} of key {name!r}: the arrays differ: {shown}")
        return keys, values

    @staticmethod
    def _merged(keys: list[Key], values: list[list[Any]]) -> tuple[list[Key], list[list[Any]]]:
        """A key named several times is named once, with all its arrays."""
        if len(set(keys)) == len(keys):
            return keys, values
        found: dict[Key, list[Any]] = {}
        for key, parts in zip(keys, values, strict=True):
            found.setdefault(key, []).extend(parts)
        return list(found), list(found.values())

    # ---- optimizer ------------------------------------------------------------------------

    def set_optimizer(self, optimizer: Optimizer) -> None:
        """Update keys with `optimizer` at each push, from now on."""
        if not isinstance(optimizer, Optimizer):
            raise ConfigError(
                f"set_optimizer: {type(optimizer).__name__} is no Optimizer; "
                "use kvtrain.optimizer.create('sgd', ...)"
            )
        self._updater = get_updater(optimizer)

    def set_updater(self, updater: Updating) -> None:
        """Call ``updater(key, pushed, stored)`` at each push; it changes `stored` in place."""
        self._updater = updater

    def _set_updater(self, updater: Updating) -> None:
        self.set_updater(updater)

    def set_hyper(self, name: str, value: float) -> None:
        """Change a hyper-parameter of the optimizer, from the next push on."""
        if not isinstance(self._updater, Updater):
            raise ConfigError("set_hyper: the store has no optimizer; call set_optimizer first")
        self._updater.optimizer.set_hyper(name, value)

    def set_gradient_compression(self, compression_params: dict[str, Any]) -> None:
        """Send gradients in fewer bits from now on; before the first init.

        Parameters
        ----------
        compression_params : dict
            ``{'type': '2bit', 'threshold': 0.5}``, ``{'type': 'fp16'}``, ``'bf16'``,
            ``'1bit'``, ``{'type': 'topk', 'ratio': 0.01}`` or ``'none'``. All keep what was
            lost for the next gradient unless ``error_feedback`` is False. It applies to dense
            keys of a float type.

        Raises
        ------
        UnknownName
            There is no such type; lists the known ones.
        ConfigError
            A parameter that cannot be used, a store that moves nothing between devices or
            processes, or a key was initialised already.
        """
        codec = compression.create(compression_params)
        if not any(word in self.type for word in ("device", "dist")):
            raise ConfigError(
                f"Gradient compression is not supported for this type of kvstore ({self.type!r}); "
                "use 'device' or one of the 'dist' types"
            )
        if self._names:
            raise ConfigError(
                "set_gradient_compression: keys were initialised already; call it between "
                "kv.create and the first init"
            )
        self._codec = codec

    def set_consistency(
        self, pattern: str, consistency: str, *, staleness: int | None = None
    ) -> None:
        """Choose how keys to come are kept consistent; for keys that match, before their init.

        Parameters
        ----------
        pattern : str
            Of key names, as in a shell: ``'embedding_*'``. The last one set that matches counts.
        consistency : str
            ``'sync'``, ``'async'`` or ``'ssp'``; in one process there is no difference.
        staleness : int, optional
            For ``'ssp'``; default 0. Every worker must choose the same.

        Raises
        ------
        ConfigError
            An unknown consistency or a bad staleness, or a key that matches was initialised.
        """
        self._consistency.set(pattern, consistency, staleness, self._names)

    def save_optimizer_states(
        self, fname: str | os.PathLike[str], dump_optimizer: bool = False
    ) -> None:
        """Save the states of the optimizer that runs in this store."""
        if not isinstance(self._updater, Updater):
            raise ConfigError("save_optimizer_states: the store has no optimizer")
        with open(fname, "wb") as file:
            file.write(self._updater.get_states(dump_optimizer))

    def load_optimizer_states(self, fname: str | os.PathLike[str]) -> None:
        """Load what save_optimizer_states wrote."""
        if not isinstance(self._updater, Updater):
            raise ConfigError("load_optimizer_states: the store has no optimizer")
        with open(fname, "rb") as file:
            self._updater.set_states(file.read())

    # ---- the job --------------------------------------------------------------------------

    def tick(self) -> None:
        """End this worker's step; ``Trainer.step`` calls it."""
        self._steps += 1

    @property
    def step(self) -> int:
        """The step that this worker is in: how many have ended."""
        return self._steps

    def barrier(self) -> None:
        """Wait until every worker has called it."""
        return None

    def _barrier(self) -> None:
        self.barrier()

    def save_checkpoint(self, directory: str | os.PathLike[str] | None = None) -> str:
        """Save the job: weights, optimizer states and counters on all servers.

        Any worker may call it, between two steps; it waits until the files are in `directory`
        (``--checkpoint-dir`` by default) and returns the path for ``kvtrain launch --resume``.
        In ``dist_sync`` what is saved is exactly the state after this worker's pushes.

        Raises
        ------
        CheckpointError
            There is no directory, it belongs to another job, or the disk is full.
        """
        raise CheckpointError(
            f"save_checkpoint: a {self._type!r} store lives in this process; use "
            "Block.save_parameters and Trainer.save_states"
        )

    def stats(self) -> list[dict[str, Any]]:
        """Counters of each server; empty for a store without servers."""
        return []

    def _replace(self, key: Key, parameter: Any) -> None:
        """A parameter is about to get new values; stores that hold their own take them over."""
        return None

    def _send_command_to_servers(self, head: int, body: str) -> None:
        """Kept for old scripts; there are no commands but those with methods of their own."""
        raise ConfigError(
            f"_send_command_to_servers({head}): use set_optimizer, set_hyper or stats instead"
        )

# SPDX-License-Identifier: Apache-2.0
"""The store of a job: NDArrays on one side, the worker core's requests on the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kvtrain.config import Config
from kvtrain.errors import ConfigError, KeyMismatch, NonFiniteGradient
from kvtrain.kernels import xp
from kvtrain.kvstore import states
from kvtrain.kvstore.base import Key, KVStore, Updating
from kvtrain.kvstore.consistency import Consistency
from kvtrain.kvstore.dist_rows import DistRows
from kvtrain.kvstore.mapping import MappedWeights
from kvtrain.kvstore.residence import Residence, lend
from kvtrain.kvstore.rows import check_storage, is_sparse, rows_of
from kvtrain.kvstore.waiting import Waiting, buffer_of, make_pending
from kvtrain.ndarray import NDArray
from kvtrain.optimizer import Optimizer, Scope
from kvtrain.ps.core import requests as r
from kvtrain.ps.core.backup import backups_of
from kvtrain.ps.core.clocks import is_sync, staleness_of
from kvtrain.ps.core.memory import HeapMemory
from kvtrain.ps.core.rows import RowInitializer, pack
from kvtrain.ps.core.shards import DTYPES, KeySpec
from kvtrain.ps.net.client import WorkerNode

Array = np.ndarray[Any, Any]
_NONE: Array = np.empty(0)


class DistKVStore(KVStore):
    """``dist_sync``, ``dist_async``, ``dist_ssp``: keys live on the servers of the job.

    Pushes return at once and keep their own copy of the data; pulled arrays are pending until
    their first use. A failure raises at the next call or use.
    """

    def __init__(self, name: str, consistency: str, node: WorkerNode, config: Config) -> None:
        super().__init__(name)
        self._node = node
        backups = backups_of(consistency)
        _check_backups(backups, node)
        self._consistency = Consistency(consistency if ":" in consistency else "")
        #: keys with bounded staleness: their values come by a read, not with the push
        self._bounded: set[Key] = set()
        self._finite = config.check_finite
        self._shapes: dict[Key, tuple[tuple[int, ...], np.dtype[Any]]] = {}
        self._whole = False
        self._optimizer: Optimizer | None = None
        staleness = staleness_of(consistency)
        # what differs between workers is shown like another type
        kind = name if staleness is None else f"{name} (staleness {staleness})"
        kind = f"{name} (backup_workers {backups})" if backups else kind
        self._store: int = node.call(
            r.OpenStoreRequest(type=kind, sync=is_sync(consistency, False), backups=backups)
        )
        self._sync = consistency == "sync" and not backups
        self._mapped = MappedWeights()
        node.before_leaving.append(self._mapped.leave)
        self._rows = DistRows(node, self._store, config.check_finite)

    @property
    def rank(self) -> int:
        """Rank of this worker, from 0."""
        return self._node.rank

    @property
    def resume_step(self) -> int:
        """The step at which this worker began: 0, or where it goes on."""
        return self._node.resume_step(self._store)

    @property
    def step(self) -> int:
        """The step that this worker is in; with backup workers it may jump at a tick."""
        return self._node.step_of(self._store)

    @property
    def num_workers(self) -> int:
        """Workers of the present step; one that left stays counted, one that was lost not."""
        return len(self.members)

    @property
    def members(self) -> tuple[int, ...]:
        return self._node.members(self._store)

    # ---- arrays ---------------------------------------------------------------------------

    def _init(self, keys: list[Key], values: list[NDArray]) -> None:
        specs, arrays = [], []
        for key, value in zip(keys, values, strict=True):
            name = np.dtype(value.dtype).name
            if name not in DTYPES:
                raise KeyMismatch(f"init of key {key!r}: dtype {name} cannot be stored")
            specs.append(
                KeySpec(
                    name=str(key),
                    numeric=isinstance(key, int),
                    shape=value.shape,
                    dtype=name,
                    storage="row_sparse" if is_sparse(value) else "default",
                    whole=self._whole and not is_sparse(value),
                    consistency=self._consistency.of(str(key)),
                    compression=self._compression_of(value),
                )
            )
            if is_sparse(value):
                arrays.append(pack(*rows_of(value)))
            else:
                arrays.append(np.ascontiguousarray(value._read()).reshape(-1))
        self._node.call(r.InitRequest(self._store, tuple(specs), tuple(arrays)))
        self._node.reserve([array.nbytes for array in arrays])
        for key, value in zip(keys, values, strict=True):
            self._shapes[key] = (value.shape, np.dtype(value.dtype))
            if is_sparse(value):
                self._rows.shapes[key] = self._shapes[key]
            if staleness_of(self._consistency.of(str(key))) is not None:
                self._bounded.add(key)

    def _init_rows(
        self, key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], initializer: RowInitializer
    ) -> None:
        spec = KeySpec(
            name=str(key),
            numeric=isinstance(key, int),
            shape=shape,
            dtype=dtype.name,
            storage="row_sparse",
            consistency=self._consistency.of(str(key)),
            initializer=initializer.describe(),
        )
        self._node.call(r.InitRequest(self._store, (spec,), (np.empty(0, np.uint8),)))
        self._shapes[key] = self._rows.shapes[key] = (shape, dtype)
        self._rows.drawn.add(key)

    def _compression_of(self, value: NDArray) -> str:
        """Whole numbers and rows are sent as they are."""
        if self._codec is None or is_sparse(value) or np.dtype(value.dtype).kind != "f":
            return ""
        return self._codec.describe()

    def _check(self, key: Key, arrays: list[NDArray], what: str) -> None:
        held = self._shapes.get(key)
        if held is None:
            return  # the core knows the right words for a key that was not initialised
        for array in arrays:
            if (array.shape, np.dtype(array.dtype)) != held:
                raise KeyMismatch(
                    f"{what} of key {key!r} by worker-{self.rank}: got shape {array.shape}, dtype "
                    f"{np.dtype(array.dtype)}; the key has shape {held[0]}, dtype {held[1]}"
                )
        if what == "push":
            check_storage(key, arrays, key in self._rows.shapes, what)

    def _sum(self, key: Key, given: list[NDArray]) -> Array:
        raws = [np.ascontiguousarray(a._read()).reshape(-1) for a in given]
        total = raws[0]
        if len(raws) > 1:
            total = np.empty_like(raws[0])
            xp.sum_arrays(raws, out=total)
        if self._finite and total.dtype.kind == "f" and not np.isfinite(total).all():
            step, n = self._node.round_of(self._store, str(key))
            raise NonFiniteGradient(
                f"push of key {key!r} by worker-{self.rank} in round (step {step}, push {n}): "
                f"{int((~np.isfinite(total)).sum())} of {total.size} elements are NaN or infinite"
            )
        return total

    def _adopt(self, gradients: list[NDArray]) -> None:
        """Let gradients live in the transport's memory: pushing them copies nothing then."""
        if self._codec is None and not self._finite:
            for array in gradients:
                if np.dtype(array.dtype).name in DTYPES and array.stype == "default":
                    Residence(self._node.memory, array)

    def _adopt_weights(self, keys: list[Key], weights: list[NDArray]) -> None:
        """Let weights that come in the trip of their gradient be read in the servers' memory,
        where nothing but that trip can change them (PROTOCOL R36)."""
        safe = self._sync and not self._consistency.mixed and self._node.on_worker_loss == "abort"
        if not safe or self._codec is not None or isinstance(self._node.memory, HeapMemory):
            return
        for key, array in zip(keys, weights, strict=True):
            if array.stype == "default":
                self._mapped.adopt(key, array)

    def _lend(self, given: list[NDArray] | None) -> tuple[Array, Callable[[], None]] | None:
        """An array that is sent from where it lies; None: it must be copied."""
        if given is None or len(given) != 1 or self._codec is not None or self._finite:
            return None
        return lend(given[0])

    def _push(
        self,
        keys: list[Key],
        values: Sequence[list[NDArray] | None],
        outs: list[list[NDArray]] | None,
        priorities: list[int],
        rescale_grad: float | None,
    ) -> None:
        if not self._rows.shapes.keys().isdisjoint(keys):
            self._push_rows(keys, values, outs, priorities, rescale_grad)
            return
        if outs is not None and not self._bounded.isdisjoint(keys):
            self._push_then_pull(keys, values, outs, priorities, rescale_grad)
            return
        for key, given in zip(keys, values, strict=True):
            self._check(key, given or [], "push")
        mapped = self._mapped.prepare(keys, outs)
        arrays: list[Array | None] = []
        lent: list[Callable[[], None] | None] = []
        for key, given in zip(keys, values, strict=True):
            loan = self._lend(given)
            arrays.append(loan[0] if loan else None if given is None else self._sum(key, given))
            lent.append(loan[1] if loan else None)
        names = tuple(str(key) for key in keys)
        if outs is None:
            request = r.PushRequest(
                self._store,
                names,
                tuple(arrays),
                priorities=tuple(priorities),
                rescale_grad=rescale_grad,
                lent=tuple(lent),
            )
            self._node.submit(request, detached=True)
            return
        for key, targets in zip(keys, outs, strict=True):
            self._check(key, targets, "pull")
        buffers: list[Array | r.Landing] = [
            buffer_of(targets[0]) if i not in mapped else _NONE for i, targets in enumerate(outs)
        ]
        try:
            for i, weight in mapped.items():
                buffers[i] = weight.post(outs[i][0])
            request = r.PushRequest(
                self._store,
                names,
                tuple(arrays),
                tuple(buffers),
                tuple(priorities),
                rescale_grad,
                tuple(lent),
            )
            waiting = Waiting(self._node, self._node.submit(request))
        except BaseException:
            for i, weight in mapped.items():
                weight.withdraw(outs[i][0])
            raise
        make_pending(waiting, self._store, names, outs, buffers)

    def _push_rows(
        self,
        keys: list[Key],
        values: Sequence[list[NDArray] | None],
        outs: list[list[NDArray]] | None,
        priorities: list[int],
        rescale_grad: float | None,
    ) -> None:
        """Row-sparse keys by themselves, the dense ones of the call together."""
        for key, given in zip(keys, values, strict=True):
            self._check(key, given or [], "push")
        for key, targets in zip(keys, outs or [], strict=False):
            self._check(key, targets, "pull")
        dense = [i for i, key in enumerate(keys) if key not in self._rows.shapes]
        if dense:
            self._push(
                [keys[i] for i in dense],
                [values[i] for i in dense],
                None if outs is None else [outs[i] for i in dense],
                [priorities[i] for i in dense],
                rescale_grad,
            )
        for i, key in enumerate(keys):
            if key in self._rows.shapes:
                self._rows.push(key, values[i], priorities[i], rescale_grad)
                if outs is not None:
                    self._rows.pull_all(key, outs[i])

    def _push_then_pull(
        self,
        keys: list[Key],
        values: Sequence[list[NDArray] | None],
        outs: list[list[NDArray]],
        priorities: list[int],
        rescale_grad: float | None,
    ) -> None:
        """Keys with bounded staleness are read under their gate; the others in one trip."""
        for wanted in (False, True):
            mine = [i for i, key in enumerate(keys) if (key in self._bounded) == wanted]
            if not mine:
                continue
            names, ranks = [keys[i] for i in mine], [priorities[i] for i in mine]
            given, targets = [values[i] for i in mine], [outs[i] for i in mine]
            self._push(names, given, None if wanted else targets, ranks, rescale_grad)
            if wanted:
                self._pull(names, targets, ranks)

    def _pull(self, keys: list[Key], outs: list[list[NDArray]], priorities: list[int]) -> None:
        for key, targets in zip(keys, outs, strict=True):
            self._check(key, targets, "pull")
            if key in self._rows.shapes:
                self._rows.pull_all(key, targets)
            else:
                check_storage(key, targets, False, "pull")
        mine = [i for i, key in enumerate(keys) if key not in self._rows.shapes]
        if not mine:
            return
        keys, outs = [keys[i] for i in mine], [outs[i] for i in mine]
        priorities = [priorities[i] for i in mine]
        buffers = [buffer_of(targets[0]) for targets in outs]
        names = tuple(str(key) for key in keys)
        request = r.PullRequest(self._store, names, tuple(buffers), tuple(priorities))
        waiting = Waiting(self._node, self._node.submit(request))
        make_pending(waiting, self._store, names, outs, buffers)

    def _pull_rows(
        self,
        keys: list[Key],
        outs: list[list[NDArray]],
        ids: list[list[Any]],
        priorities: list[int],
    ) -> None:
        for key, targets in zip(keys, outs, strict=True):
            if key in self._shapes and key not in self._rows.shapes:
                raise KeyMismatch(f"row_sparse_pull of key {key!r}: the key is dense; use pull")
            self._check(key, targets, "row_sparse_pull")
        for key, targets, wanted in zip(keys, outs, ids, strict=True):
            for target, rows in zip(targets, wanted, strict=True):
                self._rows.pull(key, [target], rows)

    # ---- optimizer ------------------------------------------------------------------------

    def set_optimizer(self, optimizer: Optimizer) -> None:
        """Run `optimizer` on the servers at each push, from now on; rank 0's is used.

        Raises
        ------
        ConfigError
            Its class is not registered, or is no plain data.
        KeyMismatch
            Another worker has set a different one.
        """
        if not isinstance(optimizer, Optimizer):
            raise ConfigError(
                f"set_optimizer: {type(optimizer).__name__} is no Optimizer; "
                "use kvtrain.optimizer.create('sgd', ...)"
            )
        name, config = optimizer.to_config()
        if optimizer.scope is not Scope.ELEMENT:
            if self._shapes and not self._whole:
                raise ConfigError(
                    f"optimizer {name} works on whole keys: set it before the first init"
                )
            self._whole = True
        self._node.call(r.SetOptimizerRequest(self._store, name, config))
        self._optimizer = optimizer

    def set_updater(self, updater: Updating) -> None:
        """Refused: a function cannot be sent to servers."""
        raise ConfigError(
            f"set_updater on {self.type!r}: a function cannot travel to the servers; register an "
            "Optimizer class and use set_optimizer, or run the updater on a 'local' store"
        )

    def set_hyper(self, name: str, value: float) -> None:
        """Change a hyper-parameter on the servers, from this worker's next push on."""
        if self._optimizer is None:
            raise ConfigError("set_hyper: the store has no optimizer; call set_optimizer first")
        self._node.call(r.SetHyperRequest(self._store, name, float(value)))

    def set_gradient_compression(self, compression_params: dict[str, Any]) -> None:
        """As :meth:`KVStore.set_gradient_compression`; every worker must set the same."""
        super().set_gradient_compression(compression_params)
        if self._codec is not None and self.rank == 0 and self._node.same_host():
            self._node.note(
                f"gradient compression {self._codec.name!r} between processes of one host costs "
                "more than it saves; it pays over a network only"
            )

    def save_optimizer_states(
        self, fname: str | os.PathLike[str], dump_optimizer: bool = False
    ) -> None:
        """Save the states of the optimizer that runs on the servers.

        They are as this worker's earlier pushes left them: in sync mode nobody's later round has
        closed. The file is one that a local store and a Trainer of one process read too.
        """
        states.save(self._node, self._store, self._shapes, self._running(), fname, dump_optimizer)

    def load_optimizer_states(self, fname: str | os.PathLike[str]) -> None:
        """Load what save_optimizer_states wrote; every worker calls it, rank 0's file counts.

        Raises
        ------
        FormatError
            The file is no such file, or of another optimizer.
        KeyNotInitialized
            It has a key that this worker has not initialised.
        """
        self._optimizer = states.load(
            self._node, self._store, self._shapes, self._rows.shapes, self._running(), fname
        )

    def _running(self) -> Optimizer:
        if self._optimizer is None:
            raise ConfigError("the store has no optimizer; call set_optimizer first")
        return self._optimizer

    # ---- the job --------------------------------------------------------------------------

    def tick(self) -> None:
        """End this worker's step."""
        self._node.call(r.TickRequest(self._store))

    def barrier(self) -> None:
        """Wait until every worker has called it."""
        self._node.call(r.BarrierRequest(self._store))

    def save_checkpoint(self, directory: str | os.PathLike[str] | None = None) -> str:
        """Save the job as it is after this worker's pushes; returns the checkpoint's path.

        See :meth:`KVStore.save_checkpoint`. All stores of the job are saved together.
        """
        where = "" if directory is None else os.path.abspath(directory)
        path: str = self._node.call(r.SaveCheckpointRequest(where))
        return path

    def stats(self) -> list[dict[str, Any]]:
        """Counters of each server, of committed state."""
        found: list[dict[str, Any]] = self._node.call(r.StatsRequestOf(self._store))
        return found


def _check_backups(backups: int, node: WorkerNode) -> None:
    """Raise ConfigError where a job cannot have so many backup workers."""
    if backups and backups >= node.num_workers:
        raise ConfigError(
            f"kv.create: backup_workers={backups} in a job of {node.num_workers} workers: a round "
            f"needs a contribution; give at most {node.num_workers - 1}"
        )
    if backups and node.on_worker_loss == "restart":
        raise ConfigError(
            f"kv.create: backup_workers={backups} in a job with --on-worker-loss restart: what a "
            "worker repeats, a round may have closed without; use --on-worker-loss shrink"
        )

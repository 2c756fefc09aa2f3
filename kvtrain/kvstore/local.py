# SPDX-License-Identifier: Apache-2.0
"""The store of one process: sums over contexts, optimizer in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kvtrain.compression import ErrorFeedback
from kvtrain.context import cpu
from kvtrain.errors import KeyAlreadyInitialized, KeyMismatch, KeyNotInitialized
from kvtrain.kernels import xp
from kvtrain.kernels.stored import Rows, dense, merge_rows
from kvtrain.kvstore.base import Key, KVStore
from kvtrain.kvstore.local_rows import Table
from kvtrain.kvstore.rows import check_storage, merged
from kvtrain.ndarray import NDArray
from kvtrain.ndarray.stored.array import raw_of, wrap
from kvtrain.ps.core.rows import RowInitializer


class LocalKVStore(KVStore):
    """``local`` and ``device``: the arrays of one process.

    Sums are made in the order of the list, from its first array, as the servers of a job make
    them in rank order: same batches, same bits.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._stored: dict[Key, NDArray] = {}
        #: keys whose rows arise at the first push to them
        self._tables: dict[Key, Table] = {}
        #: residual of each (key, place in the list of its arrays)
        self._feedback: dict[tuple[Key, int], ErrorFeedback] = {}

    def _init(self, keys: list[Key], values: list[NDArray]) -> None:
        for key in keys:
            if key in self._stored or key in self._tables or keys.count(key) > 1:
                raise KeyAlreadyInitialized(f"key {key!r} was already initialised")
        for key, value in zip(keys, values, strict=True):
            copied = value.copyto(cpu()) if value._sparse else NDArray(value.asnumpy(), cpu())
            self._stored[key] = copied

    def _init_rows(
        self, key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], initializer: RowInitializer
    ) -> None:
        if key in self._stored or key in self._tables:
            raise KeyAlreadyInitialized(f"key {key!r} was already initialised")
        self._tables[key] = Table(key, shape, dtype, initializer)

    def _held(self, key: Key, what: str) -> NDArray:
        held = self._stored.get(key)
        if held is None:
            raise KeyNotInitialized(
                f"{what} of key {key!r}: it was not initialised; call kv.init({key!r}, value) first"
            )
        return held

    def _checked(self, key: Key, arrays: list[NDArray], what: str) -> Any:
        held: Any = self._tables[key] if key in self._tables else self._held(key, what)
        for array in arrays:
            if array.shape != held.shape or array.dtype != held.dtype:
                raise KeyMismatch(
                    f"{what} of key {key!r}: got shape {array.shape}, dtype "
                    f"{np.dtype(array.dtype)}; the key has shape {held.shape}, dtype "
                    f"{np.dtype(held.dtype)}"
                )
        return held

    def _push(
        self,
        keys: list[Key],
        values: Sequence[list[NDArray] | None],
        outs: list[list[NDArray]] | None,
        priorities: list[int],
        rescale_grad: float | None,
    ) -> None:
        for key, given in zip(keys, values, strict=True):
            self._checked(key, given or [], "push")
            if key in self._tables:
                check_storage(key, given or [], True, "push")
        for key, targets in zip(keys, outs or [], strict=False):
            self._checked(key, targets, "pull")
        for i, (key, given) in enumerate(zip(keys, values, strict=True)):
            if given is not None and outs is not None and self._in_one_pass(key, given, outs[i]):
                continue
            if given is not None:
                self._apply(key, given)
            if outs is not None:
                self._copy(key, outs[i])

    def _in_one_pass(self, key: Key, given: list[NDArray], targets: list[NDArray]) -> bool:
        """Sum straight into the targets, if there is nothing but the sum to be done."""
        held: Any = self._stored.get(key)
        if self._updater is not None or self._codec is not None or held is None or held._sparse:
            return False
        if any([array._sparse for array in (*given, *targets)]):
            return False
        raws = [array._read() for array in given]
        outs = [target._write() for target in targets]  # not yet overwritten: they may be given
        if not all([raw.flags.c_contiguous for raw in (*raws, *outs)]):
            return False
        if not all([_apart_or_same(raw, out) for raw in raws for out in outs]):
            return False
        out = _flat(held._write())
        xp.sum_into_all([_flat(raw) for raw in raws], out, [_flat(target) for target in outs])
        return True

    def _apply(self, key: Key, given: list[NDArray]) -> None:
        if key in self._tables:
            self._tables[key].push(key, *merged(given), self._updater)
            return
        held = self._stored[key]
        if held._sparse or any(array._sparse for array in given):
            self._apply_sparse(key, given, held)
            return
        raws = [a._read() for a in given]
        coded = self._codec is not None and np.dtype(held.dtype).kind == "f"
        if coded:
            raws = [self._through_codec(key, i, raw) for i, raw in enumerate(raws)]
        if self._updater is None:
            xp.sum_arrays([_flat(raw) for raw in raws], out=_flat(held._write()))
            return
        total = NDArray(raws[0], given[0].context) if coded else given[0]
        if len(raws) > 1:
            out = np.empty(held.shape, held.dtype)
            xp.sum_arrays([_flat(raw) for raw in raws], out=out.reshape(-1))
            total = NDArray(out, given[0].context)
        self._updater(key, total, held)

    def _apply_sparse(self, key: Key, given: list[NDArray], held: NDArray) -> None:
        """Sum in the storage of the arrays pushed; without an updater that becomes the key's."""
        raws = [raw_of(array) for array in given]
        try:
            raws = [raw.canonical() if isinstance(raw, Rows) else raw for raw in raws]
        except ValueError as error:
            raise KeyMismatch(f"push of key {key!r}: {error}") from None
        if all(isinstance(raw, Rows) for raw in raws):
            total: Any = merge_rows(raws)
        else:
            total = raws[0]
            for raw in raws[1:]:
                total = dense(total) + dense(raw)
        if self._updater is None:
            self._stored[key] = wrap(total.copy(), cpu())
        else:
            self._updater(key, wrap(total, given[0].context), held)

    def _through_codec(self, key: Key, place: int, raw: Any) -> Any:
        """What arrives of a context's gradient, as between the devices of a real machine."""
        assert self._codec is not None
        feedback = self._feedback.setdefault((key, place), ErrorFeedback(self._codec))
        out = np.empty(raw.size, np.float32)
        self._codec.decompress(feedback.compress(np.ascontiguousarray(raw).reshape(-1)), out)
        return out.reshape(raw.shape).astype(raw.dtype, copy=False)

    def _pull(self, keys: list[Key], outs: list[list[NDArray]], priorities: list[int]) -> None:
        for key, targets in zip(keys, outs, strict=True):
            self._checked(key, targets, "pull")
        for key, targets in zip(keys, outs, strict=True):
            self._copy(key, targets)

    def _copy(self, key: Key, targets: list[NDArray]) -> None:
        if key in self._tables:
            raise KeyMismatch(
                f"pull of key {key!r}: its table is never held as a whole; use row_sparse_pull"
            )
        held = self._stored[key]
        if held._sparse or any(target._sparse for target in targets):
            for target in targets:
                target._receive(raw_of(held))
            return
        values = held._read()
        outs = [target._overwrite() for target in targets]
        if len(outs) > 1 and all(out.flags.c_contiguous for out in outs):
            xp.copy_to_all(_flat(values), [_flat(out) for out in outs])
            return
        for out in outs:
            np.copyto(out, values)

    def _pull_rows(
        self,
        keys: list[Key],
        outs: list[list[NDArray]],
        ids: list[list[Any]],
        priorities: list[int],
    ) -> None:
        for key, targets in zip(keys, outs, strict=True):
            self._checked(key, targets, "row_sparse_pull")
        for key, targets, wanted in zip(keys, outs, ids, strict=True):
            table: Any = self._tables.get(key)
            table = raw_of(self._stored[key]) if table is None else table
            for target, rows in zip(targets, wanted, strict=True):
                if isinstance(table, Table):
                    target._receive(Rows(rows, table.read(rows), target.shape))
                elif isinstance(table, Rows):
                    target._receive(table.take(rows))
                else:
                    target._receive(Rows(rows, dense(table)[rows], target.shape))

    def _replace(self, key: Key, parameter: Any) -> None:
        self._stored.pop(key, None)
        if parameter._trainer is not None and parameter not in parameter._trainer._to_init:
            parameter._trainer._to_init.append(parameter)


def _flat(raw: Any) -> Any:
    return raw.reshape(-1)


def _apart_or_same(a: Any, b: Any) -> bool:
    """Whether two flat arrays are one piece of memory, or have none in common."""
    return a.ctypes.data == b.ctypes.data or not np.may_share_memory(a, b)

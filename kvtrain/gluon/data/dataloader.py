# SPDX-License-Identifier: Apache-2.0
"""Loads batches from a dataset, ahead of time if asked."""

from __future__ import annotations

import itertools
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from kvtrain import ndarray as nd
from kvtrain.gluon.data.pool import Unsendable, WorkerPool, payload_of
from kvtrain.gluon.data.sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler
from kvtrain.ndarray import NDArray


def default_batchify_fn(data: list[Any]) -> Any:
    """Stack samples along a new first dimension; tuples are stacked place by place."""
    first = data[0]
    if isinstance(first, NDArray):
        return NDArray(np.stack([d._read() for d in data]), first.context)
    if isinstance(first, tuple):
        return [default_batchify_fn(list(part)) for part in zip(*data, strict=True)]
    raw = np.asarray(data)
    return nd.array(raw, dtype=raw.dtype)


#: what loading processes use; the same here, since all batches reach them as arrays
default_mp_batchify_fn = default_batchify_fn


class DataLoader:
    """Iterates over a dataset in batches.

    Parameters
    ----------
    dataset : Dataset, array or list
    batch_size : int
        Samples per batch; not with `batch_sampler`.
    shuffle : bool
        New random order for each pass; not with `sampler`.
    sampler, batch_sampler : Sampler
        Order of samples, or of batches.
    last_batch : {'keep', 'discard', 'rollover'}
    batchify_fn : callable
        Makes a batch of a list of samples.
    num_workers : int
        Processes that load ahead; 0: the caller loads. They are started fresh at the first pass
        and kept for later ones; what cannot be sent to them (a lambda, a class of a script
        without ``if __name__ == "__main__":``) is loaded by as many threads, with a warning.
    pin_memory, pin_device_id : optional
        Accepted; all memory is the host's.
    prefetch : int
        Batches loaded ahead, by default twice `num_workers`.
    thread_pool : bool
        Threads instead of processes.
    timeout : float
        Seconds that a batch of a worker may take.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = None,
        shuffle: bool = False,
        sampler: Sampler | None = None,
        last_batch: str | None = None,
        batch_sampler: Sampler | None = None,
        batchify_fn: Callable[[list[Any]], Any] | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
        pin_device_id: int = 0,
        prefetch: int | None = None,
        thread_pool: bool = False,
        timeout: float = 120,
        auto_reload: bool = False,
        try_nopython: bool | None = None,
    ) -> None:
        self._dataset = dataset
        if batch_sampler is None:
            if batch_size is None:
                raise ValueError("batch_size must be specified unless batch_sampler is specified")
            if sampler is None:
                size = len(dataset)
                sampler = RandomSampler(size) if shuffle else SequentialSampler(size)
            elif shuffle:
                raise ValueError("shuffle must not be specified if sampler is specified")
            batch_sampler = BatchSampler(sampler, batch_size, last_batch or "keep")
        elif batch_size is not None or shuffle or sampler is not None or last_batch is not None:
            raise ValueError(
                "batch_size, shuffle, sampler and last_batch must not be specified if "
                "batch_sampler is specified."
            )
        self._batch_sampler = batch_sampler
        self._batchify = batchify_fn or default_batchify_fn
        self._workers = max(0, num_workers)
        self._prefetch = max(0, 2 * self._workers if prefetch is None else prefetch)
        self._timeout = timeout
        self._threads = thread_pool
        self._pool: WorkerPool | None = None
        self._passes = itertools.count()

    def __len__(self) -> int:
        return len(self._batch_sampler)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pool": None, "_passes": itertools.count()}

    def _load(self, indices: Any) -> Any:
        return self._batchify([self._dataset[i] for i in indices])

    def __iter__(self) -> Iterator[Any]:
        if not self._workers:
            for indices in self._batch_sampler:
                yield self._load(indices)
            return
        if not self._threads and (self._pool is None or not self._pool.close.alive):
            self._pool = self._start()
        if self._pool is None:
            yield from self._with_threads()
        else:
            yield from self._with_processes(self._pool)

    def _start(self) -> WorkerPool | None:
        try:
            payload, needs_main = payload_of(self._dataset, self._batchify)
        except Unsendable as error:
            self._threads = True
            warnings.warn(
                f"DataLoader: the dataset or batchify_fn cannot be sent to {self._workers} "
                f"processes ({error}): threads load instead. Define functions at the top of a "
                "module, or set thread_pool=True.",
                stacklevel=3,
            )
            return None
        return WorkerPool(self._workers, payload, needs_main)

    def _with_processes(self, pool: WorkerPool) -> Iterator[Any]:
        number = next(self._passes)
        waiting: deque[Any] = deque()
        batches = enumerate(self._batch_sampler)
        try:
            while True:
                while len(waiting) <= self._prefetch:
                    task = next(batches, None)
                    if task is None:
                        break
                    tag = (number, task[0])
                    pool.submit(tag, task[1])
                    waiting.append(tag)
                if not waiting:
                    return
                batch = pool.result(waiting[0], self._timeout)
                waiting.popleft()
                yield batch
        finally:
            for tag in waiting:
                pool.forget(tag)

    def _with_threads(self) -> Iterator[Any]:
        waiting: deque[Future[Any]] = deque()
        batches = iter(self._batch_sampler)
        with ThreadPoolExecutor(self._workers, thread_name_prefix="dataloader") as pool:
            try:
                while True:
                    while len(waiting) <= self._prefetch:
                        indices = next(batches, None)
                        if indices is None:
                            break
                        waiting.append(pool.submit(self._load, indices))
                    if not waiting:
                        return
                    yield waiting.popleft().result(self._timeout)
            finally:
                for future in waiting:
                    future.cancel()

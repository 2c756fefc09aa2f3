# SPDX-License-Identifier: Apache-2.0
"""Datasets: things with ``len`` and ``[i]``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from kvtrain import recordio
from kvtrain.gluon.data.sampler import Sampler
from kvtrain.ndarray import NDArray


class Dataset:
    """Base of all datasets: define ``__getitem__`` and ``__len__``."""

    def __getitem__(self, idx: int) -> Any:
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def filter(self, fn: Callable[[Any], bool]) -> Dataset:
        """The samples for which `fn` is true."""
        return _Chosen(self, [i for i in range(len(self)) if fn(self[i])])

    def shard(self, num_shards: int, index: int) -> Dataset:
        """Part `index` of `num_shards` parts; the first ones are one longer if it must be."""
        if not 0 <= index < num_shards:
            raise ValueError(f"shard: index={index} is not in 0 to {num_shards - 1}")
        each, longer = divmod(len(self), num_shards)
        start = each * index + min(index, longer)
        return _Chosen(self, list(range(start, start + each + (index < longer))))

    def take(self, count: int | None) -> Dataset:
        """The first `count` samples."""
        if count is not None and count < 0:
            raise ValueError(f"take: count={count} must not be negative")
        size = len(self) if count is None else min(count, len(self))
        return _Chosen(self, list(range(size)))

    def sample(self, sampler: Sampler) -> Dataset:
        """The samples in a sampler's order."""
        if not isinstance(sampler, Sampler):
            raise TypeError(f"Invalid sampler type: {type(sampler)}. Expected gluon.data.Sampler")
        return _Chosen(self, list(sampler))

    def transform(self, fn: Callable[..., Any], lazy: bool = True) -> Dataset:
        """Samples through `fn`; not `lazy`: all at once, now."""
        found = _Transformed(self, fn)
        return found if lazy else SimpleDataset([found[i] for i in range(len(found))])

    def transform_first(self, fn: Callable[..., Any], lazy: bool = True) -> Dataset:
        """Only the first element of each sample through `fn`."""
        return self.transform(_First(fn), lazy)


class _First:
    """Applies a function to the first element; a class, so that it can go to a process."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._fn = fn

    def __call__(self, x: Any, *rest: Any) -> Any:
        return (self._fn(x), *rest) if rest else self._fn(x)


class _Chosen(Dataset):
    def __init__(self, dataset: Dataset, indices: list[int]) -> None:
        self._dataset = dataset
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, idx: int) -> Any:
        return self._dataset[self._indices[idx]]


class _Transformed(Dataset):
    def __init__(self, dataset: Dataset, fn: Callable[..., Any]) -> None:
        self._dataset = dataset
        self._fn = fn

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, idx: int) -> Any:
        item = self._dataset[idx]
        return self._fn(*item) if isinstance(item, tuple) else self._fn(item)


class SimpleDataset(Dataset):
    """A list as a dataset."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, idx: int) -> Any:
        return self._data[idx]


class ArrayDataset(Dataset):
    """Several arrays of equal length: sample i is ``(a[i], b[i], ...)``, or ``a[i]`` alone."""

    def __init__(self, *args: Any) -> None:
        if not args:
            raise ValueError("ArrayDataset: at least one array is needed")
        self._length = len(args[0])
        for i, data in enumerate(args):
            if len(data) != self._length:
                raise ValueError(
                    f"All arrays must have the same length; array[0] has length {self._length} "
                    f"while array[{i}] has {len(data)}."
                )
        # one-dimensional arrays give plain numbers, as MXNet's do
        self._data = [a.asnumpy() if isinstance(a, NDArray) and a.ndim == 1 else a for a in args]

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, idx: int) -> Any:
        if len(self._data) == 1:
            return self._data[0][idx]
        return tuple(data[idx] for data in self._data)


class RecordFileDataset(Dataset):
    """Records of a RecordIO file, as bytes.

    Parameters
    ----------
    filename : path
        The ``.rec`` file; its ``.idx`` lies beside it.
    """

    def __init__(self, filename: Any) -> None:
        self.filename = str(filename)
        self.idx_file = os.path.splitext(self.filename)[0] + ".idx"
        self._open()

    def _open(self) -> None:
        self._record = recordio.MXIndexedRecordIO(self.idx_file, self.filename, "r")

    def __getitem__(self, idx: int) -> Any:
        return self._record.read_idx(self._record.keys[idx])

    def __len__(self) -> int:
        return len(self._record.keys)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_record"}

    def __setstate__(self, held: dict[str, Any]) -> None:
        self.__dict__.update(held)
        self._open()  # every process reads with a file of its own

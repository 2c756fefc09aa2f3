# SPDX-License-Identifier: Apache-2.0
"""Ways to make a batch of a list of samples, for ``DataLoader(batchify_fn=...)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain import ndarray as nd
from kvtrain.context import cpu
from kvtrain.ndarray import NDArray


def _raw(sample: Any) -> Any:
    return sample._read() if isinstance(sample, NDArray) else np.asarray(sample)


class Stack:
    """Samples of one shape along a new first dimension."""

    def __call__(self, data: list[Any]) -> NDArray:
        return NDArray(np.stack([_raw(d) for d in data]), cpu())


class Pad:
    """Samples of different lengths, filled up to the longest, along a new first dimension.

    Parameters
    ----------
    val : float
        What they are filled up with.
    dtype : dtype, optional
        Of the batch; default: the samples'.
    round_to : int, optional
        Lengths are rounded up to a multiple of it.
    """

    def __init__(self, val: float = 0, dtype: Any = None, round_to: int | None = None) -> None:
        self._value = val
        self._dtype = dtype
        self._round_to = round_to

    def __call__(self, data: list[Any]) -> NDArray:
        raws = [_raw(d) for d in data]
        if len({r.ndim for r in raws}) != 1:
            raise ValueError(
                f"Pad: samples have {sorted({r.ndim for r in raws})} dimensions; one number is "
                "needed"
            )
        shape = [max(sizes) for sizes in zip(*(r.shape for r in raws), strict=True)]
        if self._round_to:
            shape = [-(-n // self._round_to) * self._round_to for n in shape]
        kind = raws[0].dtype if self._dtype is None else self._dtype
        out = np.full((len(raws), *shape), self._value, kind)
        for target, raw in zip(out, raws, strict=True):
            target[tuple(slice(n) for n in raw.shape)] = raw
        return NDArray(out, cpu())


class Append:
    """A list of the samples, each as an array of its own.

    Parameters
    ----------
    expand : bool
        Give each a dimension of 1 for the batch.
    batch_axis : int
        Where.
    """

    def __init__(self, expand: bool = True, batch_axis: int = 0) -> None:
        self._expand = expand
        self._axis = batch_axis

    def __call__(self, data: list[Any]) -> list[NDArray]:
        raws = [_raw(d) for d in data]
        if self._expand:
            raws = [np.expand_dims(r, self._axis) for r in raws]
        return [nd.array(r, dtype=r.dtype) for r in raws]


class Group:
    """One function for each element of the samples, which are tuples.

    Parameters
    ----------
    fn : callable or list of callable
    args : callable
        The others, if they are not given as a list.
    """

    def __init__(self, fn: Any, *args: Callable[[list[Any]], Any]) -> None:
        self._functions = list(fn) if isinstance(fn, list | tuple) else [fn, *args]

    def __call__(self, data: list[Any]) -> tuple[Any, ...]:
        if len(data[0]) != len(self._functions):
            raise ValueError(
                f"Group: {len(self._functions)} functions for samples of {len(data[0])} elements"
            )
        parts = zip(*data, strict=True)
        return tuple(f(list(part)) for f, part in zip(self._functions, parts, strict=True))


class AsList:
    """The samples as they are."""

    def __call__(self, data: list[Any]) -> list[Any]:
        return list(data)

# SPDX-License-Identifier: Apache-2.0
"""Methods of NDArray that are not operators: parts by position, assignment of slices."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.errors import OperatorError
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.composed import split_v2


def _key(self: NDArray, begin: Any, end: Any, step: Any) -> tuple[slice, ...]:
    begins = (begin,) if isinstance(begin, int) else tuple(begin)
    ends = (end,) if isinstance(end, int) else tuple(end)
    steps = (step,) if isinstance(step, int) else tuple(step or ())
    steps = steps or (None,) * len(begins)
    if not len(begins) == len(ends) == len(steps) <= self.ndim:
        raise OperatorError(
            f"slice_assign: begin={begin}, end={end}, step={step} do not fit {self.shape}"
        )
    return tuple(slice(*parts) for parts in zip(begins, ends, steps, strict=True))


def slice_assign(self: NDArray, rhs: NDArray, begin: Any, end: Any, step: Any) -> NDArray:
    """Write `rhs` to ``self[begin:end:step]``, in place; returns the array."""
    raw = self._write_in_graph()
    key = _key(self, begin, end, step)
    if raw[key].shape != rhs.shape:
        raise OperatorError(f"slice_assign: {rhs.shape} does not fit {raw[key].shape}")
    raw[key] = rhs._read()
    return self


def slice_assign_scalar(self: NDArray, value: float, begin: Any, end: Any, step: Any) -> NDArray:
    """Write a number to ``self[begin:end:step]``, in place; returns the array."""
    self._write_in_graph()[_key(self, begin, end, step)] = value
    return self


def _at(self: NDArray, idx: int) -> NDArray:
    """The view ``self[idx]``."""
    if not -self.shape[0] <= idx < self.shape[0]:
        raise IndexError(f"index {idx} is out of bounds for axis 0 with size {self.shape[0]}")
    return self[idx]


def _slice(self: NDArray, start: int, stop: int) -> NDArray:
    """The view ``self[start:stop]``."""
    return self[start:stop]


def _split_v2(self: NDArray, *args: Any, **kwargs: Any) -> Any:
    """Parts along an axis; see nd.split_v2."""
    return split_v2(self, *args, **kwargs)


def _sync_copyfrom(self: NDArray, source_array: Any) -> None:
    """Copy the values of a NumPy array of the same shape."""
    raw = np.asarray(source_array, self.dtype)
    if raw.shape != self.shape:
        raise ValueError(f"Shape inconsistent: expected {self.shape} vs got {raw.shape}")
    np.copyto(self._write_in_graph(), raw)


def _full(self: NDArray, value: float) -> None:
    """Fill with a number, in place."""
    self._write_in_graph()[...] = value


def _writable(self: NDArray) -> bool:
    """Whether the array can be written."""
    return True


def install() -> None:
    """Give NDArray its methods."""
    for function in (slice_assign, slice_assign_scalar, _at, _slice, _sync_copyfrom, _full):
        setattr(NDArray, function.__name__, function)
    NDArray.split_v2 = _split_v2  # type: ignore[attr-defined]
    NDArray.writable = property(_writable)  # type: ignore[attr-defined]
    for symbol in ("div", "rdiv", "idiv"):
        there = getattr(NDArray, f"__{symbol.replace('div', 'truediv')}__")
        setattr(NDArray, f"__{symbol}__", there)
    setattr(NDArray, "__nonzero__", NDArray.__bool__)  # noqa: B010

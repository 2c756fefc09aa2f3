# SPDX-License-Identifier: Apache-2.0
"""Making arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kvtrain.context import Context, current_context, usable
from kvtrain.errors import DTypeError, OperatorError
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.stored.creation import array as sparse_array
from kvtrain.ndarray.stored.creation import sparse_source
from kvtrain.ndarray.stored.creation import zeros as sparse_zeros
from kvtrain.ops.attribute import declared, dtype_of, read_shape

Shape = int | Sequence[int]


def wrap(raw: np.ndarray[Any, Any], ctx: Context | None = None) -> NDArray:
    """An NDArray over `raw` itself, without a copy."""
    return NDArray(raw, current_context() if ctx is None else ctx)


def _shape(shape: Any) -> tuple[int, ...]:
    given = read_shape("array", "shape", shape)
    try:
        sizes = tuple(int(n) for n in ((given,) if isinstance(given, int | np.integer) else given))
    except (TypeError, ValueError):
        raise OperatorError(f"shape={shape!r}; an integer or a tuple of them is needed") from None
    if any(n < 0 for n in sizes):
        raise OperatorError(f"shape={shape!r}; no dimension can be negative")
    return sizes


def _kind(dtype: Any) -> np.dtype[Any]:
    return _FLOAT if dtype is None else dtype_of(dtype)


_FLOAT = np.dtype(np.float32)


def array(source_array: Any, ctx: Context | None = None, dtype: Any = None) -> NDArray:
    """An array with the values of a (nested) sequence, NumPy array or NDArray.

    Parameters
    ----------
    dtype : dtype, optional
        Default: that of an NDArray, else float32.
    """
    ctx = usable(ctx)
    if sparse_source(source_array):
        return sparse_array(source_array, ctx, dtype)
    if isinstance(source_array, NDArray):
        raw = source_array._read()
        return NDArray(
            np.array(raw, raw.dtype if dtype is None else dtype_of(dtype), order="C"), ctx
        )
    if isinstance(source_array, list | tuple) and any(
        isinstance(part, NDArray) for part in source_array
    ):
        source_array = [p.asnumpy() if isinstance(p, NDArray) else p for p in source_array]
    kind = _kind(dtype)
    try:
        raw = np.array(source_array, kind, order="C")
    except (ValueError, TypeError) as error:
        raise TypeError(f"source_array must be array like object: {error}") from None
    return NDArray(raw, ctx)


def from_numpy(ndarray: np.ndarray[Any, Any], zero_copy: bool = True) -> NDArray:
    """An NDArray over the NumPy array itself (`zero_copy`), or over a copy."""
    if not zero_copy:
        return NDArray(np.array(ndarray, order="C"), current_context())
    if not ndarray.flags.c_contiguous:
        raise ValueError("Only C-contiguous arrays can be shared; pass zero_copy=False")
    return NDArray(ndarray, current_context())


def empty(
    shape: Shape, ctx: Context | None = None, dtype: Any = None, stype: str | None = None
) -> NDArray:
    """An array whose values are not set; without elements in a sparse storage `stype`."""
    if stype not in (None, "default"):
        return sparse_zeros(str(stype), shape, ctx, dtype)
    return NDArray(np.empty(_shape(shape), _kind(dtype)), usable(ctx))


def zeros(
    shape: Shape, ctx: Context | None = None, dtype: Any = None, stype: str | None = None, **kw: Any
) -> NDArray:
    """An array of zeros in storage `stype` (``'default'``, ``'row_sparse'``, ``'csr'``)."""
    if stype not in (None, "default"):
        return sparse_zeros(str(stype), shape, ctx, dtype)
    return NDArray(np.zeros(_shape(shape), _kind(dtype)), usable(ctx))


def ones(shape: Shape, ctx: Context | None = None, dtype: Any = None, **kw: Any) -> NDArray:
    """An array of ones."""
    return NDArray(np.ones(_shape(shape), _kind(dtype)), usable(ctx))


def full(
    shape: Shape, val: float, ctx: Context | None = None, dtype: Any = None, out: Any = None
) -> NDArray:
    """An array filled with `val`."""
    try:
        raw = np.full(_shape(shape), val, _kind(dtype))
    except (TypeError, ValueError) as error:
        if isinstance(error, OperatorError):
            raise
        raise DTypeError(f"full: val={val!r}; a number is needed") from None
    made = NDArray(raw, usable(ctx))
    return made if out is None else made.copyto(out)


@declared
def arange(
    start: float,
    stop: float | None = None,
    step: float = 1.0,
    repeat: int = 1,
    infer_range: bool | None = None,
    ctx: Context | None = None,
    dtype: Any = "float32",
) -> NDArray:
    """Evenly spaced values in ``[start, stop)``, each `repeat` times."""
    if stop is None:
        start, stop = 0, start
    if not step or (stop - start) * step <= 0:
        raise OperatorError(f"arange: no values from {start} to {stop} in steps of {step}")
    values = np.arange(start, stop, step)
    return NDArray(np.repeat(values, repeat).astype(_kind(dtype)), usable(ctx))


@declared
def linspace(
    start: float,
    stop: float,
    num: int,
    endpoint: bool = True,
    ctx: Context | None = None,
    dtype: Any = None,
) -> NDArray:
    """`num` evenly spaced values from `start` to `stop`."""
    if num < 0:
        raise OperatorError(f"linspace: num={num}; 0 or more is needed")
    values = np.linspace(start, stop, num, endpoint=endpoint)
    return NDArray(values.astype(_kind(dtype)), usable(ctx))


@declared
def eye(
    N: int, M: int = 0, k: int = 0, ctx: Context | None = None, dtype: Any = None, **kw: Any
) -> NDArray:
    """Ones on diagonal `k`, zeros elsewhere."""
    rows, columns = _shape((N, M or N))
    return NDArray(np.eye(rows, columns, k, _kind(dtype)), usable(ctx))

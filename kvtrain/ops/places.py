# SPDX-License-Identifier: Apache-2.0
"""Operators on positions: flat and many-dimensional indices, masks, copies of rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.attribute import Numbers, Shape
from kvtrain.ops.broadcast import axes_of
from kvtrain.ops.derive import derived, flat, run, values
from kvtrain.ops.registry import op


def _shape(shape: Any) -> tuple[int, ...]:
    return (int(shape),) if isinstance(shape, int) else tuple(int(n) for n in shape)


@op("ravel_multi_index", vjp=flat, aliases=("_ravel_multi_index",))
def _ravel(xp: Any, data: Any, /, *, shape: Shape) -> Any:
    """Flat positions from (dimensions, n) indices into an array of `shape`."""
    sizes = _shape(shape)
    if data.ndim < 1 or data.shape[0] != len(sizes):
        raise ValueError(f"data has shape {data.shape}; its first dimension must be {len(sizes)}")
    strides = np.cumprod((1, *sizes[:0:-1]))[::-1]
    whole = data.astype(np.int64)
    return np.tensordot(strides, whole, axes=1).astype(data.dtype)


@op("unravel_index", vjp=flat, aliases=("_unravel_index",))
def _unravel(xp: Any, data: Any, /, *, shape: Shape) -> Any:
    """(dimensions, ...) indices into an array of `shape` from flat positions."""
    sizes = _shape(shape)
    rest = data.astype(np.int64)
    out = []
    for size in sizes[:0:-1]:
        out.append(rest % size)
        rest = rest // size
    out.append(rest)
    return np.stack(out[::-1]).astype(data.dtype)


@op("_contrib_arange_like", vjp=flat)
def _arange_like(
    xp: Any,
    data: Any,
    /,
    *,
    start: float = 0.0,
    step: float = 1.0,
    repeat: int = 1,
    ctx: str | None = None,
    axis: int | None = None,
) -> Any:
    """Evenly spaced values in the shape of `data`, or as many as it has along `axis`."""
    count = data.size if axis is None else data.shape[axis]
    numbers = start + step * np.arange(-(-count // repeat), dtype=np.float64)
    out = np.repeat(numbers, repeat)[:count].astype(data.dtype)
    return out.reshape(data.shape) if axis is None else out


@op("_contrib_index_array", vjp=flat)
def _index_array(xp: Any, data: Any, /, *, axes: Shape = None) -> Any:
    """The index of each element along `axes` (None: all), in a last dimension, as int64."""
    chosen = range(data.ndim) if axes is None else axes_list(axes, data.ndim)
    grids = [np.broadcast_to(_along(data.shape, a), data.shape) for a in chosen]
    return np.stack(grids, axis=-1).astype(np.int64)


def axes_list(axes: Any, ndim: int) -> list[int]:
    """Axes in the order given, not negative."""
    given = (axes,) if isinstance(axes, int) else tuple(axes)
    for axis in given:
        axes_of(axis, ndim)
    return [a % ndim for a in given]


def _along(shape: tuple[int, ...], axis: int) -> Any:
    steps = np.arange(shape[axis])
    return steps.reshape(tuple(-1 if i == axis else 1 for i in range(len(shape))))


def _copy_formula(xp: Any, old: Any, index: Any, new: Any) -> Any:
    rows = values(index).astype(np.int64)
    if rows.size and (rows.min() < 0 or rows.max() >= old.shape[0]):
        raise ValueError(f"index_vector {rows.tolist()} outside the {old.shape[0]} rows")
    kept = np.ones((old.shape[0],) + (1,) * (len(old.shape) - 1), np.dtype(old.dtype).name)
    kept[rows] = 0
    return old * kept + xp.index_grad(new, shape=tuple(old.shape), key=rows)


@op("_contrib_index_copy", vjp=derived(_copy_formula, 0, 2))
def _index_copy(xp: Any, old_tensor: Any, index_vector: Any, new_tensor: Any, /) -> Any:
    """A copy of `old_tensor` whose rows `index_vector` are those of `new_tensor`."""
    wanted = (index_vector.size, *old_tensor.shape[1:])
    if new_tensor.shape != wanted:
        raise ValueError(f"new_tensor has shape {new_tensor.shape}; {wanted} is needed")
    out = old_tensor.copy()
    rows = index_vector.astype(np.int64)
    if rows.size and (rows.min() < 0 or rows.max() >= len(out)):
        raise ValueError(f"index_vector {rows.tolist()} outside the {len(out)} rows")
    out[rows] = new_tensor
    return out


def _mask_formula(xp: Any, data: Any, index: Any, *, axis: int) -> Any:
    chosen = np.flatnonzero(values(index))
    key = (slice(None),) * (axis % len(data.shape)) + (chosen,)
    return run(xp, "_index", data, key=key)


@op("_contrib_boolean_mask", vjp=derived(_mask_formula, 0))
def _boolean_mask(xp: Any, data: Any, index: Any, /, *, axis: int = 0) -> Any:
    """Elements of `data` along `axis` where `index` is not 0."""
    if index.shape != (data.shape[axis],):
        raise ValueError(f"index has shape {index.shape}; ({data.shape[axis]},) is needed")
    return _mask_formula(xp, data, index, axis=axis)


@op("_contrib_allclose", vjp=None)
def _allclose(
    xp: Any,
    a: Any,
    b: Any,
    /,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    equal_nan: bool = True,
) -> Any:
    """1 if all elements are equal within the tolerances, else 0; no dimensions, uint8."""
    close = np.allclose(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan)
    return np.array(close, np.uint8)


@op("_histogram", vjp=None, public=False)
def _histogram(
    xp: Any, data: Any, /, *edges: Any, bin_cnt: int | None = None, range: Numbers = None
) -> Any:
    """Counts (int64) and bin edges."""
    bins = (
        edges[0]
        if edges
        else np.linspace(range[0], range[1], (bin_cnt or 10) + 1).astype(data.dtype)
    )
    counts, _ = np.histogram(data, bins=bins)
    return counts.astype(np.int64), np.array(bins)


@op("fill_element_0index", vjp=None)
def _fill_element(xp: Any, lhs: Any, mhs: Any, rhs: Any, /) -> Any:
    """A copy of `lhs` with ``lhs[i, rhs[i]] = mhs[i]``."""
    out = lhs.copy()
    out[np.arange(len(out)), rhs.astype(np.int64)] = mhs
    return out


@op("onehot_encode", vjp=None, aliases=("_onehot_encode",))
def _onehot_encode(xp: Any, lhs: Any, rhs: Any, /) -> Any:
    """Rows of the shape of `rhs` that are 1 at the index in `lhs`."""
    out = np.zeros(rhs.shape, rhs.dtype)
    out[np.arange(len(out)), lhs.astype(np.int64)] = 1
    return out

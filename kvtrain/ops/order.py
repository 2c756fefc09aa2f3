# SPDX-License-Identifier: Apache-2.0
"""Sorting and the largest elements; the order is constant where it is differentiated."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.derive import flat, run, values
from kvtrain.ops.registry import op


def _ordered(data: Any, axis: int, is_ascend: bool) -> Any:
    """Indices that sort along `axis`; equal elements keep their order."""
    keys = data if is_ascend else (-data if data.dtype.kind == "f" else -data.astype(np.int64))
    return np.argsort(keys, axis=axis, kind="stable")


def _lines(shape: tuple[int, ...], axis: int | None) -> tuple[tuple[int, ...], int]:
    """The shape that is sorted, and along which axis (None: flattened)."""
    if axis is None:
        return (int(np.prod(shape, dtype=np.int64)),), 0
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"axis={axis} is out of range for data of shape {tuple(shape)}")
    return tuple(shape), axis % len(shape)


@op(
    "_along",
    vjp=lambda xp, g, out, a, *, places, size, axis: (
        run(xp, "_put_along", g, places=places, size=a.shape[axis], axis=axis),
    ),
    public=False,
)
def _along(xp: Any, data: Any, /, *, places: Any, size: int, axis: int) -> Any:
    """Elements along `axis` at `places`, an array of constants; each place once."""
    return np.take_along_axis(data, places, axis)


@op(
    "_put_along",
    vjp=lambda xp, g, out, a, *, places, size, axis: (
        run(xp, "_along", g, places=places, size=a.shape[axis], axis=axis),
    ),
    public=False,
)
def _put_along(xp: Any, data: Any, /, *, places: Any, size: int, axis: int) -> Any:
    """Zeros with `data` put along `axis` at `places`: the gradient of `_along`."""
    shape = list(places.shape)
    shape[axis] = size
    out = np.zeros(shape, data.dtype)
    np.put_along_axis(out, places, data, axis)
    return out


def _put(xp: Any, g: Any, shape: tuple[int, ...], places: Any, axis: int) -> Any:
    return run(xp, "_put_along", g, places=places, size=shape[axis], axis=axis)


def _sort_vjp(xp: Any, g: Any, out: Any, a: Any, *, axis: Any, is_ascend: bool) -> tuple[Any, ...]:
    shape, along = _lines(a.shape, axis)
    places = _ordered(values(a).reshape(shape), along, is_ascend)
    return (xp.reshape(_put(xp, g, shape, places, along), a.shape),)


@op("sort", vjp=_sort_vjp, methods=("sort",))
def _sort(xp: Any, data: Any, /, *, axis: int | None = -1, is_ascend: bool = True) -> Any:
    """Sorted copy along `axis` (None: flattened)."""
    shape, along = _lines(data.shape, axis)
    flat = data.reshape(shape)
    return np.take_along_axis(flat, _ordered(flat, along, is_ascend), along)


@op("argsort", vjp=flat, methods=("argsort",))
def _argsort(
    xp: Any,
    data: Any,
    /,
    *,
    axis: int | None = -1,
    is_ascend: bool = True,
    dtype: str = "float32",
) -> Any:
    """Indices that would sort along `axis` (None: flattened)."""
    shape, along = _lines(data.shape, axis)
    return _ordered(data.reshape(shape), along, is_ascend).astype(dtype)


def _first(data: Any, axis: int, k: int, is_ascend: bool) -> Any:
    size = data.shape[axis]
    if k > size:
        raise ValueError(f"k={k} exceeds the {size} elements along the axis")
    order = _ordered(data, axis, is_ascend)
    return np.take(order, np.arange(k if k > 0 else size), axis)


def _topk_vjp(
    xp: Any,
    g: Any,
    out: Any,
    a: Any,
    *,
    axis: Any,
    k: int,
    ret_typ: str,
    is_ascend: bool,
    dtype: str,
) -> tuple[Any, ...]:
    if ret_typ not in ("value", "both"):
        return (None,)
    shape, along = _lines(a.shape, axis)
    places = _first(values(a).reshape(shape), along, k, is_ascend)
    g = g[0] if isinstance(g, tuple) else g
    return (xp.reshape(_put(xp, g, shape, places, along), a.shape),)


@op("topk", vjp=_topk_vjp, methods=("topk",))
def _topk(
    xp: Any,
    data: Any,
    /,
    *,
    axis: int | None = -1,
    k: int = 1,
    ret_typ: str = "indices",
    is_ascend: bool = False,
    dtype: str = "float32",
) -> Any:
    """The `k` largest (or smallest) along `axis`: value, indices, both or a mask."""
    shape, along = _lines(data.shape, axis)
    flat = data.reshape(shape)
    first = _first(flat, along, k, is_ascend)
    if ret_typ == "indices":
        return first.astype(dtype)
    if ret_typ == "mask":
        mask = np.zeros(flat.shape, data.dtype)
        np.put_along_axis(mask, first, data.dtype.type(1), along)
        return mask.reshape(data.shape)
    found = np.take_along_axis(flat, first, along)
    if ret_typ == "value":
        return found
    if ret_typ == "both":
        return found, first.astype(dtype)
    raise ValueError(f"ret_typ={ret_typ!r}; known: value, indices, mask, both")

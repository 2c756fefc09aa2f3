# SPDX-License-Identifier: Apache-2.0
"""Operators that read elements by position: slices, look-ups, masks of sequences."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.attribute import Shape
from kvtrain.ops.derive import flat
from kvtrain.ops.registry import op


def _slices(shape: tuple[int, ...], begin: Any, end: Any, step: Any) -> tuple[slice, ...]:
    begins = (begin,) if isinstance(begin, int) else tuple(begin)
    ends = (end,) if isinstance(end, int) else tuple(end)
    steps = tuple(step) if step else (None,) * len(begins)
    if not len(begins) == len(ends) == len(steps) or len(begins) > len(shape):
        raise ValueError(f"slice: begin={begin}, end={end}, step={step} do not fit {shape}")
    return tuple(slice(b, e, s or None) for b, e, s in zip(begins, ends, steps, strict=True))


def _slice_vjp(
    xp: Any, g: Any, out: Any, a: Any, *, begin: Any, end: Any, step: Any
) -> tuple[Any, ...]:
    return (xp.index_grad(g, shape=a.shape, key=_slices(a.shape, begin, end, step)),)


@op("slice", vjp=_slice_vjp, aliases=("crop",), methods=("slice",))
def _slice(xp: Any, data: Any, /, *, begin: Shape, end: Shape, step: Shape = ()) -> Any:
    """``data[begin[0]:end[0]:step[0], ...]`` for the first dimensions."""
    return data[_slices(data.shape, begin, end, step)]


def _slice_axis_vjp(
    xp: Any, g: Any, out: Any, a: Any, *, axis: int, begin: int, end: int | None
) -> tuple[Any, ...]:
    key = (slice(None),) * (axis % len(a.shape)) + (slice(begin, end),)
    return (xp.index_grad(g, shape=a.shape, key=key),)


@op("slice_axis", vjp=_slice_axis_vjp, methods=("slice_axis",))
def _slice_axis(xp: Any, data: Any, /, *, axis: int, begin: int, end: int | None) -> Any:
    """``data[begin:end]`` along `axis`; `end` None: to the end."""
    return xp.slice_axis(data, axis=axis, begin=begin, end=end)


def _like_key(shape: tuple[int, ...], like: tuple[int, ...], axes: Any) -> tuple[slice, ...]:
    if not axes and len(shape) != len(like):
        raise ValueError(f"{tuple(shape)} and {tuple(like)} have different numbers of dimensions")
    given = (axes,) if isinstance(axes, int) else axes
    for a in given or ():
        for name, size in (("data", len(shape)), ("shape_like", len(like))):
            if not -size <= a < size:
                raise ValueError(f"axes={axes}: {name} has {size} dimensions")
    chosen = range(len(shape)) if not axes else [a % len(shape) for a in given]
    return tuple(slice(0, like[i]) if i in chosen else slice(None) for i in range(len(shape)))


@op(
    "slice_like",
    vjp=lambda xp, g, out, a, b, *, axes: (
        xp.index_grad(g, shape=a.shape, key=_like_key(a.shape, b.shape, axes)),
        None,
    ),
    methods=("slice_like",),
)
def _slice_like(xp: Any, data: Any, shape_like: Any, /, *, axes: Shape = ()) -> Any:
    """The first elements along `axes` (none given: all), as many as `shape_like` has."""
    return data[_like_key(data.shape, shape_like.shape, axes)]


@op(
    "_index",
    vjp=lambda xp, g, out, a, *, key: (xp.index_grad(g, shape=a.shape, key=key),),
    public=False,
)
def _index(xp: Any, data: Any, /, *, key: Any) -> Any:
    """``data[key]`` with NumPy's indexing; one element comes as shape (1,)."""
    out = np.asarray(data[key])
    return out.reshape((1,)) if out.ndim == 0 and data.ndim else out


@op(
    "_index_grad",
    vjp=lambda xp, g, out, a, *, shape, key: (g[key],),
    public=False,
    aliases=("index_grad",),
)
def _index_grad(xp: Any, grad: Any, /, *, shape: Shape, key: Any) -> Any:
    """Gradient of reading at `key`."""
    return xp.index_grad(grad, shape=shape, key=key)


def _rows(indices: Any, count: int, mode: str) -> Any:
    """Row numbers in range: outside ones are clipped or wrapped, or refused (`raise`)."""
    raw = np.asarray(indices).astype(np.int64)
    if mode == "clip":
        return np.clip(raw, 0, count - 1)
    if mode == "wrap":
        return raw % count
    if mode == "raise":
        if raw.size and (raw.min() < 0 or raw.max() >= count):
            raise ValueError(f"take: index outside 0 to {count - 1}")
        return raw
    raise ValueError(f"take: mode={mode!r}; known: clip, wrap, raise")


def _take_vjp(
    xp: Any, g: Any, out: Any, a: Any, indices: Any, *, axis: int, mode: str
) -> tuple[Any, ...]:
    axis %= len(a.shape)
    count = a.shape[axis]
    rows = _rows(_plain(indices), count, mode)
    k = len(rows.shape)
    rest = (*a.shape[:axis], *a.shape[axis + 1 :])
    if axis:
        order = (
            *range(axis, axis + k),
            *range(axis),
            *range(axis + k, len(g.shape)),
        )
        g = xp.transpose(g, axes=order)
    width = int(np.prod(rest, dtype=np.int64))
    flat = xp.embedding_grad(xp.reshape(g, (rows.size, width)), rows=rows.reshape(-1), count=count)
    grad = xp.reshape(flat, (count, *rest))
    if axis:
        grad = xp.transpose(grad, axes=(*range(1, axis + 1), 0, *range(axis + 1, len(a.shape))))
    return grad, None


def _plain(array: Any) -> Any:
    """Raw values, whichever kind of array a vjp was given."""
    return array.asnumpy() if hasattr(array, "asnumpy") else array


@op("take", vjp=_take_vjp, methods=("take",))
def _take(xp: Any, a: Any, indices: Any, /, *, axis: int = 0, mode: str = "clip") -> Any:
    """Elements of `a` along `axis` at `indices`."""
    return xp.take(a, _rows(indices, a.shape[axis], mode), axis=axis)


def _embedding_vjp(
    xp: Any, g: Any, out: Any, data: Any, weight: Any, **attrs: Any
) -> tuple[Any, ...]:
    rows = _rows(_plain(data), weight.shape[0], "clip").reshape(-1)
    width = weight.shape[1]
    if attrs["sparse_grad"] and isinstance(g, np.ndarray):  # a recorded gradient is dense
        return None, xp.embedding_rows(g.reshape(rows.size, width), rows, count=weight.shape[0])
    return None, xp.embedding_grad(
        xp.reshape(g, (rows.size, width)), rows=rows, count=weight.shape[0]
    )


@op("Embedding", vjp=_embedding_vjp)
def _embedding(
    xp: Any,
    data: Any,
    weight: Any,
    /,
    *,
    input_dim: int = 0,
    output_dim: int = 0,
    dtype: str = "float32",
    sparse_grad: bool = False,
) -> Any:
    """Rows of `weight` (input_dim, output_dim) at the integers in `data`."""
    wanted = (input_dim or weight.shape[0], output_dim or weight.shape[-1])
    if tuple(weight.shape) != wanted:
        raise ValueError(f"weight has shape {tuple(weight.shape)}; {wanted} is needed")
    return xp.take(weight, _rows(data, weight.shape[0], "clip"), axis=0)


@op(
    "_embedding_grad",
    vjp=lambda xp, g, out, a, *, rows, count: (xp.take(g, rows, axis=0),),
    public=False,
    aliases=("embedding_grad",),
)
def _embedding_grad(xp: Any, grad: Any, /, *, rows: Any, count: int) -> Any:
    """Rows of `grad` added where they were read."""
    return xp.embedding_grad(grad, rows, count=count)


def _pick_vjp(
    xp: Any, g: Any, out: Any, a: Any, index: Any, *, axis: int, keepdims: bool, mode: str
) -> tuple[Any, ...]:
    axis = axis % len(a.shape) if axis is not None else len(a.shape) - 1
    places, kept = _places(a.shape, _plain(index), axis, mode)
    grad = xp.pick_grad(xp.reshape(g, kept), places=places, size=a.shape[axis], axis=axis)
    return grad, None


def _places(
    shape: tuple[int, ...], index: Any, axis: int, mode: str
) -> tuple[Any, tuple[int, ...]]:
    kept = (*shape[:axis], *shape[axis + 1 :])
    places = _rows(index, shape[axis], mode)
    return np.broadcast_to(places.reshape(kept), kept), kept


@op("pick", vjp=_pick_vjp, methods=("pick",), aliases=("choose_element_0index",))
def _pick(
    xp: Any,
    data: Any,
    index: Any,
    /,
    *,
    axis: int | None = -1,
    keepdims: bool = False,
    mode: str = "clip",
) -> Any:
    """One element of `data` along `axis` per position of `index`."""
    if axis is not None and not -data.ndim <= axis < data.ndim:
        raise ValueError(f"axis={axis}: data has {data.ndim} dimensions")
    axis = axis % data.ndim if axis is not None else data.ndim - 1
    places, _ = _places(data.shape, index, axis, mode)
    return xp.pick(data, places, axis=axis, keepdims=keepdims)


@op(
    "_pick_grad",
    vjp=lambda xp, g, out, a, *, places, size, axis: (
        xp.pick(g, places, axis=axis, keepdims=False, mode="clip"),
    ),
    public=False,
    aliases=("pick_grad",),
)
def _pick_grad(xp: Any, grad: Any, /, *, places: Any, size: int, axis: int) -> Any:
    """`grad` put where pick read it, zero elsewhere."""
    return xp.pick_grad(grad, places, size=size, axis=axis)


@op("batch_take", vjp=None)
def _batch_take(xp: Any, a: Any, indices: Any, /) -> Any:
    """``a[i, indices[i]]``."""
    return a[np.arange(a.shape[0]), _rows(indices, a.shape[1], "clip")]


@op("one_hot", vjp=flat, methods=("one_hot",))
def _one_hot(
    xp: Any,
    indices: Any,
    /,
    *,
    depth: int,
    on_value: float = 1.0,
    off_value: float = 0.0,
    dtype: str = "float32",
) -> Any:
    """A last dimension of size `depth` that is `on_value` at the index, else `off_value`."""
    rows = np.asarray(indices).astype(np.int64)
    out = np.full((*rows.shape, depth), off_value, dtype)
    inside = (rows >= 0) & (rows < depth)
    at = np.nonzero(inside)
    out[(*at, rows[inside])] = on_value
    return out


def _gather_vjp(xp: Any, g: Any, out: Any, a: Any, indices: Any) -> tuple[Any, ...]:
    key = tuple(np.asarray(_plain(indices)).astype(np.int64))
    return xp.index_grad(g, shape=a.shape, key=key), None


@op("gather_nd", vjp=_gather_vjp)
def _gather_nd(xp: Any, data: Any, indices: Any, /) -> Any:
    """``data[indices[0], indices[1], ...]``."""
    return data[tuple(indices.astype(np.int64))]


@op(
    "scatter_nd",
    vjp=lambda xp, g, out, a, indices, *, shape: (
        g[tuple(np.asarray(_plain(indices)).astype(np.int64))],
        None,
    ),
)
def _scatter_nd(xp: Any, data: Any, indices: Any, /, *, shape: Shape) -> Any:
    """Zeros of `shape` with `data` written at ``indices[0], indices[1], ...``."""
    out = np.zeros(tuple(shape), data.dtype)
    out[tuple(indices.astype(np.int64))] = data
    return out

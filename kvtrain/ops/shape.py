# SPDX-License-Identifier: Apache-2.0
"""Operators that move elements without changing them."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from kvtrain.ops.attribute import Shape
from kvtrain.ops.broadcast import unbroadcast
from kvtrain.ops.derive import derived, flat, run
from kvtrain.ops.registry import op


def reshape_to(
    old: tuple[int, ...], shape: tuple[int, ...], reverse: bool = False
) -> tuple[int, ...]:
    """MXNet's reshape codes: 0 copies a dimension, -1 is what is left, -2 copies all the rest,
    -3 merges two, -4 splits one by the next two numbers.

    Raises
    ------
    ValueError
        The sizes do not fit.
    """
    if reverse:
        codes = tuple(reversed(shape))
        return tuple(reversed(reshape_to(tuple(reversed(old)), codes)))
    out: list[int] = []
    at = i = 0
    codes_ = list(shape)
    while i < len(codes_):
        code = codes_[i]
        if code == 0:
            out.append(_dimension(old, at, shape))
            at += 1
        elif code == -1:
            out.append(-1)
            at += 1
        elif code == -2:
            out.extend(old[at:])
            at = len(old)
        elif code == -3:
            out.append(_dimension(old, at, shape) * _dimension(old, at + 1, shape))
            at += 2
        elif code == -4:
            left, right = codes_[i + 1], codes_[i + 2]
            size = _dimension(old, at, shape)
            left = size // right if left == -1 else left
            right = size // left if right == -1 else right
            if left * right != size:
                raise ValueError(f"reshape: {size} cannot be split into {left} x {right}")
            out += [left, right]
            at += 1
            i += 2
        elif code > 0:
            out.append(code)
            at += 1
        else:
            raise ValueError(f"reshape: {code} in {shape} is no size and no code (0 to -4)")
        i += 1
    size = prod(old)
    if out.count(-1) > 1:
        raise ValueError(f"reshape: more than one -1 in {shape}")
    if -1 in out:
        rest = prod(n for n in out if n != -1)
        out[out.index(-1)] = size // rest if rest else 0
    if prod(out) != size:
        raise ValueError(
            f"reshape: {tuple(old)} has {size} elements and does not fit {tuple(shape)}"
        )
    return tuple(out)


def _dimension(old: tuple[int, ...], at: int, shape: tuple[int, ...]) -> int:
    if at >= len(old):
        raise ValueError(f"reshape: {shape} names more dimensions than {tuple(old)} has")
    return old[at]


def _reshape_vjp(xp: Any, g: Any, out: Any, a: Any, **attrs: Any) -> tuple[Any, ...]:
    return (xp.reshape(g, a.shape),)


@op("Reshape", vjp=_reshape_vjp, aliases=("reshape",))
def _reshape(
    xp: Any,
    data: Any,
    /,
    *,
    shape: Shape = (),
    reverse: bool = False,
    target_shape: Shape = (),
    keep_highest: bool = False,
) -> Any:
    """The same elements in another shape; see MXNet's codes 0, -1, -2, -3 and -4.

    `target_shape` and `keep_highest` are the old form: a 0 is what is left.
    """
    wanted = (shape,) if isinstance(shape, int) else tuple(shape)
    if not wanted and target_shape:
        wanted = tuple(n or -1 for n in target_shape)
        wanted = (0, *wanted[1:]) if keep_highest else wanted
    return data.reshape(reshape_to(data.shape, wanted, reverse))


@op("_reshape_plain", vjp=_reshape_vjp, public=False)
def _reshape_plain(xp: Any, data: Any, /, *, shape: Shape) -> Any:
    """The same elements in another shape, without codes but -1."""
    return data.reshape(shape)


@op("Flatten", vjp=_reshape_vjp, aliases=("flatten",), methods=("flatten",))
def _flatten(xp: Any, data: Any, /) -> Any:
    """Two dimensions: the first kept, the others merged."""
    return data.reshape((data.shape[0], prod(data.shape[1:])))


@op("expand_dims", vjp=_reshape_vjp, methods=("expand_dims",))
def _expand_dims(xp: Any, data: Any, /, *, axis: int) -> Any:
    """A dimension of size 1 put in at `axis`."""
    return xp.expand_dims(data, axis)


@op("squeeze", vjp=_reshape_vjp, methods=("squeeze",))
def _squeeze(xp: Any, data: Any, /, *, axis: Shape = None) -> Any:
    """Dimensions of size 1 removed."""
    out = xp.squeeze(data, axis=tuple(axis) if isinstance(axis, list) else axis)
    return out.reshape((1,)) if out.ndim == 0 else out


@op(
    "reshape_like",
    vjp=lambda xp, g, out, a, b, **attrs: (xp.reshape(g, a.shape), None),
    methods=("reshape_like",),
)
def _reshape_like(
    xp: Any,
    lhs: Any,
    rhs: Any,
    /,
    *,
    lhs_begin: int | None = None,
    lhs_end: int | None = None,
    rhs_begin: int | None = None,
    rhs_end: int | None = None,
) -> Any:
    """The first array in the shape of the second; of both, slices of the dimensions count."""
    first, last = slice(lhs_begin, lhs_end).indices(lhs.ndim)[:2]
    shape = (*lhs.shape[:first], *rhs.shape[rhs_begin:rhs_end], *lhs.shape[max(first, last) :])
    return lhs.reshape(shape)


def _transpose_vjp(xp: Any, g: Any, out: Any, a: Any, *, axes: Any) -> tuple[Any, ...]:
    order = tuple(axes) if axes else tuple(reversed(range(len(a.shape))))
    back = tuple(order.index(i) for i in range(len(order)))
    return (xp.transpose(g, axes=back),)


@op("transpose", vjp=_transpose_vjp)
def _transpose(xp: Any, data: Any, /, *, axes: Shape = ()) -> Any:
    """Dimensions in the order `axes` (none given: reversed)."""
    return xp.transpose(data, tuple(axes) if axes else None)


@op(
    "SwapAxis",
    vjp=lambda xp, g, out, a, *, dim1, dim2: (xp.swapaxes(g, dim1, dim2),),
    aliases=("swapaxes",),
)
def _swapaxes(xp: Any, data: Any, /, *, dim1: int = 0, dim2: int = 0) -> Any:
    """Two dimensions exchanged."""
    return xp.swapaxes(data, dim1, dim2)


@op(
    "flip",
    vjp=lambda xp, g, out, a, *, axis: (xp.flip(g, axis=axis),),
    aliases=("reverse",),
    methods=("flip",),
)
def _flip(xp: Any, data: Any, /, *, axis: Shape) -> Any:
    """Elements in reverse order along `axis`."""
    return xp.flip(data, axis)


@op(
    "broadcast_to",
    vjp=lambda xp, g, out, a, *, shape: (unbroadcast(xp, g, a.shape),),
)
def _broadcast_to(xp: Any, data: Any, /, *, shape: Shape = ()) -> Any:
    """Repeated along dimensions of size 1; a 0 in `shape` keeps the dimension."""
    wanted = tuple(shape)
    if len(wanted) == data.ndim:
        wanted = tuple(n or old for n, old in zip(wanted, data.shape, strict=True))
    return xp.broadcast_to(data, wanted)


@op(
    "_broadcast_plain",
    vjp=lambda xp, g, out, a, *, shape: (unbroadcast(xp, g, a.shape),),
    public=False,
)
def _broadcast_plain(xp: Any, data: Any, /, *, shape: Shape) -> Any:
    """Repeated along dimensions of size 1; a 0 is a size."""
    return xp.broadcast_to(data, shape)


@op(
    "broadcast_axis",
    vjp=lambda xp, g, out, a, *, axis, size: (unbroadcast(xp, g, a.shape),),
    aliases=("broadcast_axes",),
    methods=("broadcast_axes",),
)
def _broadcast_axis(xp: Any, data: Any, /, *, axis: Shape = (), size: Shape = ()) -> Any:
    """Repeated along the given dimensions of size 1."""
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    sizes = (size,) if isinstance(size, int) else tuple(size)
    shape = list(data.shape)
    for a, n in zip(axes, sizes, strict=True):
        if shape[a] != 1:
            raise ValueError(f"broadcast_axis: dimension {a} has size {shape[a]}, not 1")
        shape[a] = n
    return xp.broadcast_to(data, tuple(shape))


@op(
    "broadcast_like",
    vjp=lambda xp, g, out, a, b, **attrs: (unbroadcast(xp, g, a.shape), None),
    methods=("broadcast_like",),
)
def _broadcast_like(
    xp: Any, lhs: Any, rhs: Any, /, *, lhs_axes: Shape = None, rhs_axes: Shape = None
) -> Any:
    """The first array repeated to the shape of the second."""
    if lhs_axes is None or rhs_axes is None:
        return xp.broadcast_to(lhs, rhs.shape)
    shape = list(lhs.shape)
    for a, b in zip(lhs_axes, rhs_axes, strict=True):
        shape[a] = rhs.shape[b]
    return xp.broadcast_to(lhs, tuple(shape))


def _concat_vjp(xp: Any, g: Any, out: Any, *arrays: Any, dim: int) -> tuple[Any, ...]:
    axis, at, parts = dim % len(g.shape), 0, []
    for a in arrays:
        parts.append(xp.slice_axis(g, axis=axis, begin=at, end=at + a.shape[axis]))
        at += a.shape[axis]
    return tuple(parts)


@op("Concat", vjp=_concat_vjp, aliases=("concat",))
def _concat(xp: Any, /, *data: Any, dim: int = 1) -> Any:
    """Arrays joined along `dim`."""
    return xp.concatenate(data, axis=dim)


def _stack_vjp(xp: Any, g: Any, out: Any, *arrays: Any, axis: int) -> tuple[Any, ...]:
    axis %= len(g.shape)
    return tuple(
        xp.reshape(xp.slice_axis(g, axis=axis, begin=i, end=i + 1), a.shape)
        for i, a in enumerate(arrays)
    )


@op("stack", vjp=_stack_vjp)
def _stack(xp: Any, /, *data: Any, axis: int = 0) -> Any:
    """Arrays joined along a new dimension."""
    return xp.stack(data, axis=axis)


def _split_vjp(
    xp: Any, g: Any, out: Any, a: Any, *, num_outputs: int, axis: int, squeeze_axis: bool
) -> tuple[Any, ...]:
    parts = g if isinstance(g, tuple) else (g,)
    shape = list(a.shape)
    shape[axis] //= num_outputs
    return (xp.concatenate([xp.reshape(p, tuple(shape)) for p in parts], axis=axis),)


@op("SliceChannel", vjp=_split_vjp, aliases=("split",))
def _split(
    xp: Any, data: Any, /, *, num_outputs: int, axis: int = 1, squeeze_axis: bool = False
) -> Any:
    """`num_outputs` equal parts along `axis`."""
    if data.shape[axis] % num_outputs:
        raise ValueError(f"split: {data.shape[axis]} is not a multiple of {num_outputs}")
    parts = [np.ascontiguousarray(p) for p in xp.split(data, num_outputs, axis=axis)]
    if squeeze_axis:
        parts = [xp.squeeze(p, axis=axis) for p in parts]
    return tuple(parts) if num_outputs > 1 else parts[0]


def _tile_vjp(xp: Any, g: Any, out: Any, a: Any, *, reps: Any) -> tuple[Any, ...]:
    counts = (reps,) if isinstance(reps, int) else tuple(reps)
    counts = (1,) * (len(g.shape) - len(counts)) + counts
    shape = (1,) * (len(g.shape) - len(a.shape)) + tuple(a.shape)
    split: list[int] = []
    for count, size in zip(counts, shape, strict=True):
        split += [count, size]
    summed = xp.sum(xp.reshape(g, tuple(split)), axis=tuple(range(0, len(split), 2)))
    return (xp.reshape(summed, a.shape),)


@op("tile", vjp=_tile_vjp, methods=("tile",))
def _tile(xp: Any, data: Any, /, *, reps: Shape) -> Any:
    """The whole array repeated."""
    return xp.tile(data, reps)


def _repeat_vjp(xp: Any, g: Any, out: Any, a: Any, *, repeats: int, axis: Any) -> tuple[Any, ...]:
    if axis is None:
        return (xp.reshape(xp.sum(xp.reshape(g, (-1, repeats)), axis=1), a.shape),)
    axis %= len(a.shape)
    shape = (*a.shape[: axis + 1], repeats, *a.shape[axis + 1 :])
    return (xp.sum(xp.reshape(g, shape), axis=axis + 1),)


@op("repeat", vjp=_repeat_vjp, methods=("repeat",))
def _repeat(xp: Any, data: Any, /, *, repeats: int, axis: int | None = None) -> Any:
    """Each element repeated along `axis` (None: flattened)."""
    return xp.repeat(data, repeats, axis)


def _pad_formula(xp: Any, a: Any, *, mode: str, pad_width: Any) -> Any:
    """Padding as a look-up along each axis."""
    for axis, size in enumerate(a.shape):
        low, high = pad_width[2 * axis], pad_width[2 * axis + 1]
        if low or high:
            places = np.pad(np.arange(size), (low, high), mode=mode)  # type: ignore[call-overload]
            a = run(xp, "take", a, places, axis=axis)
    return a


_general_pad = derived(_pad_formula)


def _pad_vjp(
    xp: Any, g: Any, out: Any, a: Any, *, mode: str, pad_width: Any, constant_value: float
) -> tuple[Any, ...]:
    if mode != "constant":
        return _general_pad(xp, g, out, a, mode=mode, pad_width=pad_width)
    for axis, size in enumerate(a.shape):
        low = pad_width[2 * axis]
        g = xp.slice_axis(g, axis=axis, begin=low, end=low + size)
    return (g,)


@op("Pad", vjp=_pad_vjp, aliases=("pad",))
def _pad(xp: Any, data: Any, /, *, mode: str, pad_width: Shape, constant_value: float = 0.0) -> Any:
    """Padded by `pad_width` (before, after for each dimension): constant, edge or reflect."""
    if data.ndim not in (4, 5) or len(pad_width) != 2 * data.ndim or any(pad_width[:4]):
        raise ValueError(
            f"pad: pad_width={pad_width}; data of 4 or 5 dimensions is needed, and two numbers "
            "for each, which for the first two dimensions are 0"
        )
    if mode == "reflect" and any(
        pad_width[2 * i + side] >= data.shape[i] for i in range(2, data.ndim) for side in (0, 1)
    ):
        raise ValueError(f"pad: pad_width={pad_width} reflects more than {data.shape} has")
    width = [(pad_width[2 * i], pad_width[2 * i + 1]) for i in range(data.ndim)]
    if mode == "constant":
        return xp.pad(data, width, constant_values=constant_value)
    if mode not in ("edge", "reflect"):
        raise ValueError(f"pad: mode={mode!r}; known: constant, edge, reflect")
    return xp.pad(data, width, mode=mode)


@op("zeros_like", vjp=lambda xp, g, out, a: (None,), methods=("zeros_like",))
def _zeros_like(xp: Any, data: Any, /) -> Any:
    """Zeros of the same shape and dtype."""
    return xp.zeros_like(data)


@op("ones_like", vjp=lambda xp, g, out, a: (None,), methods=("ones_like",))
def _ones_like(xp: Any, data: Any, /) -> Any:
    """Ones of the same shape and dtype."""
    return xp.ones_like(data)


@op("shape_array", vjp=flat, methods=("shape_array",))
def _shape_array(xp: Any, data: Any, /) -> Any:
    """The shape, as int64."""
    return np.array(data.shape, np.int64)


@op("size_array", vjp=flat, methods=("size_array",))
def _size_array(xp: Any, data: Any, /) -> Any:
    """The number of elements, as int64."""
    return np.array([data.size], np.int64)


def _diag_vjp(
    xp: Any, g: Any, out: Any, a: Any, *, k: int, axis1: int, axis2: int
) -> tuple[Any, ...]:
    if len(a.shape) == 1:
        return (xp.diag(g, k=k),)
    first, second = axis1 % len(a.shape), axis2 % len(a.shape)
    rest = tuple(i for i in range(len(a.shape)) if i not in (first, second))
    order = (*rest, first, second)
    rows = np.arange(g.shape[-1]) + max(-k, 0)
    key = (Ellipsis, rows, rows + k)
    moved = xp.index_grad(g, shape=tuple(a.shape[i] for i in order), key=key)
    return (xp.transpose(moved, axes=tuple(order.index(i) for i in range(len(order)))),)


@op("diag", vjp=_diag_vjp, methods=("diag",))
def _diag(xp: Any, data: Any, /, *, k: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The diagonal of a matrix, or a matrix with that diagonal."""
    if data.ndim == 1:
        return xp.diag(data, k)
    return xp.diagonal(data, k, axis1, axis2)


@op(
    "depth_to_space",
    vjp=lambda xp, g, out, a, *, block_size: (xp.space_to_depth(g, block_size=block_size),),
    methods=("depth_to_space",),
)
def _depth_to_space(xp: Any, data: Any, /, *, block_size: int) -> Any:
    """Channels moved into blocks of the image."""
    return xp.depth_to_space(data, block_size=block_size)


@op(
    "space_to_depth",
    vjp=lambda xp, g, out, a, *, block_size: (xp.depth_to_space(g, block_size=block_size),),
    methods=("space_to_depth",),
)
def _space_to_depth(xp: Any, data: Any, /, *, block_size: int) -> Any:
    """Blocks of the image moved into channels."""
    return xp.space_to_depth(data, block_size=block_size)

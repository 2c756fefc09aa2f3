# SPDX-License-Identifier: Apache-2.0
"""Matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.derive import derived
from kvtrain.ops.registry import op


def _flip(xp: Any, a: Any, flag: bool) -> Any:
    """The array with its dimensions reversed if `flag`."""
    return xp.transpose(a) if flag else a


def _dot_vjp(
    xp: Any,
    g: Any,
    out: Any,
    a: Any,
    b: Any,
    *,
    transpose_a: bool,
    transpose_b: bool,
    forward_stype: Any,
) -> tuple[Any, ...]:
    if len(a.shape) == 1 and len(b.shape) == 1:
        return g * b, g * a

    def left() -> Any:
        rows = a.shape[-1] if not transpose_a else a.shape[0]
        cols = xp.reshape(_flip(xp, b, transpose_b), (rows, -1))
        flat = xp.dot(xp.reshape(g, (-1, cols.shape[1])), xp.transpose(cols))
        shape = tuple(reversed(a.shape)) if transpose_a else a.shape
        return _flip(xp, xp.reshape(flat, shape), transpose_a)

    def right() -> Any:
        rows = b.shape[0] if not transpose_b else b.shape[-1]
        mine = xp.reshape(_flip(xp, a, transpose_a), (-1, rows))
        flat = xp.dot(xp.transpose(mine), xp.reshape(g, (mine.shape[0], -1)))
        shape = tuple(reversed(b.shape)) if transpose_b else b.shape
        return _flip(xp, xp.reshape(flat, shape), transpose_b)

    return left, right


@op("dot", vjp=_dot_vjp, methods=("dot",))
def _dot(
    xp: Any,
    lhs: Any,
    rhs: Any,
    /,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    forward_stype: str | None = None,
) -> Any:
    """Product over the last dimension of `lhs` and the first of `rhs`."""
    a, b = _flip(xp, lhs, transpose_a), _flip(xp, rhs, transpose_b)
    if a.ndim == 0 or b.ndim == 0 or a.shape[-1] != b.shape[0]:
        raise ValueError(f"dot: shapes {a.shape} and {b.shape} do not fit")
    out = np.asarray(xp.tensordot(a, b, axes=1) if a.ndim + b.ndim > 4 else xp.dot(a, b))
    if forward_stype is not None:
        return xp.cast_storage(out, stype=forward_stype)
    return out.reshape((1,)) if out.ndim == 0 else out


def _swap(xp: Any, a: Any, flag: bool) -> Any:
    return xp.swapaxes(a, len(a.shape) - 2, len(a.shape) - 1) if flag else a


def _batch_dot_vjp(
    xp: Any,
    g: Any,
    out: Any,
    a: Any,
    b: Any,
    *,
    transpose_a: bool,
    transpose_b: bool,
    forward_stype: Any,
) -> tuple[Any, ...]:
    def left() -> Any:
        if transpose_a:
            return xp.matmul(_swap(xp, b, transpose_b), _swap(xp, g, True))
        return xp.matmul(g, _swap(xp, b, not transpose_b))

    def right() -> Any:
        if transpose_b:
            return xp.matmul(_swap(xp, g, True), _swap(xp, a, transpose_a))
        return xp.matmul(_swap(xp, a, not transpose_a), g)

    return left, right


@op("batch_dot", vjp=_batch_dot_vjp)
def _batch_dot(
    xp: Any,
    lhs: Any,
    rhs: Any,
    /,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    forward_stype: str | None = None,
) -> Any:
    """A matrix product for each element of the leading dimensions."""
    a, b = _swap(xp, lhs, transpose_a), _swap(xp, rhs, transpose_b)
    if a.ndim < 3 or a.shape[:-2] != b.shape[:-2] or a.shape[-1] != b.shape[-2]:
        raise ValueError(f"batch_dot: shapes {lhs.shape} and {rhs.shape} do not fit")
    return xp.matmul(a, b)


@op(
    "_matmul",
    vjp=lambda xp, g, out, a, b: (
        lambda: xp.matmul(g, _swap(xp, b, True)),
        lambda: xp.matmul(_swap(xp, a, True), g),
    ),
    public=False,
    aliases=("matmul",),
)
def _matmul(xp: Any, a: Any, b: Any, /) -> Any:
    """Stacked matrix product of arrays of equal leading dimensions."""
    return xp.matmul(a, b)


def _khatri_rao_formula(xp: Any, *arrays: Any) -> Any:
    out = arrays[0]
    for other in arrays[1:]:
        columns = out.shape[1]
        left = xp.reshape(out, (out.shape[0], 1, columns))
        out = xp.reshape(left * xp.reshape(other, (1, *other.shape)), (-1, columns))
    return out


@op("khatri_rao", vjp=derived(_khatri_rao_formula))
def _khatri_rao(xp: Any, /, *args: Any) -> Any:
    """Column by column the Kronecker product of matrices."""
    if any(a.ndim != 2 or a.shape[1] != args[0].shape[1] for a in args):
        raise ValueError("matrices with the same number of columns are needed")
    return _khatri_rao_formula(xp, *args)

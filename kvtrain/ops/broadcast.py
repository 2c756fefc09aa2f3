# SPDX-License-Identifier: Apache-2.0
"""Undoing broadcasts, and axis arguments."""

from __future__ import annotations

from typing import Any


def unbroadcast(xp: Any, grad: Any, shape: tuple[int, ...]) -> Any:
    """Sum `grad` over the axes along which an array of `shape` was broadcast."""
    if tuple(grad.shape) == tuple(shape):
        return grad
    extra = len(grad.shape) - len(shape)
    axes = tuple(range(extra)) + tuple(
        i + extra for i, n in enumerate(shape) if n == 1 and grad.shape[i + extra] != 1
    )
    if axes:
        grad = xp.sum(grad, axis=axes, keepdims=True)
    return xp.reshape(grad, shape)


def axes_of(axis: Any, ndim: int, exclude: bool = False) -> tuple[int, ...]:
    """`axis` (None, int or several) as a sorted tuple of non-negative ints."""
    if axis is None or axis == ():
        axes = tuple(range(ndim))
        return () if exclude and axis == () else axes
    given = (axis,) if isinstance(axis, int) else tuple(axis)
    for a in given:
        if not -ndim <= a < ndim:
            raise ValueError(f"axis {a} is out of range for an array of {ndim} dimensions")
    axes = tuple(sorted({a % ndim for a in given}))
    if len(axes) != len(given):
        raise ValueError(f"axis={axis} names a dimension twice")
    return tuple(i for i in range(ndim) if i not in axes) if exclude else axes


def sizes(value: Any, default: int, count: int, what: str) -> tuple[int, ...]:
    """`count` ints from as many ints (one may come bare) or nothing."""
    if value is None or value == ():
        return (default,) * count
    if isinstance(value, int):
        value = (value,)
    if len(value) != count:
        raise ValueError(f"{what}={tuple(value)}: {count} numbers are needed here")
    return tuple(int(n) for n in value)

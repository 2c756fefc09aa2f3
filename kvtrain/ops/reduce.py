# SPDX-License-Identifier: Apache-2.0
"""Reductions with MXNet's `axis`, `keepdims` and `exclude`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.ops.attribute import Shape
from kvtrain.ops.broadcast import axes_of
from kvtrain.ops.derive import flat, run, values
from kvtrain.ops.registry import op


def _keep(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def _scalar_shape(out: Any) -> Any:
    """MXNet has no arrays of no dimensions: a full reduction gives shape (1,)."""
    return out.reshape((1,)) if out.ndim == 0 else out


def _reduction(
    name: str,
    forward: Callable[..., Any],
    grad: Callable[..., Any] | None,
    doc: str,
    *aliases: str,
) -> None:
    """Register a reduction with gradient ``grad(xp, g, out, a, axes)``; g and out kept-dims."""
    vjp = None
    if grad is not None:
        slope = grad

        def vjp(
            xp: Any, g: Any, out: Any, a: Any, *, axis: Any, keepdims: Any, exclude: Any
        ) -> tuple[Any, ...]:
            axes = axes_of(axis, len(a.shape), exclude)
            kept = _keep(a.shape, axes)
            return (slope(xp, xp.reshape(g, kept), xp.reshape(out, kept), a, axes),)

    def run(
        xp: Any, data: Any, /, *, axis: Shape = None, keepdims: bool = False, exclude: bool = False
    ) -> Any:
        axes = axes_of(axis, data.ndim, exclude)
        out = np.asarray(forward(xp, data, axes, keepdims))
        out = out if out.dtype == data.dtype else out.astype(data.dtype)
        return _scalar_shape(out)

    op(name, vjp=vjp, aliases=aliases, methods=(name,), doc=doc)(run)


def _count(a: Any, axes: tuple[int, ...]) -> int:
    count = 1
    for i in axes:
        count *= a.shape[i]
    return count


def _or_one(xp: Any, a: Any) -> Any:
    """`a` with 1 where it is NaN; the NaNs are constants."""
    known = values(a)
    missing = np.isnan(known).astype(known.dtype)
    return run(xp, "where", missing, np.ones_like(known), a)


_reduction(
    "sum",
    lambda xp, a, axes, keep: xp.sum(a, axis=axes, keepdims=keep),
    lambda xp, g, out, a, axes: xp.broadcast_to(g, a.shape),
    "Sum over `axis`.",
    "sum_axis",
)
_reduction(
    "mean",
    lambda xp, a, axes, keep: xp.mean(a, axis=axes, keepdims=keep),
    lambda xp, g, out, a, axes: xp.broadcast_to(g / _count(a, axes), a.shape),
    "Arithmetic mean over `axis`.",
)
_reduction(
    "prod",
    lambda xp, a, axes, keep: xp.prod(a, axis=axes, keepdims=keep),
    lambda xp, g, out, a, axes: g * out / a,
    "Product over `axis`.",
)
_reduction(
    "nansum",
    lambda xp, a, axes, keep: xp.nansum(a, axis=axes, keepdims=keep),
    lambda xp, g, out, a, axes: g * (a == a),
    "Sum over `axis`, NaN counted as 0.",
)
_reduction(
    "nanprod",
    lambda xp, a, axes, keep: xp.nanprod(a, axis=axes, keepdims=keep),
    lambda xp, g, out, a, axes: g * out / _or_one(xp, a) * (a == a),
    "Product over `axis`, NaN counted as 1.",
)
_reduction(
    "max",
    lambda xp, a, axes, keep: xp.max(a, axis=axes, keepdims=keep),
    lambda xp, g, out, a, axes: g * (a == out),
    "Largest element over `axis`; equal ones all get the gradient.",
    "max_axis",
)
_reduction(
    "min",
    lambda xp, a, axes, keep: xp.min(a, axis=axes, keepdims=keep),
    lambda xp, g, out, a, axes: g * (a == out),
    "Smallest element over `axis`; equal ones all get the gradient.",
    "min_axis",
)


def _norm_vjp(
    xp: Any, g: Any, out: Any, a: Any, *, ord: int, axis: Any, out_dtype: Any, keepdims: bool
) -> tuple[Any, ...]:
    kept = _keep(a.shape, axes_of(axis, len(a.shape)))
    g, out = xp.reshape(g, kept), xp.reshape(out, kept)
    if ord == 1:
        return (g * xp.sign(a),)
    return (g * a / out,)


@op("norm", vjp=_norm_vjp, methods=("norm",))
def _norm(
    xp: Any,
    data: Any,
    /,
    *,
    ord: int = 2,
    axis: Shape = None,
    out_dtype: str | None = None,
    keepdims: bool = False,
) -> Any:
    """L1 or L2 norm over `axis` (None: of the whole array)."""
    if ord not in (1, 2):
        raise ValueError(f"norm: ord={ord}; 1 and 2 are supported")
    axes = axes_of(axis, data.ndim)
    if ord == 1:
        out = xp.sum(xp.abs(data), axis=axes, keepdims=keepdims)
    else:
        out = xp.sqrt(xp.sum(data * data, axis=axes, keepdims=keepdims))
    return _scalar_shape(np.asarray(out, out_dtype or data.dtype))


def _arg(name: str) -> None:
    def run(xp: Any, data: Any, /, *, axis: int | None = None, keepdims: bool = False) -> Any:
        out = np.asarray(getattr(xp, name)(data, axis=axis, keepdims=keepdims))
        return _scalar_shape(out.astype(data.dtype))

    op(
        name,
        vjp=flat,
        methods=(name,),
        doc=f"Index of the {name[3:]}imum over `axis`, in the array's dtype.",
    )(run)


_arg("argmax")
_arg("argmin")


@op("argmax_channel", vjp=flat, methods=("argmax_channel",))
def _argmax_channel(xp: Any, data: Any, /) -> Any:
    """Index of the maximum along axis 1, in the array's dtype."""
    return xp.argmax(data, axis=1).astype(data.dtype)


@op(
    "cumsum",
    vjp=lambda xp, g, out, a, *, axis, dtype: (
        xp.reshape(
            xp.flip(xp.cumsum(xp.flip(g, axis=axis or 0), axis=axis or 0), axis=axis or 0), a.shape
        ),
    ),
)
def _cumsum(xp: Any, a: Any, /, *, axis: int | None = None, dtype: str | None = None) -> Any:
    """Running sum along `axis` (None: flattened)."""
    return xp.cumsum(a, axis=axis, dtype=dtype or a.dtype)

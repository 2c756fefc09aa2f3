# SPDX-License-Identifier: Apache-2.0
"""Operators that pass values on: copies, casts, and what stops or replaces a gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.registry import op


def _identity_vjp(xp: Any, g: Any, out: Any, a: Any) -> tuple[Any, ...]:
    return (g,)


@op("identity", vjp=_identity_vjp, aliases=("_copy",))
def _identity(xp: Any, data: Any, /) -> Any:
    """A copy."""
    return xp.array(data)


@op("BlockGrad", vjp=lambda xp, g, out, a: (None,), aliases=("stop_gradient",))
def _block_grad(xp: Any, data: Any, /) -> Any:
    """A copy through which no gradient flows."""
    return xp.array(data)


@op("make_loss", vjp=lambda xp, g, out, a: (xp.ones_like(a),), aliases=("MakeLoss",))
def _make_loss(xp: Any, data: Any, /) -> Any:
    """A copy whose gradient is 1 whatever comes after."""
    return xp.array(data)


@op(
    "Cast",
    vjp=lambda xp, g, out, a, *, dtype: (g.astype(np.dtype(a.dtype).name),),
    aliases=("cast",),
)
def _cast(xp: Any, data: Any, /, *, dtype: str) -> Any:
    """The same values in another dtype."""
    return data.astype(dtype)


@op("cast_storage", vjp=lambda xp, g, out, a, *, stype: (g,), methods=("cast_storage",))
def _cast_storage(xp: Any, data: Any, /, *, stype: str) -> Any:
    """The same values in storage ``'default'``, ``'row_sparse'`` or ``'csr'``."""
    return xp.cast_storage(data, stype=stype)


def _retain_vjp(xp: Any, g: Any, out: Any, data: Any, indices: Any) -> tuple[Any, ...]:
    rows = np.asarray(indices.asnumpy() if hasattr(indices, "asnumpy") else indices)
    mask = np.zeros((data.shape[0],) + (1,) * (len(data.shape) - 1), np.dtype(data.dtype))
    mask[rows.reshape(-1).astype(np.int64)] = 1
    return g * np.broadcast_to(mask, tuple(data.shape)), None


@op("_sparse_retain", vjp=_retain_vjp, methods=("_sparse_retain",), public=False)
def _sparse_retain(xp: Any, data: Any, indices: Any, /) -> Any:
    """Only the rows `indices` of a row_sparse array; those not stored come as zeros."""
    raise ValueError("takes a row_sparse array; convert with tostype('row_sparse')")

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

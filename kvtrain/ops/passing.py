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


@op("make_loss", vjp=lambda xp, g, out, a: (xp.ones_like(a),))
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


@op(
    "amp_cast",
    vjp=lambda xp, g, out, a, *, dtype: (g.astype(np.dtype(a.dtype).name),),
)
def _amp_cast(xp: Any, data: Any, /, *, dtype: str) -> Any:
    """The same values in another floating point dtype; integers stay as they are."""
    return data.astype(dtype) if data.dtype.kind == "f" else data.copy()


def _multicast_vjp(xp: Any, g: Any, out: Any, *data: Any, **attrs: Any) -> tuple[Any, ...]:
    grads = g if isinstance(g, tuple) else (g,)
    return tuple(part.astype(np.dtype(a.dtype).name) for part, a in zip(grads, data, strict=True))


@op("amp_multicast", vjp=_multicast_vjp)
def _amp_multicast(xp: Any, /, *data: Any, num_outputs: int = 0, cast_narrow: bool = False) -> Any:
    """All arrays in the widest (or narrowest) of their floating point dtypes."""
    kinds = sorted((a.dtype for a in data if a.dtype.kind == "f"), key=lambda k: k.itemsize)
    if not kinds:
        return tuple(a.copy() for a in data)
    kind = kinds[0] if cast_narrow else kinds[-1]
    return tuple(a.astype(kind) if a.dtype.kind == "f" else a.copy() for a in data)


def _scaled_vjp(xp: Any, g: Any, out: Any, a: Any, *, scalar: float) -> tuple[Any, ...]:
    return (g * scalar,)


@op("_contrib_gradientmultiplier", vjp=_scaled_vjp)
def _gradient_multiplier(xp: Any, data: Any, /, *, scalar: float = 1.0) -> Any:
    """A copy whose gradient is multiplied by `scalar` (negative: gradient reversal)."""
    return xp.array(data)


@op("_contrib_round_ste", vjp=_identity_vjp)
def _round_ste(xp: Any, data: Any, /) -> Any:
    """Rounded (halves away from zero); the gradient passes straight through."""
    return xp.sign(data) * xp.floor(xp.abs(data) + data.dtype.type(0.5))


@op("_contrib_sign_ste", vjp=_identity_vjp)
def _sign_ste(xp: Any, data: Any, /) -> Any:
    """-1, 0 or 1; the gradient passes straight through."""
    return xp.sign(data)


@op("_contrib_div_sqrt_dim", vjp=lambda xp, g, out, a: (g / float(np.sqrt(a.shape[-1])),))
def _div_sqrt_dim(xp: Any, data: Any, /) -> Any:
    """Divided by the square root of the last dimension."""
    out = data / data.dtype.type(np.sqrt(data.shape[-1]))
    return out if data.dtype.kind == "f" else out.astype(data.dtype)


@op(
    "_contrib_quadratic",
    vjp=lambda xp, g, out, x, *, a, b, c: (g * (x * (2 * a) + b),),
)
def _quadratic(xp: Any, data: Any, /, *, a: float = 0.0, b: float = 0.0, c: float = 0.0) -> Any:
    """``a x^2 + b x + c``."""
    kind = data.dtype.type
    return kind(a) * data * data + kind(b) * data + kind(c)

# SPDX-License-Identifier: Apache-2.0
"""Softmax and its relatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.registry import op


def _softmax_vjp(
    xp: Any, g: Any, out: Any, a: Any, *, axis: int, temperature: Any, **rest: Any
) -> tuple[Any, ...]:
    grad = out * (g - xp.sum(g * out, axis=axis, keepdims=True))
    return (grad / temperature if temperature else grad,)


@op("softmax", vjp=_softmax_vjp, methods=("softmax",))
def _softmax(
    xp: Any,
    data: Any,
    /,
    *,
    axis: int = -1,
    temperature: float | None = None,
    dtype: str | None = None,
) -> Any:
    """``exp(x / t) / sum(exp(x / t))`` along `axis`."""
    x = data / data.dtype.type(temperature) if temperature else data
    return xp.softmax(x.astype(dtype) if dtype else x, axis=axis)


@op(
    "softmin",
    vjp=lambda xp, g, out, a, *, axis: (-out * (g - xp.sum(g * out, axis=axis, keepdims=True)),),
)
def _softmin(xp: Any, data: Any, /, *, axis: int = -1) -> Any:
    """Softmax of ``-x``."""
    return xp.softmax(-data, axis=axis)


def _log_softmax_vjp(
    xp: Any, g: Any, out: Any, a: Any, *, axis: int, temperature: Any, **rest: Any
) -> tuple[Any, ...]:
    grad = g - xp.exp(out) * xp.sum(g, axis=axis, keepdims=True)
    return (grad / temperature if temperature else grad,)


@op("log_softmax", vjp=_log_softmax_vjp, methods=("log_softmax",))
def _log_softmax(
    xp: Any,
    data: Any,
    /,
    *,
    axis: int = -1,
    temperature: float | None = None,
    dtype: str | None = None,
) -> Any:
    """Logarithm of softmax along `axis`."""
    x = data / data.dtype.type(temperature) if temperature else data
    return xp.log_softmax(x.astype(dtype) if dtype else x, axis=axis)


def _cross_entropy_vjp(xp: Any, g: Any, out: Any, a: Any, label: Any) -> tuple[Any, ...]:
    return g * (xp.softmax(a, axis=-1) - hot(a.shape, label, a.dtype)), None


def hot(shape: tuple[int, ...], label: Any, dtype: Any) -> Any:
    raw = np.asarray(label.asnumpy() if hasattr(label, "asnumpy") else label).astype(np.int64)
    out = np.zeros(shape, dtype)
    np.put_along_axis(out, raw.reshape((*shape[:-1], 1)), 1, -1)
    return out


@op("softmax_cross_entropy", vjp=_cross_entropy_vjp)
def _softmax_cross_entropy(xp: Any, data: Any, label: Any, /) -> Any:
    """Sum over the batch of minus the log-probability of the label."""
    logs = xp.log_softmax(data, axis=-1)
    rows = np.arange(data.shape[0])
    return np.asarray(-logs[rows, label.astype(np.int64)].sum(), data.dtype).reshape((1,))

# SPDX-License-Identifier: Apache-2.0
"""Softmax and its relatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.derive import derived, values
from kvtrain.ops.registry import op


def _known(data: Any, length: tuple[Any, ...], axis: int, use_length: bool) -> Any:
    """1 below the length of each line along `axis`, as a boolean array; None: all of it."""
    if not use_length:
        return None
    if not length:
        raise ValueError("length is missing; pass it with use_length=True")
    axis %= len(data.shape)
    counts = values(length[0]).astype(np.int64)
    wanted = tuple(n for i, n in enumerate(data.shape) if i != axis)
    if counts.shape != wanted:
        raise ValueError(f"length has shape {counts.shape}; {wanted} is needed")
    steps = np.arange(data.shape[axis]).reshape((-1,) + (1,) * (len(data.shape) - axis - 1))
    return steps < np.expand_dims(counts, axis)


def _logits(data: Any, axis: int, temperature: Any, dtype: Any, known: Any) -> Any:
    if not -data.ndim <= axis < data.ndim:
        raise ValueError(f"axis={axis} is out of range for data of shape {data.shape}")
    if data.dtype.kind != "f":
        raise ValueError(f"data has dtype {data.dtype}; a floating point one is needed")
    x = data / data.dtype.type(temperature) if temperature else data
    x = x.astype(dtype) if dtype else x
    return x if known is None else np.where(known, x, x.dtype.type(-np.inf))


def _softmax_vjp(
    xp: Any,
    g: Any,
    out: Any,
    a: Any,
    *length: Any,
    axis: int,
    temperature: Any,
    dtype: Any,
    use_length: bool,
) -> tuple[Any, ...]:
    grad = out * (g - xp.sum(g * out, axis=axis, keepdims=True))
    grad = grad / temperature if temperature else grad
    kind = np.dtype(a.dtype)
    grad = grad if np.dtype(grad.dtype) == kind else grad.astype(kind.name)
    return (grad, *(None for _ in length))


@op("softmax", vjp=_softmax_vjp, methods=("softmax",), optional=("length",))
def _softmax(
    xp: Any,
    data: Any,
    /,
    *length: Any,
    axis: int = -1,
    temperature: float | None = None,
    dtype: str | None = None,
    use_length: bool = False,
) -> Any:
    """``exp(x / t) / sum(exp(x / t))`` along `axis`; 0 past `length` with `use_length`."""
    known = _known(data, length, axis, use_length)
    return xp.softmax(_logits(data, axis, temperature, dtype, known), axis=axis)


def _softmin_vjp(xp: Any, g: Any, out: Any, a: Any, **attrs: Any) -> tuple[Any, ...]:
    (grad,) = _softmax_vjp(xp, g, out, a, **attrs)
    return (-grad,)


@op("softmin", vjp=_softmin_vjp, methods=("softmin",))
def _softmin(
    xp: Any,
    data: Any,
    /,
    *,
    axis: int = -1,
    temperature: float | None = None,
    dtype: str | None = None,
    use_length: bool = False,
) -> Any:
    """Softmax of ``-x``."""
    return xp.softmax(_logits(-data, axis, temperature, dtype, None), axis=axis)


def _log_softmax_vjp(
    xp: Any,
    g: Any,
    out: Any,
    a: Any,
    *,
    axis: int,
    temperature: Any,
    dtype: Any,
    use_length: bool,
) -> tuple[Any, ...]:
    grad = g - xp.exp(out) * xp.sum(g, axis=axis, keepdims=True)
    grad = grad / temperature if temperature else grad
    kind = np.dtype(a.dtype)
    return (grad if np.dtype(grad.dtype) == kind else grad.astype(kind.name),)


@op("log_softmax", vjp=_log_softmax_vjp, methods=("log_softmax",))
def _log_softmax(
    xp: Any,
    data: Any,
    /,
    *,
    axis: int = -1,
    temperature: float | None = None,
    dtype: str | None = None,
    use_length: bool = False,
) -> Any:
    """Logarithm of softmax along `axis`."""
    return xp.log_softmax(_logits(data, axis, temperature, dtype, None), axis=axis)


def _activation_formula(xp: Any, data: Any, *, mode: str) -> Any:
    return xp.softmax(data, axis=1 if mode == "channel" else -1)


@op("SoftmaxActivation", vjp=derived(_activation_formula))
def _softmax_activation(xp: Any, data: Any, /, *, mode: str = "instance") -> Any:
    """Softmax over the last dimension, or over the channels (axis 1)."""
    if mode not in ("instance", "channel"):
        raise ValueError(f"mode={mode!r}; known: instance, channel")
    return _activation_formula(xp, data, mode=mode)


def _cross_entropy_vjp(xp: Any, g: Any, out: Any, a: Any, label: Any) -> tuple[Any, ...]:
    return g * (xp.softmax(a, axis=-1) - hot(a.shape, label, a.dtype)), None


def hot(shape: tuple[int, ...], label: Any, dtype: Any) -> Any:
    """Zeros of `shape` with 1 at the label along the last axis."""
    raw = values(label).astype(np.int64)
    out = np.zeros(tuple(shape), dtype)
    np.put_along_axis(out, raw.reshape((*shape[:-1], 1)), 1, -1)
    return out


@op("softmax_cross_entropy", vjp=_cross_entropy_vjp)
def _softmax_cross_entropy(xp: Any, data: Any, label: Any, /) -> Any:
    """Sum over the batch of minus the log-probability of the label."""
    if data.ndim != 2 or label.shape != data.shape[:1]:
        raise ValueError(f"data {data.shape} and label {label.shape}: (n, k) and (n,) are needed")
    logs = xp.log_softmax(data, axis=-1)
    rows = np.arange(data.shape[0])
    return np.asarray(-logs[rows, label.astype(np.int64)].sum(), data.dtype).reshape((1,))

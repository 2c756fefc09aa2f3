# SPDX-License-Identifier: Apache-2.0
"""Activations with a name or a slope as attribute."""

from __future__ import annotations

import math
from typing import Any

from kvtrain.ops.registry import op

_ACTIVATIONS = ("relu", "sigmoid", "tanh", "softrelu", "softsign")


def _activation_vjp(xp: Any, g: Any, out: Any, a: Any, *, act_type: str) -> tuple[Any, ...]:
    if act_type == "relu":
        return (g * (out > 0),)
    if act_type == "sigmoid":
        return (g * out * (1 - out),)
    if act_type == "tanh":
        return (g * (1 - out * out),)
    if act_type == "softrelu":
        return (g * (1 - xp.exp(-out)),)
    return (g / xp.square(1 + xp.abs(a)),)


@op("Activation", vjp=_activation_vjp)
def _activation(xp: Any, data: Any, /, *, act_type: str) -> Any:
    """relu, sigmoid, tanh, softrelu or softsign."""
    if act_type == "relu":
        return xp.maximum(data, 0)
    if act_type == "sigmoid":
        half = data.dtype.type(0.5)
        return half * (xp.tanh(half * data) + 1)
    if act_type == "tanh":
        return xp.tanh(data)
    if act_type == "softrelu":
        return xp.maximum(data, 0) + xp.log1p(xp.exp(-xp.abs(data)))
    if act_type == "softsign":
        return data / (1 + xp.abs(data))
    raise ValueError(f"Activation: act_type={act_type!r}; known: {', '.join(_ACTIVATIONS)}")


_SELU = (1.0507009873554805, 1.6732632423543772)


def _leaky_vjp(
    xp: Any,
    g: Any,
    out: Any,
    a: Any,
    *gamma: Any,
    act_type: str,
    slope: float,
    lower_bound: float,
    upper_bound: float,
) -> tuple[Any, ...]:
    positive, negative = g * (a > 0), g * (a <= 0)
    if act_type in ("leaky", "rrelu"):
        mean = slope if act_type == "leaky" else (lower_bound + upper_bound) / 2
        return (positive + negative * mean,)
    if act_type == "elu":
        return (positive + negative * (out + slope),)
    if act_type == "selu":
        scale, alpha = _SELU
        return (positive * scale + negative * (out + scale * alpha),)
    if act_type == "gelu":
        cdf = (xp.erf(a / math.sqrt(2)) + 1) * 0.5
        return (g * (cdf + a * xp.exp(-(a * a) * 0.5) / math.sqrt(2 * math.pi)),)
    w = _gamma_shape(xp, a, gamma[0])
    by_gamma = negative * a
    axes = tuple(i for i, n in enumerate(w.shape) if n == 1)
    return positive + negative * w, xp.reshape(xp.sum(by_gamma, axis=axes), gamma[0].shape)


def _gamma_shape(xp: Any, a: Any, gamma: Any) -> Any:
    if len(gamma.shape) == 1 and len(a.shape) > 1:
        return xp.reshape(gamma, (1, gamma.shape[0]) + (1,) * (len(a.shape) - 2))
    return gamma


@op("LeakyReLU", vjp=_leaky_vjp)
def _leaky_relu(
    xp: Any,
    data: Any,
    /,
    *gamma: Any,
    act_type: str = "leaky",
    slope: float = 0.25,
    lower_bound: float = 0.125,
    upper_bound: float = 0.334,
) -> Any:
    """leaky, prelu (slope learned: `gamma`), rrelu (random slope), elu, selu or gelu."""
    kind = data.dtype.type
    if act_type == "leaky":
        return xp.where(data > 0, data, kind(slope) * data)
    if act_type == "elu":
        return xp.where(data > 0, data, kind(slope) * xp.expm1(xp.minimum(data, 0)))
    if act_type == "selu":
        scale, alpha = _SELU
        tail = kind(alpha) * xp.expm1(xp.minimum(data, 0))
        return kind(scale) * xp.where(data > 0, data, tail)
    if act_type == "gelu":
        return data * (xp.erf(data / kind(math.sqrt(2))) + 1) * kind(0.5)
    if act_type == "prelu":
        return xp.where(data > 0, data, _gamma_shape(xp, data, gamma[0]) * data)
    if act_type == "rrelu":
        # in prediction; in training the slopes are drawn, see nd.LeakyReLU
        return xp.where(data > 0, data, kind((lower_bound + upper_bound) / 2) * data)
    raise ValueError(f"act_type={act_type!r}; known: leaky, prelu, rrelu, elu, selu, gelu")

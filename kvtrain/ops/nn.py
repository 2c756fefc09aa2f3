# SPDX-License-Identifier: Apache-2.0
"""Operators of neural networks: dense layers, activations, softmax, norms, dropout.

Running statistics of BatchNorm live in the layer; the operator only returns what it measured.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kvtrain.ops.registry import op


def _dense_vjp(
    xp: Any,
    g: Any,
    out: Any,
    data: Any,
    weight: Any,
    *bias: Any,
    num_hidden: int,
    no_bias: bool,
    flatten: bool,
) -> tuple[Any, ...]:
    rows = xp.reshape(g, (-1, weight.shape[0]))

    def by_data() -> Any:
        return xp.reshape(xp.dot(rows, weight), data.shape)

    def by_weight() -> Any:
        return xp.dot(xp.transpose(rows), xp.reshape(data, (-1, weight.shape[1])))

    return (by_data, by_weight, *(lambda: xp.sum(rows, axis=0) for _ in bias))


@op("FullyConnected", vjp=_dense_vjp)
def _fully_connected(
    xp: Any,
    data: Any,
    weight: Any,
    /,
    *bias: Any,
    num_hidden: int,
    no_bias: bool = False,
    flatten: bool = True,
) -> Any:
    """``data . weight^T + bias``; weight is (num_hidden, inputs)."""
    rows = data.reshape((data.shape[0], -1)) if flatten else data.reshape((-1, data.shape[-1]))
    if rows.shape[1] != weight.shape[1] or weight.shape[0] != num_hidden:
        raise ValueError(
            f"FullyConnected: data {data.shape} and num_hidden={num_hidden} do not fit "
            f"weight {weight.shape}"
        )
    out = xp.dot(rows, weight.T)
    if bias and not no_bias:
        out += bias[0]
    return out if flatten else out.reshape((*data.shape[:-1], num_hidden))


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
    if act_type == "leaky":
        return (positive + negative * slope,)
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
    """leaky, prelu (slope learned: `gamma`), elu, selu or gelu."""
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
    raise ValueError(f"LeakyReLU: act_type={act_type!r}; known: leaky, prelu, elu, selu, gelu")


# ---- softmax -------------------------------------------------------------------------------


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
    return g * (xp.softmax(a, axis=-1) - _hot(a.shape, label, a.dtype)), None


def _hot(shape: tuple[int, ...], label: Any, dtype: Any) -> Any:
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


def _softmax_output_vjp(
    xp: Any, g: Any, out: Any, a: Any, label: Any, *, grad_scale: float, **attrs: Any
) -> tuple[Any, ...]:
    if attrs["multi_output"]:
        moved = xp.transpose(out, axes=(0, *range(2, len(out.shape)), 1))
    else:
        moved = out
    raw = np.asarray(label.asnumpy() if hasattr(label, "asnumpy") else label)
    if raw.shape == tuple(moved.shape):
        grad = moved - raw
        count = raw.shape[0]
    else:
        raw = raw.reshape(moved.shape[:-1])
        grad = moved - _hot(moved.shape, np.clip(raw, 0, moved.shape[-1] - 1), a.dtype)
        count = raw.size
        if attrs["use_ignore"]:
            keep = (raw != attrs["ignore_label"])[..., None]
            grad = grad * np.broadcast_to(keep, moved.shape).astype(np.dtype(a.dtype).name)
            count = int(keep.sum())
    if attrs["multi_output"]:
        grad = xp.transpose(grad, axes=(0, len(out.shape) - 1, *range(1, len(out.shape) - 1)))
    scale = grad_scale
    if attrs["normalization"] == "batch":
        scale /= a.shape[0]
    elif attrs["normalization"] == "valid":
        scale /= max(count, 1)
    return grad * scale, None


@op("SoftmaxOutput", vjp=_softmax_output_vjp, aliases=("Softmax",))
def _softmax_output(
    xp: Any,
    data: Any,
    label: Any,
    /,
    *,
    grad_scale: float = 1.0,
    ignore_label: float = -1.0,
    multi_output: bool = False,
    use_ignore: bool = False,
    preserve_shape: bool = False,
    normalization: str = "null",
    out_grad: bool = False,
    smooth_alpha: float = 0.0,
) -> Any:
    """Softmax whose gradient is ``softmax - label``, whatever comes after."""
    if normalization not in ("null", "batch", "valid"):
        raise ValueError(f"SoftmaxOutput: normalization={normalization!r}; null, batch, valid")
    return xp.softmax(data, axis=1 if multi_output else -1)


def _regression(name: str, forward: Any, slope: Any, doc: str) -> None:
    def vjp(xp: Any, g: Any, out: Any, a: Any, label: Any, *, grad_scale: float) -> tuple[Any, ...]:
        count = 1
        for n in a.shape[1:]:
            count *= n
        return slope(xp, out, xp.reshape(label, a.shape)) * (grad_scale / count), None

    def run(xp: Any, data: Any, label: Any, /, *, grad_scale: float = 1.0) -> Any:
        return forward(xp, data)

    op(name, vjp=vjp, doc=doc)(run)


_regression(
    "LinearRegressionOutput",
    lambda xp, a: xp.array(a),
    lambda xp, out, label: out - label,
    "The data; its gradient is that of squared error.",
)
_regression(
    "MAERegressionOutput",
    lambda xp, a: xp.array(a),
    lambda xp, out, label: xp.sign(out - label),
    "The data; its gradient is that of absolute error.",
)
_regression(
    "LogisticRegressionOutput",
    lambda xp, a: 1 / (1 + xp.exp(-a)),
    lambda xp, out, label: out - label,
    "Sigmoid; its gradient is that of binary cross-entropy.",
)


# ---- norms ---------------------------------------------------------------------------------


def _batch_norm_vjp(
    xp: Any,
    g: Any,
    out: Any,
    data: Any,
    gamma: Any,
    beta: Any,
    moving_mean: Any,
    moving_var: Any,
    *,
    eps: float,
    fix_gamma: bool,
    use_global_stats: bool,
    axis: int,
    training: bool,
    **rest: Any,
) -> tuple[Any, ...]:
    axis %= len(data.shape)
    shape = tuple(data.shape[axis] if i == axis else 1 for i in range(len(data.shape)))
    axes = tuple(i for i in range(len(data.shape)) if i != axis)
    g = g[0] if isinstance(g, tuple) else g
    scale = xp.ones_like(gamma) if fix_gamma else gamma
    if training and not use_global_stats:
        _, mean, var = out
        ddata, dgamma, dbeta = xp.batch_norm_grad(g, data, scale, mean, var, eps=eps, axis=axis)
    else:
        inverse = 1 / xp.sqrt(moving_var + eps)
        normal = (data - xp.reshape(moving_mean, shape)) * xp.reshape(inverse, shape)
        ddata = g * xp.reshape(scale * inverse, shape)
        dgamma, dbeta = xp.sum(g * normal, axis=axes), xp.sum(g, axis=axes)
    return ddata, (dgamma * 0 if fix_gamma else dgamma), dbeta, None, None


@op("_batch_norm", vjp=_batch_norm_vjp, modal=True, public=False)
def _batch_norm(
    xp: Any,
    data: Any,
    gamma: Any,
    beta: Any,
    moving_mean: Any,
    moving_var: Any,
    /,
    *,
    eps: float = 1e-3,
    momentum: float = 0.9,
    fix_gamma: bool = True,
    use_global_stats: bool = False,
    output_mean_var: bool = False,
    axis: int = 1,
    cudnn_off: bool = False,
    training: bool = False,
) -> Any:
    """Normalise along all axes but `axis`; returns (out, mean, variance).

    In training the batch's own mean and (biased) variance are used, else the moving ones.
    """
    axis %= data.ndim
    shape = tuple(data.shape[axis] if i == axis else 1 for i in range(data.ndim))
    if training and not use_global_stats:
        mean, var = xp.batch_norm_stats(data, axis=axis)
    else:
        mean, var = np.array(moving_mean), np.array(moving_var)
    scale = 1 / xp.sqrt(var + data.dtype.type(eps))
    if not fix_gamma:
        scale = scale * gamma
    shift = beta - mean * scale
    return data * scale.reshape(shape) + shift.reshape(shape), mean, var


@op("_batch_norm_grad", vjp=None, public=False, aliases=("batch_norm_grad",))
def _batch_norm_grad(
    xp: Any, g: Any, data: Any, gamma: Any, mean: Any, var: Any, /, *, eps: float, axis: int
) -> Any:
    """Gradients of a training-mode batch norm."""
    return xp.batch_norm_grad(g, data, gamma, mean, var, eps=eps, axis=axis)


def _layer_norm_vjp(
    xp: Any, g: Any, out: Any, a: Any, gamma: Any, beta: Any, *, axis: int, eps: float, **rest: Any
) -> tuple[Any, ...]:
    return tuple(xp.layer_norm_grad(g, a, gamma, eps=eps, axis=axis % len(a.shape)))


@op("LayerNorm", vjp=_layer_norm_vjp)
def _layer_norm(
    xp: Any,
    data: Any,
    gamma: Any,
    beta: Any,
    /,
    *,
    axis: int = -1,
    eps: float = 1e-5,
    output_mean_var: bool = False,
) -> Any:
    """Normalise along `axis`, then scale by `gamma` and shift by `beta`."""
    axis %= data.ndim
    shape = tuple(data.shape[axis] if i == axis else 1 for i in range(data.ndim))
    centred = data - data.mean(axis=axis, keepdims=True)
    var = (centred * centred).mean(axis=axis, keepdims=True)
    normal = centred / xp.sqrt(var + data.dtype.type(eps))
    return normal * gamma.reshape(shape) + beta.reshape(shape)


@op("_layer_norm_grad", vjp=None, public=False, aliases=("layer_norm_grad",))
def _layer_norm_grad(xp: Any, g: Any, data: Any, gamma: Any, /, *, eps: float, axis: int) -> Any:
    """Gradients of layer norm."""
    return xp.layer_norm_grad(g, data, gamma, eps=eps, axis=axis)


# ---- dropout -------------------------------------------------------------------------------


@op("_mask", vjp=lambda xp, g, out, a, *, mask: (g * mask,), public=False)
def _mask(xp: Any, data: Any, /, *, mask: Any) -> Any:
    """``data * mask`` with a mask that has no gradient; what Dropout does in training."""
    return data * mask

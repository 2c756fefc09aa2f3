# SPDX-License-Identifier: Apache-2.0
"""Softmax and normalisations."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def softmax(data: Array, *, axis: int = -1) -> Array:
    """``exp(x) / sum(exp(x))`` along `axis`, shifted by the maximum."""
    out: Array = data - data.max(axis=axis, keepdims=True)
    np.exp(out, out=out)
    out /= out.sum(axis=axis, keepdims=True)
    return out


def log_softmax(data: Array, *, axis: int = -1) -> Array:
    """Logarithm of softmax along `axis`."""
    out: Array = data - data.max(axis=axis, keepdims=True)
    out -= np.log(np.exp(out).sum(axis=axis, keepdims=True))
    return out


def _others(data: Array, axis: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """All axes but `axis`, and the shape that broadcasts a vector along it."""
    axis %= data.ndim
    axes = tuple(i for i in range(data.ndim) if i != axis)
    shape = tuple(data.shape[axis] if i == axis else 1 for i in range(data.ndim))
    return axes, shape


def batch_norm_stats(data: Array, *, axis: int = 1) -> tuple[Array, Array]:
    """Mean and (biased) variance over all axes but `axis`."""
    axes, shape = _others(data, axis)
    mean = data.mean(axis=axes)
    centred = data - mean.reshape(shape)
    np.multiply(centred, centred, out=centred)
    return mean, centred.mean(axis=axes)


def batch_norm_grad(
    grad: Array, data: Array, gamma: Array, mean: Array, var: Array, *, eps: float, axis: int
) -> tuple[Array, Array, Array]:
    """Gradients of a training-mode batch norm by data, gamma and beta."""
    axes, shape = _others(data, axis)
    count = data.size // data.shape[axis]
    inverse = 1.0 / np.sqrt(var + data.dtype.type(eps))
    normal = (data - mean.reshape(shape)) * inverse.reshape(shape)
    dbeta = grad.sum(axis=axes)
    dgamma = (grad * normal).sum(axis=axes)
    scale = (gamma * inverse).reshape(shape)
    k = data.dtype.type(1.0 / count)
    ddata = scale * (grad - k * dbeta.reshape(shape) - k * normal * dgamma.reshape(shape))
    return ddata, dgamma, dbeta


def layer_norm_grad(
    grad: Array, data: Array, gamma: Array, *, eps: float, axis: int
) -> tuple[Array, Array, Array]:
    """Gradients of layer norm along `axis` by data, gamma and beta."""
    axes, shape = _others(data, axis)
    mean = data.mean(axis=axis, keepdims=True)
    inverse = 1.0 / np.sqrt(data.var(axis=axis, keepdims=True) + data.dtype.type(eps))
    normal = (data - mean) * inverse
    dgamma = (grad * normal).sum(axis=axes)
    dbeta = grad.sum(axis=axes)
    g = grad * gamma.reshape(shape)
    ddata = inverse * (
        g - g.mean(axis=axis, keepdims=True) - normal * (g * normal).mean(axis=axis, keepdims=True)
    )
    return ddata, dgamma, dbeta

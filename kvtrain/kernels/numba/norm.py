# SPDX-License-Identifier: Apache-2.0
"""Normalisation: statistics and gradients in two passes, sums in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.kernels.numba.compiled import summing
from kvtrain.kernels.numpy import norm as twin

Array = np.ndarray[Any, Any]
__all__ = ["batch_norm_grad", "batch_norm_stats", "layer_norm_grad"]


def _takes(*arrays: Array) -> bool:
    first = arrays[0]
    if first.dtype not in (np.float32, np.float64) or not first.size:
        return False
    return all(a.dtype == first.dtype and a.flags.c_contiguous for a in arrays)


@summing
def _stats(data, mean, var):  # type: ignore[no-untyped-def]
    n, channels, inner = data.shape
    count = n * inner
    for c in range(channels):
        total = 0.0
        for i in range(n):
            for j in range(inner):
                total += data[i, c, j]
        centre = total / count
        total = 0.0
        for i in range(n):
            for j in range(inner):
                away = data[i, c, j] - centre
                total += away * away
        mean[c] = centre
        var[c] = total / count


@summing
def _batch_grad(grad, data, gamma, mean, inverse, ddata, dgamma, dbeta):  # type: ignore[no-untyped-def]
    n, channels, inner = data.shape
    count = n * inner
    for c in range(channels):
        centre, scale = mean[c], inverse[c]
        plain = 0.0
        weighted = 0.0
        for i in range(n):
            for j in range(inner):
                g = grad[i, c, j]
                plain += g
                weighted += g * ((data[i, c, j] - centre) * scale)
        dbeta[c] = plain
        dgamma[c] = weighted
        first = data.dtype.type(plain / count)
        second = data.dtype.type(weighted / count)
        factor = gamma[c] * scale
        for i in range(n):
            for j in range(inner):
                normal = (data[i, c, j] - centre) * scale
                ddata[i, c, j] = factor * (grad[i, c, j] - first - normal * second)


@summing
def _layer_grad(grad, data, gamma, eps, ddata, dgamma, dbeta):  # type: ignore[no-untyped-def]
    rows, width = data.shape
    for r in range(rows):
        total = 0.0
        for j in range(width):
            total += data[r, j]
        centre = total / width
        total = 0.0
        for j in range(width):
            away = data[r, j] - centre
            total += away * away
        inverse = 1.0 / np.sqrt(total / width + eps)
        plain = 0.0
        weighted = 0.0
        for j in range(width):
            normal = (data[r, j] - centre) * inverse
            g = grad[r, j] * gamma[j]
            plain += g
            weighted += g * normal
            dgamma[j] += grad[r, j] * normal
            dbeta[j] += grad[r, j]
        plain /= width
        weighted /= width
        for j in range(width):
            normal = (data[r, j] - centre) * inverse
            ddata[r, j] = inverse * (grad[r, j] * gamma[j] - plain - normal * weighted)


def _channels(array: Array, axis: int) -> Array:
    """(before, channels, behind)."""
    before = int(np.prod(array.shape[:axis], dtype=np.int64))
    return array.reshape(before, array.shape[axis], -1)


def batch_norm_stats(data: Array, *, axis: int = 1) -> tuple[Array, Array]:
    """Mean and biased variance over all dimensions but `axis`."""
    axis %= data.ndim
    if not _takes(data):
        return twin.batch_norm_stats(data, axis=axis)
    mean = np.empty(data.shape[axis], data.dtype)
    var = np.empty_like(mean)
    _stats(_channels(data, axis), mean, var)
    return mean, var


def batch_norm_grad(
    grad: Array, data: Array, gamma: Array, mean: Array, var: Array, *, eps: float, axis: int
) -> tuple[Array, Array, Array]:
    """Gradients by data, gamma and beta with batch statistics."""
    axis %= data.ndim
    grad = np.ascontiguousarray(grad)
    if not _takes(data, grad, gamma, mean, var):
        return twin.batch_norm_grad(grad, data, gamma, mean, var, eps=eps, axis=axis)
    inverse = 1.0 / np.sqrt(var + data.dtype.type(eps))
    ddata, dgamma = np.empty_like(data), np.empty(data.shape[axis], data.dtype)
    dbeta = np.empty_like(dgamma)
    shaped = (_channels(grad, axis), _channels(data, axis))
    _batch_grad(*shaped, gamma, mean, inverse, _channels(ddata, axis), dgamma, dbeta)
    return ddata, dgamma, dbeta


def layer_norm_grad(
    grad: Array, data: Array, gamma: Array, *, eps: float, axis: int
) -> tuple[Array, Array, Array]:
    """Gradients by data, gamma and beta; statistics over `axis` alone."""
    grad = np.ascontiguousarray(grad)
    if axis % data.ndim != data.ndim - 1 or not _takes(data, grad, gamma):
        return twin.layer_norm_grad(grad, data, gamma, eps=eps, axis=axis)
    width = data.shape[-1]
    ddata = np.empty_like(data)
    dgamma, dbeta = np.zeros(width, np.float64), np.zeros(width, np.float64)
    flat, rows = grad.reshape(-1, width), data.reshape(-1, width)
    _layer_grad(flat, rows, gamma, float(eps), ddata.reshape(-1, width), dgamma, dbeta)
    return ddata, dgamma.astype(data.dtype), dbeta.astype(data.dtype)

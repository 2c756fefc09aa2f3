# SPDX-License-Identifier: Apache-2.0
"""Normalisations.

Running statistics of BatchNorm live in the layer; the operator only returns what it measured.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.registry import op


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

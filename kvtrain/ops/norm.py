# SPDX-License-Identifier: Apache-2.0
"""Normalisations.

Running statistics of BatchNorm live in the layer; the operator only returns what it measured.
Gradients have kernels where speed matters; a gradient of the gradient follows from the formula.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.attribute import Shape
from kvtrain.ops.derive import derived, fast
from kvtrain.ops.registry import op


def _along(shape: tuple[int, ...], axis: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shape that broadcasts a vector along `axis`, and all other axes."""
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"axis={axis} is out of range for data of shape {tuple(shape)}")
    axis %= len(shape)
    return (
        tuple(n if i == axis else 1 for i, n in enumerate(shape)),
        tuple(i for i in range(len(shape)) if i != axis),
    )


def _centred(xp: Any, data: Any, axes: tuple[int, ...], eps: float) -> tuple[Any, Any, Any]:
    """The normalised data, its mean and ``sqrt(variance + eps)``, dimensions kept."""
    mean = xp.mean(data, axis=axes, keepdims=True)
    centred = data - mean
    deviation = xp.sqrt(xp.mean(centred * centred, axis=axes, keepdims=True) + eps)
    return centred / deviation, mean, deviation


# ---- batch norm ----------------------------------------------------------------------------


def _batch_norm_formula(
    xp: Any,
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
) -> Any:
    shape, axes = _along(data.shape, axis)
    if training and not use_global_stats:
        normal, _, _ = _centred(xp, data, axes, eps)
    else:
        inverse = xp.reshape(1 / xp.sqrt(moving_var + eps), shape)
        normal = (data - xp.reshape(moving_mean, shape)) * inverse
    scale = xp.ones_like(gamma) if fix_gamma else gamma
    return normal * xp.reshape(scale, shape) + xp.reshape(beta, shape)


def _batch_norm_kernel(
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
    shape, axes = _along(data.shape, axis)
    scale = xp.ones_like(gamma) if fix_gamma else gamma
    if training and not use_global_stats:
        _, mean, var = out
        ddata, dgamma, dbeta = xp.batch_norm_grad(
            g, data, scale, mean, var, eps=eps, axis=axis % data.ndim
        )
    else:
        inverse = 1 / xp.sqrt(moving_var + data.dtype.type(eps))
        normal = (data - moving_mean.reshape(shape)) * inverse.reshape(shape)
        ddata = g * (scale * inverse).reshape(shape)
        dgamma, dbeta = (g * normal).sum(axis=axes), g.sum(axis=axes)
    return ddata, (dgamma * 0 if fix_gamma else dgamma), dbeta, None, None


_batch_norm_both = fast(_batch_norm_kernel, _batch_norm_formula, 0, 1, 2)


def _batch_norm_vjp(xp: Any, g: Any, out: Any, *inputs: Any, **attrs: Any) -> tuple[Any, ...]:
    # mean and variance are measured, not differentiated
    return _batch_norm_both(xp, g[0], out, *inputs, **attrs)


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
    shape, _ = _along(data.shape, axis)
    axis %= data.ndim
    for name, given in (("gamma", gamma), ("beta", beta), ("moving_mean", moving_mean)):
        if given.shape != (data.shape[axis],):
            raise ValueError(f"{name} has shape {given.shape}, data {data.shape} along {axis}")
    if training and not use_global_stats:
        mean, var = xp.batch_norm_stats(data, axis=axis)
    else:
        mean, var = np.array(moving_mean), np.array(moving_var)
    scale = 1 / xp.sqrt(var + var.dtype.type(eps))
    if not fix_gamma:
        scale = scale * gamma
    shift = beta - mean * scale
    out = data * scale.reshape(shape) + shift.reshape(shape)
    return out.astype(data.dtype, copy=False), mean, var


# ---- layer, group and instance norm --------------------------------------------------------


def _shown(attrs: dict[str, Any]) -> int:
    return 3 if attrs["output_mean_var"] else 1


def _layer_norm_formula(
    xp: Any, data: Any, gamma: Any, beta: Any, *, axis: int, eps: float, output_mean_var: bool
) -> Any:
    shape, _ = _along(data.shape, axis)
    normal, mean, deviation = _centred(xp, data, (axis % len(data.shape),), eps)
    out = normal * xp.reshape(gamma, shape) + xp.reshape(beta, shape)
    return out, mean, deviation


_layer_norm_general = derived(_layer_norm_formula)


def _layer_norm_vjp(
    xp: Any, g: Any, out: Any, data: Any, gamma: Any, beta: Any, **attrs: Any
) -> tuple[Any, ...]:
    if attrs["output_mean_var"] or not isinstance(data, np.ndarray):
        return _layer_norm_general(xp, g, out, data, gamma, beta, **attrs)
    grads: tuple[Any, ...] = xp.layer_norm_grad(
        g[0], data, gamma, eps=attrs["eps"], axis=attrs["axis"] % data.ndim
    )
    return grads


@op("LayerNorm", vjp=_layer_norm_vjp, visible=_shown)
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
    """Normalise along `axis`, then scale by `gamma` and shift by `beta`.

    With `output_mean_var` also the mean and the standard deviation, with `axis` kept.
    """
    _, _ = _along(data.shape, axis)
    for name, given in (("gamma", gamma), ("beta", beta)):
        if given.shape != (data.shape[axis],):
            raise ValueError(f"{name} has shape {given.shape}, data {data.shape} along {axis}")
    return _layer_norm_formula(
        xp, data, gamma, beta, axis=axis, eps=data.dtype.type(eps), output_mean_var=True
    )


def _group_norm_formula(
    xp: Any, data: Any, gamma: Any, beta: Any, *, num_groups: int, eps: float, **rest: Any
) -> Any:
    n, c = data.shape[:2]
    grouped = xp.reshape(data, (n, num_groups, c // num_groups, *data.shape[2:]))
    axes = tuple(range(2, len(grouped.shape)))
    normal, mean, deviation = _centred(xp, grouped, axes, eps)
    shape = (1, num_groups) + (1,) * (len(grouped.shape) - 2)
    out = normal * xp.reshape(gamma, shape) + xp.reshape(beta, shape)
    return (
        xp.reshape(out, data.shape),
        xp.reshape(mean, (n, num_groups)),
        xp.reshape(deviation, (n, num_groups)),
    )


@op("GroupNorm", vjp=derived(_group_norm_formula), visible=_shown)
def _group_norm(
    xp: Any,
    data: Any,
    gamma: Any,
    beta: Any,
    /,
    *,
    num_groups: int = 1,
    eps: float = 1e-5,
    output_mean_var: bool = False,
) -> Any:
    """Normalise over groups of channels (Wu and He, 2018); gamma and beta per group."""
    if data.ndim < 2 or data.shape[1] % num_groups:
        raise ValueError(f"data {data.shape} cannot be cut into num_groups={num_groups}")
    if gamma.shape != (num_groups,) or beta.shape != (num_groups,):
        raise ValueError(
            f"gamma {gamma.shape} and beta {beta.shape} need shape ({num_groups},), one per group"
        )
    return _group_norm_formula(
        xp, data, gamma, beta, num_groups=num_groups, eps=data.dtype.type(eps)
    )


def _instance_norm_formula(xp: Any, data: Any, gamma: Any, beta: Any, *, eps: float) -> Any:
    normal, _, _ = _centred(xp, data, tuple(range(2, len(data.shape))), eps)
    shape = (1, data.shape[1]) + (1,) * (len(data.shape) - 2)
    return normal * xp.reshape(gamma, shape) + xp.reshape(beta, shape)


@op("InstanceNorm", vjp=derived(_instance_norm_formula))
def _instance_norm(xp: Any, data: Any, gamma: Any, beta: Any, /, *, eps: float = 0.001) -> Any:
    """Normalise each channel of each example (Ulyanov, Vedaldi and Lempitsky, 2016)."""
    if data.ndim < 3:
        raise ValueError(f"data {data.shape} needs spatial dimensions after (n, c)")
    if gamma.shape != (data.shape[1],) or beta.shape != (data.shape[1],):
        raise ValueError(f"gamma {gamma.shape} and beta {beta.shape} do not fit data {data.shape}")
    return _instance_norm_formula(xp, data, gamma, beta, eps=data.dtype.type(eps))


# ---- without parameters --------------------------------------------------------------------


def _l2_formula(xp: Any, data: Any, *, eps: float, mode: str) -> Any:
    if mode not in ("instance", "channel", "spatial"):
        raise ValueError(f"mode={mode!r}; known: instance, channel, spatial")
    first = {"instance": 1, "channel": 1, "spatial": 2}[mode]
    axes = (1,) if mode == "channel" else tuple(range(first, len(data.shape)))
    return data / xp.sqrt(xp.sum(data * data, axis=axes, keepdims=True) + eps)


@op("L2Normalization", vjp=derived(_l2_formula))
def _l2_normalization(xp: Any, data: Any, /, *, eps: float = 1e-10, mode: str = "instance") -> Any:
    """Divided by the L2 norm of each instance, channel or spatial position."""
    return _l2_formula(xp, data, eps=data.dtype.type(eps), mode=mode)


def _lrn_formula(xp: Any, data: Any, *, alpha: float, beta: float, knorm: float, nsize: int) -> Any:
    if nsize % 2 == 0:
        raise ValueError(f"nsize={nsize} must be odd")
    channels = data.shape[1]
    # a band matrix adds the squares of the neighbouring channels
    near = np.abs(np.subtract.outer(np.arange(channels), np.arange(channels))) <= nsize // 2
    band = near.astype(np.dtype(data.dtype).name)
    flat = xp.reshape(data * data, (data.shape[0], channels, -1))
    stacked = np.broadcast_to(band, (data.shape[0], channels, channels))
    total = xp.reshape(xp.matmul(stacked, flat), data.shape)
    return data * (total * (alpha / nsize) + knorm) ** (-beta)


@op("LRN", vjp=derived(_lrn_formula))
def _lrn(
    xp: Any,
    data: Any,
    /,
    *,
    alpha: float = 0.0001,
    beta: float = 0.75,
    knorm: float = 2.0,
    nsize: int,
) -> Any:
    """Local response normalisation across `nsize` channels (Krizhevsky et al., 2012)."""
    return _lrn_formula(xp, data, alpha=alpha, beta=beta, knorm=knorm, nsize=nsize)


def _moments_formula(xp: Any, data: Any, *, axes: Any, keepdims: bool) -> Any:
    chosen = tuple(range(len(data.shape))) if axes is None else axes
    chosen = (chosen,) if isinstance(chosen, int) else tuple(chosen)
    mean = xp.mean(data, axis=chosen, keepdims=True)
    centred = data - mean
    var = xp.mean(centred * centred, axis=chosen, keepdims=keepdims)
    shape = var.shape
    return xp.reshape(mean, shape), var


@op("moments", vjp=derived(_moments_formula))
def _moments(xp: Any, data: Any, /, *, axes: Shape = None, keepdims: bool = False) -> Any:
    """Mean and (biased) variance over `axes` (None: all)."""
    mean, var = _moments_formula(xp, data, axes=axes, keepdims=keepdims)
    return (mean.reshape((1,)), var.reshape((1,))) if var.ndim == 0 else (mean, var)

# SPDX-License-Identifier: Apache-2.0
"""Updates that look at rows or at the whole array, on raw arrays, in place; see update.py."""

from __future__ import annotations

import math

import numpy as np

from kvtrain.kernels.numpy.update import (
    Array,
    blocks,
    clip,
    like,
    one_minus_power,
    scaled,
    scratch_blocks,
    whole,
)


def sum_of_squares(array: Array) -> float:
    """Sum of squares, in float64, in blocks of fixed size whatever the array's shape."""
    total = 0.0
    flat = array.reshape(-1)
    block = scratch_blocks(np.dtype(np.float64), 1)[0]
    for low in range(0, flat.size, block.size):
        part = flat[low : low + block.size]
        wide = block[: part.size]
        np.copyto(wide, part)
        total += float(np.dot(wide, wide))
    return total


def lamb_update_phase1(
    weight: Array,
    grad: Array,
    mean: Array,
    var: Array,
    out: Array,
    *,
    t: int,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-6,
    bias_correction: bool = True,
    wd: float = 0.0,
    rescale_grad: float = 1.0,
    clip_gradient: float | None = None,
) -> None:
    """Direction of LAMB (You et al., 2019, arXiv:1904.00962) into `out`.

    ``m / (sqrt(v) + epsilon) + wd * weight`` with Adam's moments of
    ``clip(rescale_grad * grad)``, corrected for bias if wanted.
    """
    kind = weight.dtype.type
    scratch = scratch_blocks(weight.dtype, 2)
    mean_bias = kind(one_minus_power(kind, beta1, t)) if bias_correction else kind(1.0)
    var_bias = kind(one_minus_power(kind, beta2, t)) if bias_correction else kind(1.0)

    def run(w: Array, g: Array, m: Array, v: Array, o: Array) -> None:
        x = scaled(g, like(scratch[0], w), rescale_grad, clip_gradient, kind)
        u = like(scratch[1], w)
        np.multiply(m, kind(beta1), out=m)
        np.multiply(x, kind(1.0) - kind(beta1), out=u)
        np.add(m, u, out=m)
        np.multiply(v, kind(beta2), out=v)
        np.multiply(x, x, out=x)
        np.multiply(x, kind(1.0) - kind(beta2), out=x)
        np.add(v, x, out=v)
        np.divide(v, var_bias, out=u)
        np.sqrt(u, out=u)
        np.add(u, kind(epsilon), out=u)
        np.divide(m, mean_bias, out=x)
        np.divide(x, u, out=o)
        if wd:
            np.multiply(w, kind(wd), out=u)
            np.add(o, u, out=o)

    blocks(run, (weight, grad, mean, var, out))


def lamb_update_phase2(
    weight: Array,
    direction: Array,
    weight_norm: float,
    direction_norm: float,
    *,
    lr: float,
    lower_bound: float | None = None,
    upper_bound: float | None = None,
) -> None:
    """``weight -= lr * ratio * direction``, the ratio of two norms; 1 where one of them is 0.

    The weight's norm is first limited to ``[lower_bound, upper_bound]``.
    """
    kind = weight.dtype.type
    if lower_bound is not None and lower_bound >= 0:
        weight_norm = max(weight_norm, lower_bound)
    if upper_bound is not None and upper_bound >= 0:
        weight_norm = min(weight_norm, upper_bound)
    known = weight_norm != 0 and direction_norm != 0
    rate = kind(lr * (weight_norm / direction_norm if known else 1.0))
    scratch = scratch_blocks(weight.dtype, 1)

    def run(w: Array, d: Array) -> None:
        u = like(scratch[0], w)
        np.multiply(d, rate, out=u)
        np.subtract(w, u, out=w)

    blocks(run, (weight, direction))


def lamb_update(
    weight: Array,
    grad: Array,
    mean: Array,
    var: Array,
    *,
    lr: float,
    t: int,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-6,
    bias_correction: bool = True,
    lower_bound: float | None = None,
    upper_bound: float | None = None,
    wd: float = 0.0,
    rescale_grad: float = 1.0,
    clip_gradient: float | None = None,
) -> None:
    """Both phases of LAMB, on a whole array."""
    direction = whole(weight)
    lamb_update_phase1(
        weight,
        grad,
        mean,
        var,
        direction,
        t=t,
        beta1=beta1,
        beta2=beta2,
        epsilon=epsilon,
        bias_correction=bias_correction,
        wd=wd,
        rescale_grad=rescale_grad,
        clip_gradient=clip_gradient,
    )
    norms = math.sqrt(sum_of_squares(weight)), math.sqrt(sum_of_squares(direction))
    lamb_update_phase2(
        weight, direction, *norms, lr=lr, lower_bound=lower_bound, upper_bound=upper_bound
    )


def group_adagrad_update(
    weight: Array,
    grad: Array,
    history: Array,
    *,
    lr: float,
    epsilon: float = 1e-5,
    rescale_grad: float = 1.0,
    clip_gradient: float | None = None,
) -> None:
    """AdaGrad with one rate per row: weights (n, d), history (n, 1).

    ``history += mean(g * g, axis=1)``, ``weight -= lr * g / sqrt(history + epsilon)``.
    """
    kind = weight.dtype.type
    scratch = scratch_blocks(weight.dtype, 2)
    rows = max(1, scratch[0].size // max(1, weight.shape[1]))
    for low in range(0, len(weight), rows):
        w, h = weight[low : low + rows], history[low : low + rows]
        t = scaled(grad[low : low + rows], like(scratch[0], w), rescale_grad, None, kind)
        clip(t, clip_gradient, kind)
        u = like(scratch[1], w)
        np.multiply(t, t, out=u)
        np.add(h, u.mean(axis=1, keepdims=True), out=h)
        np.multiply(t, kind(lr), out=t)
        np.divide(t, np.sqrt(h + kind(epsilon)), out=t)
        np.subtract(w, t, out=w)

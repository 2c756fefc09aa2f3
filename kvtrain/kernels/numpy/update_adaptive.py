# SPDX-License-Identifier: Apache-2.0
"""Updates that scale by past gradients, on raw arrays, in place; see update.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.kernels.numpy.update import (
    Array,
    blocks,
    clip,
    decayed,
    like,
    one_minus_power,
    scaled,
    scratch_blocks,
)


def _average(mean: Array, value: Array, decay: Any, rest: Any, spare: Array) -> None:
    """``mean = decay * mean + rest * value``; `spare` may be `value`."""
    np.multiply(mean, decay, out=mean)
    np.multiply(value, rest, out=spare)
    np.add(mean, spare, out=mean)


def _average_square(mean: Array, value: Array, decay: Any, rest: Any, spare: Array) -> None:
    """``mean = decay * mean + rest * value * value``; `spare` may be `value`."""
    np.multiply(mean, decay, out=mean)
    np.multiply(value, value, out=spare)
    np.multiply(spare, rest, out=spare)
    np.add(mean, spare, out=mean)


def _short(kind: Any, decay: float) -> tuple[Any, Any]:
    """A decay and 1 minus it, subtracted in the array's own precision as MXNet's operators do."""
    return kind(decay), kind(1.0) - kind(decay)


def _long(kind: Any, decay: float) -> tuple[Any, Any]:
    """A decay and 1 minus it, subtracted in double precision as MXNet's Python code does."""
    return kind(decay), kind(1.0 - decay)


def adagrad_update(
    weight: Array,
    grad: Array,
    history: Array,
    *,
    lr: float,
    epsilon: float = 1e-7,
    wd: float = 0.0,
    rescale_grad: float = 1.0,
    clip_gradient: float | None = None,
) -> None:
    """AdaGrad (Duchi et al., 2011).

    ``g = clip(rescale_grad * grad)``, ``history += g * g``,
    ``weight -= lr * (g / sqrt(history + epsilon) + wd * weight)``.
    """
    kind = weight.dtype.type
    scratch = scratch_blocks(weight.dtype, 2)

    def run(w: Array, g: Array, h: Array) -> None:
        t = scaled(g, like(scratch[0], w), rescale_grad, clip_gradient, kind)
        u = like(scratch[1], w)
        np.multiply(t, t, out=u)
        np.add(h, u, out=h)
        np.add(h, kind(epsilon), out=u)
        np.sqrt(u, out=u)
        np.divide(t, u, out=t)
        if wd:
            np.multiply(w, kind(wd), out=u)
            np.add(t, u, out=t)
        np.multiply(t, kind(lr), out=t)
        np.subtract(w, t, out=w)

    blocks(run, (weight, grad, history))


def adadelta_update(
    weight: Array,
    grad: Array,
    acc_g: Array,
    acc_delta: Array,
    *,
    rho: float,
    epsilon: float,
    wd: float = 0.0,
    rescale_grad: float = 1.0,
    clip_gradient: float | None = None,
) -> None:
    """AdaDelta (Zeiler, 2012, arXiv:1212.5701).

    ``acc_g = rho * acc_g + (1 - rho) * g * g``,
    ``d = sqrt(acc_delta + epsilon) / sqrt(acc_g + epsilon) * g``,
    ``acc_delta = rho * acc_delta + (1 - rho) * d * d``, ``weight -= d + wd * weight``.
    """
    kind = weight.dtype.type
    scratch = scratch_blocks(weight.dtype, 2)

    def run(w: Array, g: Array, a: Array, d: Array) -> None:
        t = scaled(g, like(scratch[0], w), rescale_grad, clip_gradient, kind)
        u = like(scratch[1], w)
        _average_square(a, t, *_long(kind, rho), u)
        np.add(d, kind(epsilon), out=u)
        np.sqrt(u, out=u)
        np.multiply(t, u, out=t)
        np.add(a, kind(epsilon), out=u)
        np.sqrt(u, out=u)
        np.divide(t, u, out=t)
        _average_square(d, t, *_long(kind, rho), u)
        if wd:
            np.multiply(w, kind(wd), out=u)
            np.add(t, u, out=t)
        np.subtract(w, t, out=w)

    blocks(run, (weight, grad, acc_g, acc_delta))


def adamax_update(
    weight: Array,
    grad: Array,
    mean: Array,
    top: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    wd: float = 0.0,
    rescale_grad: float = 1.0,
    clip_gradient: float | None = None,
) -> None:
    """Adam with the infinity norm (Kingma and Ba, 2014); `lr` already corrected for bias.

    ``mean = beta1 * mean + (1 - beta1) * g``, ``top = maximum(beta2 * top, abs(g))``,
    ``weight -= lr * mean / top``.
    """
    kind = weight.dtype.type
    scratch = scratch_blocks(weight.dtype, 2)

    def run(w: Array, g: Array, m: Array, v: Array) -> None:
        u = like(scratch[1], w)
        t = decayed(g, w, like(scratch[0], w), u, wd, rescale_grad, clip_gradient)
        _average(m, t, *_long(kind, beta1), u)
        np.abs(t, out=t)
        np.multiply(v, kind(beta2), out=v)
        np.maximum(v, t, out=v)
        np.multiply(m, kind(lr), out=t)
        np.divide(t, v, out=t)
        np.subtract(w, t, out=w)

    blocks(run, (weight, grad, mean, top))


def nadam_update(
    weight: Array,
    grad: Array,
    mean: Array,
    var: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    grad_factor: float,
    mean_factor: float,
    var_factor: float,
    wd: float = 0.0,
    rescale_grad: float = 1.0,
    clip_gradient: float | None = None,
) -> None:
    """Adam with Nesterov's momentum (Dozat, 2015).

    ``weight -= lr * (grad_factor * g + mean_factor * mean)
    / (sqrt(var_factor * var) + epsilon)``; the factors hold the schedule of momentum.
    """
    kind = weight.dtype.type
    scratch = scratch_blocks(weight.dtype, 2)

    def run(w: Array, g: Array, m: Array, v: Array) -> None:
        u = like(scratch[1], w)
        t = decayed(g, w, like(scratch[0], w), u, wd, rescale_grad, clip_gradient)
        _average(m, t, *_long(kind, beta1), u)
        _average_square(v, t, *_long(kind, beta2), u)
        np.multiply(t, kind(grad_factor), out=t)
        np.multiply(m, kind(mean_factor), out=u)
        np.add(t, u, out=t)
        np.multiply(t, kind(lr), out=t)
        np.multiply(v, kind(var_factor), out=u)
        np.sqrt(u, out=u)
        np.add(u, kind(epsilon), out=u)
        np.divide(t, u, out=t)
        np.subtract(w, t, out=w)

    blocks(run, (weight, grad, mean, var))


def rmsprop_update(
    weight: Array,
    grad: Array,
    n: Array,
    *,
    lr: float,
    gamma1: float = 0.95,
    epsilon: float = 1e-8,
    wd: float = 0.0,
    rescale_grad: float = 1.0,
    clip_gradient: float | None = None,
    clip_weights: float | None = None,
) -> None:
    """RMSProp (Tieleman and Hinton, 2012).

    ``g = clip(rescale_grad * grad + wd * weight)``,
    ``n = gamma1 * n + (1 - gamma1) * g * g``, ``weight -= lr * g / sqrt(n + epsilon)``.
    """
    kind = weight.dtype.type
    scratch = scratch_blocks(weight.dtype, 2)

    def run(w: Array, g: Array, s: Array) -> None:
        u = like(scratch[1], w)
        t = decayed(g, w, like(scratch[0], w), u, wd, rescale_grad, clip_gradient)
        _average_square(s, t, *_short(kind, gamma1), u)
        np.add(s, kind(epsilon), out=u)
        np.sqrt(u, out=u)
        np.multiply(t, kind(lr), out=t)
        np.divide(t, u, out=t)
        np.subtract(w, t, out=w)
        clip(w, clip_weights, kind)

    blocks(run, (weight, grad, n))


def rmspropalex_update(
    weight: Array,
    grad: Array,
    n: Array,
    mean: Array,
    delta: Array,
    *,
    lr: float,
    gamma1: float = 0.95,
    gamma2: float = 0.9,
    epsilon: float = 1e-8,
    wd: float = 0.0,
    rescale_grad: float = 1.0,
    clip_gradient: float | None = None,
    clip_weights: float | None = None,
) -> None:
    """Centered RMSProp (Graves, 2013, arXiv:1308.0850).

    ``delta = gamma2 * delta - lr * g / sqrt(n - mean * mean + epsilon)``, ``weight += delta``.
    """
    kind = weight.dtype.type
    scratch = scratch_blocks(weight.dtype, 2)

    def run(w: Array, g: Array, s: Array, m: Array, d: Array) -> None:
        u = like(scratch[1], w)
        t = decayed(g, w, like(scratch[0], w), u, wd, rescale_grad, clip_gradient)
        _average_square(s, t, *_short(kind, gamma1), u)
        _average(m, t, *_short(kind, gamma1), u)
        np.multiply(m, m, out=u)
        np.subtract(s, u, out=u)
        np.add(u, kind(epsilon), out=u)
        np.sqrt(u, out=u)
        np.multiply(t, kind(lr), out=t)
        np.divide(t, u, out=t)
        np.multiply(d, kind(gamma2), out=d)
        np.subtract(d, t, out=d)
        np.add(w, d, out=w)
        clip(w, clip_weights, kind)

    blocks(run, (weight, grad, n, mean, delta))


def ftrl_update(
    weight: Array,
    grad: Array,
    z: Array,
    n: Array,
    *,
    lr: float,
    lamda1: float = 0.01,
    beta: float = 1.0,
    wd: float = 0.0,
    rescale_grad: float = 1.0,
    clip_gradient: float | None = None,
) -> None:
    """Follow the regularized leader (McMahan et al., 2013).

    ``z += g - (sqrt(n + g * g) - sqrt(n)) * weight / lr``, ``n += g * g``,
    ``weight = (sign(z) * lamda1 - z) / ((beta + sqrt(n)) / lr + wd)`` where
    ``abs(z) > lamda1``, else 0.
    """
    kind = weight.dtype.type
    scratch = scratch_blocks(weight.dtype, 3)

    def run(w: Array, g: Array, p: Array, s: Array) -> None:
        t = scaled(g, like(scratch[0], w), rescale_grad, clip_gradient, kind)
        u, v = like(scratch[1], w), like(scratch[2], w)
        np.add(p, t, out=p)
        np.sqrt(s, out=u)
        np.multiply(t, t, out=t)
        np.add(s, t, out=s)
        np.sqrt(s, out=t)  # used again below
        np.subtract(t, u, out=u)
        np.multiply(u, w, out=u)
        np.divide(u, kind(lr), out=u)
        np.subtract(p, u, out=p)
        np.add(t, kind(beta), out=t)
        np.divide(t, kind(lr), out=t)
        np.add(t, kind(wd), out=t)
        np.sign(p, out=u)
        np.multiply(u, kind(lamda1), out=u)
        np.subtract(u, p, out=u)
        np.divide(u, t, out=u)
        np.abs(p, out=v)
        np.greater(v, kind(lamda1), out=v)
        np.multiply(u, v, out=w)

    blocks(run, (weight, grad, z, n))


def ftml_update(
    weight: Array,
    grad: Array,
    d: Array,
    v: Array,
    z: Array,
    *,
    lr: float,
    t: int,
    beta1: float = 0.6,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    wd: float = 0.0,
    rescale_grad: float = 1.0,
    clip_grad: float | None = None,
) -> None:
    """Follow the moving leader (Zheng and Kwok, 2017).

    ``v = beta2 * v + (1 - beta2) * g * g``,
    ``new = (1 - beta1**t) / lr * (sqrt(v / (1 - beta2**t)) + epsilon)``,
    ``z = beta1 * z + (1 - beta1) * g - (new - beta1 * d) * weight``, ``weight = -z / new``,
    ``d = new``.
    """
    kind = weight.dtype.type
    scratch = scratch_blocks(weight.dtype, 2)
    head = kind(one_minus_power(kind, beta1, t) / np.float32(lr))
    correction = kind(one_minus_power(kind, beta2, t))

    def run(w: Array, g: Array, held: Array, s: Array, p: Array) -> None:
        u = like(scratch[1], w)
        x = decayed(g, w, like(scratch[0], w), u, wd, rescale_grad, clip_grad)
        _average_square(s, x, *_short(kind, beta2), u)
        _average(p, x, *_short(kind, beta1), x)
        np.divide(s, correction, out=u)
        np.sqrt(u, out=u)
        np.add(u, kind(epsilon), out=u)
        np.multiply(u, head, out=u)
        np.multiply(held, kind(beta1), out=held)
        np.subtract(u, held, out=x)
        np.multiply(x, w, out=x)
        np.subtract(p, x, out=p)
        np.copyto(held, u)
        np.divide(p, u, out=w)
        np.negative(w, out=w)

    blocks(run, (weight, grad, d, v, z))


def adamw_update(
    weight: Array,
    grad: Array,
    mean: Array,
    var: Array,
    *,
    lr: float,
    eta: float = 1.0,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    wd: float = 0.0,
    rescale_grad: float = 1.0,
    clip_gradient: float | None = None,
) -> None:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2017, arXiv:1711.05101).

    ``g = clip(rescale_grad * grad)``,
    ``weight -= eta * (lr * mean / (sqrt(var) + epsilon) + wd * weight)``.
    """
    kind = weight.dtype.type
    scratch = scratch_blocks(weight.dtype, 2)

    def run(w: Array, g: Array, m: Array, v: Array) -> None:
        t = scaled(g, like(scratch[0], w), rescale_grad, clip_gradient, kind)
        u = like(scratch[1], w)
        _average(m, t, *_short(kind, beta1), u)
        _average_square(v, t, *_short(kind, beta2), t)
        np.sqrt(v, out=t)
        np.add(t, kind(epsilon), out=t)
        np.divide(m, t, out=t)
        np.multiply(t, kind(lr), out=t)
        if wd:
            np.multiply(w, kind(wd), out=u)
            np.add(t, u, out=t)
        np.multiply(t, kind(eta), out=t)
        np.subtract(w, t, out=w)

    blocks(run, (weight, grad, mean, var))

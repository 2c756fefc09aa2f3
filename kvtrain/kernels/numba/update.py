# SPDX-License-Identifier: Apache-2.0
"""Optimizer updates in one pass; the same rounding, step by step, as their NumPy twins."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.kernels.numba.compiled import loop
from kvtrain.kernels.numpy import update as twin

Array = np.ndarray[Any, Any]
__all__ = ["adam_update", "sgd_mom_update", "sgd_update"]
#: below it a call of a compiled function costs more than it saves
SMALLEST = 2048


def takes(*arrays: Array) -> bool:
    """Whether the loops here can run over these arrays as flat ones of one type."""
    first = arrays[0]
    if first.size < SMALLEST or first.dtype not in (np.float32, np.float64):
        return False
    return all(a.dtype == first.dtype and a.flags.c_contiguous for a in arrays)


def _bound(clip_gradient: float | None, kind: Any) -> Any:
    """The bound as a number; infinite where there is none."""
    return kind(np.inf if clip_gradient is None or clip_gradient < 0 else clip_gradient)


@loop
def _sgd(weight, grad, lr, keep, rescale, bound):  # type: ignore[no-untyped-def]
    for i in range(weight.size):
        g = grad[i] * rescale
        if g < -bound:
            g = -bound
        elif g > bound:
            g = bound
        weight[i] = weight[i] * keep - g * lr


@loop
def _sgd_mom(weight, grad, mom, lr, momentum, decay, rescale, bound):  # type: ignore[no-untyped-def]
    for i in range(weight.size):
        g = grad[i] * rescale
        if g < -bound:
            g = -bound
        elif g > bound:
            g = bound
        m = mom[i] * momentum
        if decay != 0:
            m = m - weight[i] * decay
        m = m - g * lr
        mom[i] = m
        weight[i] = weight[i] + m


@loop
def _adam(  # type: ignore[no-untyped-def]
    weight, grad, mean, var, lr, beta1, rest1, beta2, rest2, epsilon, wd, rescale, bound
):
    for i in range(weight.size):
        g = grad[i] * rescale
        if wd != 0:
            g = g + weight[i] * wd
        if g < -bound:
            g = -bound
        elif g > bound:
            g = bound
        m = mean[i] * beta1 + g * rest1
        v = var[i] * beta2 + g * g * rest2
        mean[i] = m
        var[i] = v
        weight[i] = weight[i] - m / (np.sqrt(v) + epsilon) * lr


def sgd_update(
    weight: Array,
    grad: Array,
    *,
    lr: float,
    wd: float = 0.0,
    rescale_grad: float = 1.0,
    clip_gradient: float | None = None,
) -> None:
    """``weight = (1 - lr * wd) * weight - lr * clip(rescale_grad * grad)``."""
    if not takes(weight, grad):
        twin.sgd_update(
            weight, grad, lr=lr, wd=wd, rescale_grad=rescale_grad, clip_gradient=clip_gradient
        )
        return
    kind = weight.dtype.type
    keep = kind(1.0) - kind(lr) * kind(wd)
    flat = weight.reshape(-1), grad.reshape(-1)
    _sgd(*flat, kind(lr), keep, kind(rescale_grad), _bound(clip_gradient, kind))


def sgd_mom_update(
    weight: Array,
    grad: Array,
    mom: Array,
    *,
    lr: float,
    momentum: float,
    wd: float = 0.0,
    rescale_grad: float = 1.0,
    clip_gradient: float | None = None,
) -> None:
    """``mom = momentum * mom - lr * (clip(rescale_grad * grad) + wd * weight)``; then
    ``weight += mom``."""
    if not takes(weight, grad, mom):
        twin.sgd_mom_update(
            weight,
            grad,
            mom,
            lr=lr,
            momentum=momentum,
            wd=wd,
            rescale_grad=rescale_grad,
            clip_gradient=clip_gradient,
        )
        return
    kind = weight.dtype.type
    _sgd_mom(
        weight.reshape(-1),
        grad.reshape(-1),
        mom.reshape(-1),
        kind(lr),
        kind(momentum),
        kind(lr) * kind(wd),
        kind(rescale_grad),
        _bound(clip_gradient, kind),
    )


def adam_update(
    weight: Array,
    grad: Array,
    mean: Array,
    var: Array,
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    wd: float = 0.0,
    rescale_grad: float = 1.0,
    clip_gradient: float | None = None,
) -> None:
    """Adam (Kingma and Ba, 2014) with `lr` already corrected for bias; see the NumPy twin."""
    if not takes(weight, grad, mean, var):
        twin.adam_update(
            weight,
            grad,
            mean,
            var,
            lr=lr,
            beta1=beta1,
            beta2=beta2,
            epsilon=epsilon,
            wd=wd,
            rescale_grad=rescale_grad,
            clip_gradient=clip_gradient,
        )
        return
    kind = weight.dtype.type
    _adam(
        weight.reshape(-1),
        grad.reshape(-1),
        mean.reshape(-1),
        var.reshape(-1),
        kind(lr),
        kind(beta1),
        kind(1.0) - kind(beta1),
        kind(beta2),
        kind(1.0) - kind(beta2),
        kind(epsilon),
        kind(wd),
        kind(rescale_grad),
        _bound(clip_gradient, kind),
    )

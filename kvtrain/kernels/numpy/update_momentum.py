# SPDX-License-Identifier: Apache-2.0
"""Updates of the momentum and sign families, on raw arrays, in place; see update.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.kernels.numpy.update import Array, blocks, like, scaled, scratch_blocks


def nag_mom_update(
    weight: Array,
    grad: Array,
    mom: Array,
    *,
    lr: float,
    momentum: float = 0.0,
    wd: float = 0.0,
    rescale_grad: float = 1.0,
    clip_gradient: float | None = None,
) -> None:
    """Nesterov's accelerated gradient, as MXNet computes it in place.

    ``g = lr * clip(rescale_grad * grad)``, ``d = lr * wd``, ``mom = momentum * mom - g``,
    ``weight += momentum * (mom - d * weight) - g - d * weight``; then ``mom -= d * weight``
    with the new weight.
    """
    kind = weight.dtype.type
    scratch = scratch_blocks(weight.dtype, 2)
    decay = kind(lr) * kind(wd)

    def run(w: Array, g: Array, m: Array) -> None:
        t = scaled(g, like(scratch[0], w), rescale_grad, clip_gradient, kind)
        u = like(scratch[1], w)
        np.multiply(t, kind(lr), out=t)
        np.multiply(m, kind(momentum), out=m)
        np.subtract(m, t, out=m)
        if wd:
            np.multiply(w, decay, out=u)
            np.add(t, u, out=t)
            np.subtract(m, u, out=u)
            np.multiply(u, kind(momentum), out=u)
        else:
            np.multiply(m, kind(momentum), out=u)
        np.add(w, u, out=w)
        np.subtract(w, t, out=w)
        if wd:
            np.multiply(w, decay, out=u)
            np.subtract(m, u, out=m)

    blocks(run, (weight, grad, mom))


def signsgd_update(
    weight: Array,
    grad: Array,
    *,
    lr: float,
    wd: float = 0.0,
    rescale_grad: float = 1.0,
    clip_gradient: float | None = None,
) -> None:
    """``weight = (1 - lr * wd) * weight - lr * sign(grad)`` (Bernstein et al., 2018)."""
    kind = weight.dtype.type
    scratch = scratch_blocks(weight.dtype, 1)

    def run(w: Array, g: Array) -> None:
        t = scaled(g, like(scratch[0], w), rescale_grad, clip_gradient, kind)
        np.sign(t, out=t)
        np.multiply(t, kind(lr), out=t)
        if wd:
            np.multiply(w, kind(1.0) - kind(lr) * kind(wd), out=w)
        np.subtract(w, t, out=w)

    blocks(run, (weight, grad))


def signum_update(
    weight: Array,
    grad: Array,
    mom: Array,
    *,
    lr: float,
    momentum: float = 0.0,
    wd: float = 0.0,
    rescale_grad: float = 1.0,
    clip_gradient: float | None = None,
    wd_lh: float = 0.0,
) -> None:
    """The sign of the momentum (Bernstein et al., 2018).

    ``mom = momentum * mom - (1 - momentum) * (clip(rescale_grad * grad) + wd * weight)``,
    ``weight = (1 - lr * wd_lh) * weight + lr * sign(mom)``.
    """
    kind = weight.dtype.type
    scratch = scratch_blocks(weight.dtype, 2)
    rest = kind(1.0) - kind(momentum)

    def run(w: Array, g: Array, m: Array) -> None:
        t = scaled(g, like(scratch[0], w), rescale_grad, clip_gradient, kind)
        u = like(scratch[1], w)
        np.multiply(m, kind(momentum), out=m)
        if wd:
            np.multiply(w, rest * kind(wd), out=u)
            np.subtract(m, u, out=m)
        np.multiply(t, rest, out=t)
        np.subtract(m, t, out=m)
        np.sign(m, out=t)
        np.multiply(t, kind(lr), out=t)
        if wd_lh:
            np.multiply(w, kind(1.0) - kind(lr) * kind(wd_lh), out=w)
        np.add(w, t, out=w)

    blocks(run, (weight, grad, mom))


def dcasgd_update(
    weight: Array,
    grad: Array,
    previous: Array,
    mom: Array | None = None,
    *,
    lr: float,
    lamda: float,
    momentum: float = 0.0,
    wd: float = 0.0,
    rescale_grad: float = 1.0,
    clip_gradient: float | None = None,
) -> None:
    """SGD with compensation of delay (Zheng et al., 2016, arXiv:1609.08326).

    ``d = -lr * (g + wd * weight + lamda * g * g * (weight - previous))``; with momentum
    ``mom = momentum * mom + d`` is added instead of d. `previous` becomes the old weight.
    """
    kind = weight.dtype.type
    scratch = scratch_blocks(weight.dtype, 2)

    def run(w: Array, g: Array, p: Array, *rest: Array) -> None:
        t = scaled(g, like(scratch[0], w), rescale_grad, clip_gradient, kind)
        u = like(scratch[1], w)
        np.subtract(w, p, out=u)
        np.multiply(u, t, out=u)
        np.multiply(u, t, out=u)
        np.multiply(u, kind(lamda), out=u)
        np.add(t, u, out=t)
        if wd:
            np.multiply(w, kind(wd), out=u)
            np.add(t, u, out=t)
        np.multiply(t, kind(-lr), out=t)
        np.copyto(p, w)
        if rest:
            np.multiply(rest[0], kind(momentum), out=rest[0])
            np.add(rest[0], t, out=rest[0])
            t = rest[0]
        np.add(w, t, out=w)

    blocks(run, (weight, grad, previous) if mom is None else (weight, grad, previous, mom))


def sgld_update(
    weight: Array,
    grad: Array,
    noise: Any,
    *,
    lr: float,
    wd: float = 0.0,
    rescale_grad: float = 1.0,
    clip_gradient: float | None = None,
) -> None:
    """Langevin dynamics: ``weight += -lr / 2 * (clip(rescale_grad * grad) + wd * weight)`` and
    noise of variance lr.

    `noise` is a numpy.random.Generator; the array is walked from its first element on.
    """
    kind = weight.dtype.type
    drawn = np.dtype(np.float64 if kind is np.float64 else np.float32)
    scratch = scratch_blocks(weight.dtype, 2)
    normal = scratch_blocks(drawn, 3)[2]

    def run(w: Array, g: Array) -> None:
        t = scaled(g, like(scratch[0], w), rescale_grad, clip_gradient, kind)
        u = like(scratch[1], w)
        if wd:
            np.multiply(w, kind(wd), out=u)
            np.add(t, u, out=t)
        np.multiply(t, kind(lr / 2), out=t)
        np.subtract(w, t, out=w)
        n = normal[: w.size] if w.size <= normal.size else np.empty(w.size, drawn)
        noise.standard_normal(out=n, dtype=drawn)
        np.multiply(n, drawn.type(lr**0.5), out=n)
        np.add(w, n.reshape(w.shape), out=w, casting="same_kind")

    blocks(run, (weight, grad))

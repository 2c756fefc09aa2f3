# SPDX-License-Identifier: Apache-2.0
"""Optimizer updates and the ordered sum, on raw arrays, in place.

Used by workers' own updates and by servers alike. Everything is element-wise, so the bits do
not depend on how an array is cut; everything runs over blocks that fit the cache, into
preallocated scratch. Gradients are never written.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
#: elements of one block
BLOCK = 64 * 1024
_local = threading.local()


def scratch_blocks(dtype: np.dtype[Any], count: int) -> list[Array]:
    """`count` scratch blocks of this thread, shared by all kernels."""
    held: dict[Any, list[Array]] | None = getattr(_local, "blocks", None)
    if held is None:
        held = _local.blocks = {}
    blocks = held.setdefault(dtype, [])
    while len(blocks) < count:
        blocks.append(np.empty(BLOCK, dtype))
    return blocks


def whole(array: Array) -> Array:
    """Scratch of this thread, as large as `array`; kept for the next one."""
    held: dict[Any, Array] | None = getattr(_local, "whole", None)
    if held is None:
        held = _local.whole = {}
    buffer = held.get(array.dtype)
    if buffer is None or buffer.size < array.size:
        buffer = held[array.dtype] = np.empty(array.size, array.dtype)
    return buffer[: array.size].reshape(array.shape)


def sum_arrays(arrays: Sequence[Array], out: Array) -> Array:
    """``arrays[0] + arrays[1] + ...`` in this order into `out`.

    Starts from the first, not from zero, so that -0.0 is kept. `out` may be ``arrays[0]``
    but no other of them.
    """
    first = arrays[0]
    if len(arrays) == 1:
        if out is not first:
            np.copyto(out, first)
        return out
    if out.ndim == 1 and out.size > BLOCK:
        for low in range(0, out.size, BLOCK):
            sum_arrays([a[low : low + BLOCK] for a in arrays], out[low : low + BLOCK])
        return out
    np.add(first, arrays[1], out=out)
    for array in arrays[2:]:
        np.add(out, array, out=out)
    return out


def sum_into_all(arrays: Sequence[Array], out: Array, copies: Sequence[Array]) -> None:
    """As :func:`sum_arrays` into `out`, and the result into each of `copies` too, while a block
    is in the cache. All are flat; `copies` may be among `arrays`, `out` is not."""
    for low in range(0, out.size, BLOCK):
        block = out[low : low + BLOCK]
        sum_arrays([a[low : low + BLOCK] for a in arrays], block)
        for copy in copies:
            np.copyto(copy[low : low + BLOCK], block)


def copy_to_all(source: Array, copies: Sequence[Array]) -> None:
    """`source` into each of `copies`, block by block; all are flat."""
    for low in range(0, source.size, BLOCK):
        block = source[low : low + BLOCK]
        for copy in copies:
            np.copyto(copy[low : low + BLOCK], block)


def blocks(run: Callable[..., None], arrays: Sequence[Array]) -> None:
    """Call `run` on flat blocks of all arrays; strided arrays are handled whole."""
    flat = []
    for array in arrays:
        if not array.flags.c_contiguous:
            run(*arrays)
            return
        flat.append(array.reshape(-1))
    for low in range(0, flat[0].size, BLOCK):
        run(*(a[low : low + BLOCK] for a in flat))


def like(scratch: Array, block: Array) -> Array:
    if block.size <= scratch.size:
        return scratch[: block.size].reshape(block.shape)
    return np.empty(block.shape, scratch.dtype)


def scaled(
    grad: Array, into: Array, rescale_grad: float, clip_gradient: float | None, kind: Any
) -> Array:
    """``clip(rescale_grad * grad)`` into scratch."""
    if rescale_grad == 1.0:
        np.copyto(into, grad, casting="same_kind")
    elif grad.dtype == into.dtype:
        np.multiply(grad, kind(rescale_grad), out=into)
    else:
        np.copyto(into, grad, casting="same_kind")
        np.multiply(into, kind(rescale_grad), out=into)
    clip(into, clip_gradient, kind)
    return into


def clip(values: Array, bound: float | None, kind: Any) -> None:
    """Limit to ``[-bound, bound]`` in place; None or a negative bound: as they are."""
    if bound is not None and bound >= 0:
        np.clip(values, kind(-bound), kind(bound), out=values)


def one_minus_power(kind: Any, decay: float, t: int) -> Any:
    """``1 - decay**t`` in single precision, double for double arrays, as MXNet rounds it."""
    work = np.float64 if kind is np.float64 else np.float32
    return work(1.0) - work(decay) ** work(t)


def decayed(
    grad: Array,
    weight: Array,
    into: Array,
    spare: Array,
    wd: float,
    rescale_grad: float,
    clip_gradient: float | None,
) -> Array:
    """``clip(rescale_grad * grad + wd * weight)`` into scratch."""
    kind = into.dtype.type
    scaled(grad, into, rescale_grad, None, kind)
    if wd:
        np.multiply(weight, kind(wd), out=spare)
        np.add(into, spare, out=into)
    clip(into, clip_gradient, kind)
    return into


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
    kind = weight.dtype.type
    scratch = scratch_blocks(weight.dtype, 1)

    def run(w: Array, g: Array) -> None:
        t = scaled(g, like(scratch[0], w), rescale_grad, clip_gradient, kind)
        np.multiply(t, kind(lr), out=t)
        if wd:
            np.multiply(w, kind(1.0) - kind(lr) * kind(wd), out=w)
        np.subtract(w, t, out=w)

    blocks(run, (weight, grad))


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
    kind = weight.dtype.type
    scratch = scratch_blocks(weight.dtype, 2)

    def run(w: Array, g: Array, m: Array) -> None:
        t = scaled(g, like(scratch[0], w), rescale_grad, clip_gradient, kind)
        np.multiply(t, kind(lr), out=t)
        np.multiply(m, kind(momentum), out=m)
        if wd:
            u = like(scratch[1], w)
            np.multiply(w, kind(lr) * kind(wd), out=u)
            np.subtract(m, u, out=m)
        np.subtract(m, t, out=m)
        np.add(w, m, out=w)

    blocks(run, (weight, grad, mom))


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
    """Adam (Kingma and Ba, 2014) with `lr` already corrected for bias.

    ``g = clip(rescale_grad * grad + wd * weight)``, ``mean = b1 * mean + (1 - b1) * g``,
    ``var = b2 * var + (1 - b2) * g * g``, ``weight -= lr * mean / (sqrt(var) + epsilon)``.
    """
    kind = weight.dtype.type
    scratch = scratch_blocks(weight.dtype, 2)

    def run(w: Array, g: Array, m: Array, v: Array) -> None:
        u = like(scratch[1], w)
        t = decayed(g, w, like(scratch[0], w), u, wd, rescale_grad, clip_gradient)
        np.multiply(m, kind(beta1), out=m)
        np.multiply(t, kind(1.0) - kind(beta1), out=u)
        np.add(m, u, out=m)
        np.multiply(v, kind(beta2), out=v)
        np.multiply(t, t, out=t)
        np.multiply(t, kind(1.0) - kind(beta2), out=t)
        np.add(v, t, out=v)
        np.sqrt(v, out=t)
        np.add(t, kind(epsilon), out=t)
        np.divide(m, t, out=t)
        np.multiply(t, kind(lr), out=t)
        np.subtract(w, t, out=w)

    blocks(run, (weight, grad, mean, var))

# SPDX-License-Identifier: Apache-2.0
"""Maximum, average and sum over windows of (n, c, *spatial), any number of spatial dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Sizes = tuple[int, ...]


def pool_output(size: Sizes, kernel: Sizes, stride: Sizes, pad: Sizes, convention: str) -> Sizes:
    """Output size: "valid" rounds down, "full" up, "same" divides by the stride."""
    out = []
    for s, k, t, p in zip(size, kernel, stride, pad, strict=True):
        if convention == "same":
            out.append(-(-(s + 2 * p) // t))
        elif convention == "full":
            out.append(-(-(s + 2 * p - k) // t) + 1)
        else:
            out.append((s + 2 * p - k) // t + 1)
    return tuple(out)


def _far(size: Sizes, kernel: Sizes, stride: Sizes, pad: Sizes, out: Sizes) -> Sizes:
    """The padding needed at the far end."""
    geometry = zip(size, kernel, stride, pad, out, strict=True)
    return tuple(max(p, (o - 1) * t + k - s - p) for s, k, t, p, o in geometry)


def _padded(data: Array, pad: Sizes, far: Sizes, fill: Any) -> Array:
    if not any(pad) and not any(far):
        return data
    width = ((0, 0), (0, 0), *zip(pad, far, strict=True))
    return np.pad(data, width, constant_values=fill)


def _lowest(dtype: np.dtype[Any]) -> Any:
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _counts(
    size: Sizes, kernel: Sizes, stride: Sizes, pad: Sizes, out: Sizes, include: bool
) -> Array:
    """How many elements each window averages over: the padding counts if `include`."""
    counts: Array = np.ones((), np.int64)
    for s, k, t, p, o in zip(size, kernel, stride, pad, out, strict=True):
        start = np.arange(o) * t - p
        end = np.minimum(start + k, s + p)
        if not include:
            start, end = np.maximum(start, 0), np.minimum(end, s)
        counts = counts[..., None] * (end - start)
    return counts


def _shifts(kernel: Sizes, stride: Sizes, out: Sizes) -> Iterator[tuple[Any, ...]]:
    for at in np.ndindex(*kernel):
        where = (slice(i, i + t * (o - 1) + 1, t) for i, t, o in zip(at, stride, out, strict=True))
        yield (slice(None), slice(None), *where)


def pool(
    data: Array,
    *,
    kernel: Sizes,
    stride: Sizes,
    pad: Sizes,
    kind: str,
    convention: str = "valid",
    include_pad: bool = True,
) -> Array:
    """Pool (n, c, *spatial) by `kind` "max", "avg" or "sum"; returns (n, c, *output)."""
    size = data.shape[2:]
    shape = pool_output(size, kernel, stride, pad, convention)
    far = _far(size, kernel, stride, pad, shape)
    source = _padded(data, pad, far, _lowest(data.dtype) if kind == "max" else 0)
    out: Array | None = None
    for where in _shifts(kernel, stride, shape):
        part = source[where]
        if out is None:
            out = np.array(part)
        elif kind == "max":
            np.maximum(out, part, out=out)
        else:
            np.add(out, part, out=out)
    assert out is not None
    if kind == "avg":
        counts = _counts(size, kernel, stride, pad, shape, include_pad)
        np.divide(out, counts.astype(data.dtype), out=out, casting="unsafe")
    return out


def pool_grad(
    grad: Array,
    data: Array,
    out: Array,
    *,
    kernel: Sizes,
    stride: Sizes,
    pad: Sizes,
    kind: str,
    convention: str = "valid",
    include_pad: bool = True,
) -> Array:
    """Gradient of pool by its data; of equal maxima the first in a window gets it."""
    size, shape = data.shape[2:], grad.shape[2:]
    far = _far(size, kernel, stride, pad, shape)
    sizes = tuple(s + p + f for s, p, f in zip(size, pad, far, strict=True))
    result = np.zeros((*data.shape[:2], *sizes), grad.dtype)
    if kind == "max":
        source = _padded(data, pad, far, _lowest(data.dtype))
        free = np.ones(out.shape, bool)
    elif kind == "avg":
        counts = _counts(size, kernel, stride, pad, shape, include_pad)
        grad = grad / counts.astype(grad.dtype)
    for where in _shifts(kernel, stride, shape):
        if kind == "max":
            hit = source[where] == out
            hit &= free
            free ^= hit
            result[where] += grad * hit
        else:
            result[where] += grad
    inner = tuple(slice(p, p + s) for s, p in zip(size, pad, strict=True))
    return np.ascontiguousarray(result[(slice(None), slice(None), *inner)])


def pool_pick(
    values: Array,
    data: Array,
    out: Array,
    *,
    kernel: Sizes,
    stride: Sizes,
    pad: Sizes,
    convention: str = "valid",
) -> Array:
    """`values` (like `data`) where each window of `data` has its first maximum `out`."""
    far = _far(data.shape[2:], kernel, stride, pad, out.shape[2:])
    source = _padded(data, pad, far, _lowest(data.dtype))
    taken = _padded(values, pad, far, 0)
    free = np.ones(out.shape, bool)
    result = np.zeros(out.shape, values.dtype)
    for where in _shifts(kernel, stride, out.shape[2:]):
        hit = source[where] == out
        hit &= free
        free ^= hit
        result += taken[where] * hit
    return result

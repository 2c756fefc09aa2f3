# SPDX-License-Identifier: Apache-2.0
"""``nd.contrib``: numbers of eight bits with their range, and back.

A quantized array is three: the integers, and the least and the largest number that they stand
for, each of shape (1,). The widest int8 stands for the larger magnitude of the two times
``127 / 127.5``, as in MXNet's CPU kernels; products of two arrays are int32 over a range of
their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.errors import OperatorError
from kvtrain.ndarray.array import NDArray
from kvtrain.ops.attribute import declared

Array = np.ndarray[Any, Any]
#: where an int8 or uint8 is full
FULL = {"int8": 127.5, "uint8": 255.5}
#: largest numbers of the integer types
LARGEST = {"int8": 127.0, "uint8": 255.0, "int32": 2147483647.0}


def number(owner: str, name: str, array: Any) -> float:
    """The one number of an array of shape (1,)."""
    if not isinstance(array, NDArray) or array.size != 1:
        shown = array.shape if isinstance(array, NDArray) else type(array).__name__
        raise OperatorError(f"{owner}: {name} must be an array of one number, not {shown}")
    return float(array._read().reshape(()))


def magnitude(low: float, high: float) -> float:
    """The larger magnitude of a range."""
    return max(abs(low), abs(high))


def integers(owner: str, name: str, array: Any, *kinds: str) -> Array:
    """The integers of a quantized array."""
    if not isinstance(array, NDArray) or array._read().dtype.name not in kinds:
        shown = array._read().dtype.name if isinstance(array, NDArray) else type(array).__name__
        raise OperatorError(f"{owner}: {name} is {shown}; {' or '.join(kinds)} is needed")
    return array._read()


def rounded(values: Array, kind: str) -> Array:
    """Numbers rounded to integers of a type, at its ends where they exceed it."""
    limits = np.iinfo(kind)
    return np.clip(np.rint(values), limits.min, limits.max).astype(kind)


def triple(ctx: Any, values: Array, low: float, high: float) -> list[NDArray]:
    """A quantized array."""
    ends = [NDArray(np.array([end], np.float32), ctx) for end in (low, high)]
    return [NDArray(values, ctx), *ends]


def _quantized(
    owner: str, data: NDArray, low: float, high: float, kind: str, full: dict[str, float]
) -> list[NDArray]:
    if kind not in FULL:
        raise OperatorError(f"{owner}: out_type={kind!r}; known: int8, uint8")
    top = magnitude(low, high)
    scale = np.float32(full[kind] / top) if top else np.float32(0)
    made = rounded(data._read().astype(np.float32) * scale, kind)
    return triple(data._ctx, made, *((-top, top) if kind == "int8" else (low, high)))


@declared
def quantize(
    data: NDArray, min_range: NDArray, max_range: NDArray, out_type: str = "uint8", **kw: Any
) -> list[NDArray]:
    """Numbers between `min_range` and `max_range` as int8 or uint8."""
    low = number("quantize", "min_range", min_range)
    high = number("quantize", "max_range", max_range)
    return _quantized("quantize", data, low, high, out_type, LARGEST)


def _chosen(out_type: str, low: float | None) -> str:
    if out_type != "auto":
        return out_type
    return "uint8" if low is not None and low >= 0 else "int8"


@declared
def quantize_v2(
    data: NDArray,
    out_type: str = "int8",
    min_calib_range: float | None = None,
    max_calib_range: float | None = None,
    **kw: Any,
) -> list[NDArray]:
    """Numbers as int8 or uint8; without a range between the least and the largest of them.

    ``out_type="auto"``: uint8 if `min_calib_range` is 0 or more, else int8.
    """
    if data._read().dtype.name in ("int8", "uint8"):
        raw = data._read()
        low = 0.0 if min_calib_range is None else min_calib_range
        high = LARGEST[raw.dtype.name] if max_calib_range is None else max_calib_range
        return triple(data._ctx, raw.copy(), low, high)
    kind = _chosen(out_type, min_calib_range)
    if min_calib_range is None or max_calib_range is None:
        raw = data._read()
        min_calib_range, max_calib_range = float(raw.min()), float(raw.max())
    return _quantized("quantize_v2", data, min_calib_range, max_calib_range, kind, FULL)


@declared
def dequantize(
    data: NDArray, min_range: NDArray, max_range: NDArray, out_type: str = "float32", **kw: Any
) -> NDArray:
    """The float32 numbers that int8 or uint8 stand for."""
    raw = integers("dequantize", "data", data, "int8", "uint8")
    if out_type != "float32":
        raise OperatorError(f"dequantize: out_type={out_type!r}; known: float32")
    ends = (number("dequantize", "min_range", min_range),
            number("dequantize", "max_range", max_range))  # fmt: skip
    scale = np.float32(magnitude(*ends) / FULL[raw.dtype.name])
    return NDArray(raw.astype(np.float32) * scale, data._ctx)


@declared
def requantize(
    data: NDArray,
    min_range: NDArray,
    max_range: NDArray,
    out_type: str = "int8",
    min_calib_range: float | None = None,
    max_calib_range: float | None = None,
    **kw: Any,
) -> list[NDArray]:
    """int32 as int8 or uint8; without a new range over that of the numbers that occur."""
    raw = integers("requantize", "data", data, "int32")
    ends = (number("requantize", "min_range", min_range),
            number("requantize", "max_range", max_range))  # fmt: skip
    values = raw.astype(np.float64) * (magnitude(*ends) / LARGEST["int32"])
    kind = _chosen(out_type, min_calib_range)
    if min_calib_range is None or max_calib_range is None:
        top = magnitude(float(values.min()), float(values.max()))
        min_calib_range, max_calib_range = -top, top
    array = NDArray(values.astype(np.float32), data._ctx)
    return _quantized("requantize", array, min_calib_range, max_calib_range, kind, FULL)


@declared
def calibrate_entropy(
    hist: NDArray, hist_edges: NDArray, num_quantized_bins: int = 255, **kw: Any
) -> list[NDArray]:
    """The threshold whose int8 numbers lose least of a histogram, and how much that is.

    The loss is the Kullback-Leibler divergence between the histogram cut at the threshold and
    what is left of it in `num_quantized_bins` bins (Migacz, "8-bit inference with TensorRT",
    2017).

    Parameters
    ----------
    hist : (n,), n odd
        Counts of bins around zero.
    hist_edges : (n + 1,)
    """
    counts = hist._read().astype(np.float64)
    edges = hist_edges._read().astype(np.float64)
    if counts.ndim != 1 or edges.shape != (counts.size + 1,) or counts.size < num_quantized_bins:
        raise OperatorError(
            f"calibrate_entropy: hist {counts.shape} and hist_edges {edges.shape}; (n,) and "
            f"(n + 1,) with n of at least num_quantized_bins={num_quantized_bins} are needed"
        )
    middle, half = counts.size // 2, num_quantized_bins // 2
    best, threshold = np.inf, 0.0
    for reach in range(half, middle + 1):
        low, high = middle - reach, middle + reach + 1
        loss = _loss(counts, low, min(high, counts.size), num_quantized_bins)
        if loss < best:
            best, threshold = loss, float(edges[min(high, counts.size)])
    ends = (threshold, best)
    return [NDArray(np.array([end], np.float32), hist._ctx) for end in ends]


def _loss(counts: Array, low: int, high: int, bins: int) -> float:
    part = counts[low:high]
    cut = part.copy()
    cut[0] += counts[:low].sum()
    cut[-1] += counts[high:].sum()
    step = part.size // bins
    starts = np.arange(bins) * step
    sums = np.add.reduceat(part, starts)
    seen = np.add.reduceat((part != 0).astype(np.float64), starts)
    share = np.divide(sums, seen, out=np.zeros(bins), where=seen != 0)
    spread = np.repeat(share, np.diff(np.append(starts, part.size))) * (cut != 0)
    return _divergence(_smooth(cut), _smooth(spread))


def _smooth(counts: Array, little: float = 0.0001) -> Array | None:
    """A little of what is there given to the empty bins."""
    empty = counts == 0
    filled = int(counts.size - empty.sum())
    if not filled:
        return None
    taken = little * empty.sum() / filled
    return np.where(empty, little, counts - taken)


def _divergence(p: Array | None, q: Array | None) -> float:
    if p is None or q is None:
        return np.inf
    p, q = p / p.sum(), q / q.sum()
    good = (p > 0) & (q > 0)
    return float(np.sum(p[good] * np.log(p[good] / q[good])))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    f.__name__: f for f in (quantize, quantize_v2, dequantize, requantize, calibrate_entropy)
}

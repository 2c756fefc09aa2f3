# SPDX-License-Identifier: Apache-2.0
"""``nd.contrib``: layers on quantized arrays (see quantized.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.errors import OperatorError
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.invoke import invoke
from kvtrain.ndarray.namespace import call
from kvtrain.ndarray.quantized import FULL, LARGEST, integers, magnitude, number, rounded, triple
from kvtrain.ops.attribute import declared
from kvtrain.ops.registry import find

Array = np.ndarray[Any, Any]
_ENDS = ("min_data", "max_data", "min_weight", "max_weight", "min_bias", "max_bias")


def _step(kind: str, low: float, high: float) -> float:
    """What one integer stands for in a product."""
    return magnitude(low, high) / LARGEST[kind]


def _sorted_out(owner: str, args: tuple[Any, ...], given: dict[str, Any]) -> dict[str, Any]:
    """Arrays of a layer by name; without a bias its places may be left out or None."""
    names: tuple[str, ...] = ("data", "weight", "bias", *_ENDS)
    arrays = [*args]
    if given.get("no_bias") and len([a for a in arrays if a is not None]) == len(arrays) == 6:
        names = ("data", "weight", *_ENDS[:4])
    if len(arrays) > len(names):
        raise OperatorError(f"{owner}: takes {len(names)} arrays, {len(arrays)} given")
    found = {name: given.pop(name) for name in ("data", "weight", "bias", *_ENDS) if name in given}
    found.update(zip(names, arrays, strict=False))
    needed = ["data", "weight", *_ENDS[:4]]
    if not given.get("no_bias"):
        needed += ["bias", *_ENDS[4:]]
    for name in needed:
        if not isinstance(found.get(name), NDArray):
            raise OperatorError(f"{owner}: {name} is missing")
    return found


def _layer(owner: str, op: str, args: tuple[Any, ...], attrs: dict[str, Any]) -> list[NDArray]:
    """`op` on integers, as int32 with the range of its products."""
    attrs["no_bias"] = attrs.get("no_bias") in (True, 1, "True", "true", "1")
    found = _sorted_out(owner, args, attrs)
    data = integers(owner, "data", found["data"], "int8", "uint8")
    weight = integers(owner, "weight", found["weight"], "int8")
    ends = {n: number(owner, n, found[n]) for n in _ENDS if found.get(n) is not None}
    step = _step(data.dtype.name, ends["min_data"], ends["max_data"])
    step *= _step("int8", ends["min_weight"], ends["max_weight"])
    ctx = found["data"]._ctx
    wide = [NDArray(a.astype(np.float64), ctx) for a in (data, weight)]
    total = call(find(op), tuple(wide), {**attrs, "no_bias": True})._read()
    if not attrs["no_bias"]:
        bias = integers(owner, "bias", found["bias"], "int8")
        kind = data.dtype.name
        one = _step("int8", ends["min_bias"], ends["max_bias"]) / step * FULL[kind] / LARGEST[kind]
        added = np.trunc(bias.astype(np.float64) * one)
        total = total + added.reshape((1, -1) + (1,) * (total.ndim - 2))
    top = step * LARGEST["int32"]
    return triple(ctx, total.astype(np.int32), -top, top)


def quantized_fully_connected(*args: Any, **attrs: Any) -> list[NDArray]:
    """FullyConnected of (u)int8 data with int8 weight and bias, as int32.

    Takes data, weight, bias, min_data, max_data, min_weight, max_weight, min_bias, max_bias;
    with ``no_bias=True`` those of the bias are left out. Attributes as FullyConnected has.
    """
    return _layer("quantized_fully_connected", "FullyConnected", args, attrs)


def quantized_conv(*args: Any, **attrs: Any) -> list[NDArray]:
    """Convolution of (u)int8 data with int8 weight and bias, as int32; see Convolution."""
    return _layer("quantized_conv", "Convolution", args, attrs)


def quantized_pooling(
    data: NDArray, min_data: NDArray, max_data: NDArray, **attrs: Any
) -> list[NDArray]:
    """Pooling (max or avg) of (u)int8; the range stays."""
    raw = integers("quantized_pooling", "data", data, "int8", "uint8")
    if attrs.get("pool_type", "max") not in ("max", "avg"):
        raise OperatorError(f"quantized_pooling: pool_type={attrs['pool_type']!r}; known: max, avg")
    wide = NDArray(raw.astype(np.float32), data._ctx)
    pooled = call(find("Pooling"), (wide,), dict(attrs))._read()
    ends = _ends("quantized_pooling", min_data, max_data)
    return triple(data._ctx, rounded(pooled, raw.dtype.name), *ends)


def _ends(owner: str, low: Any, high: Any, names: Any = ("min_data", "max_data")) -> Any:
    return number(owner, names[0], low), number(owner, names[1], high)


def quantized_flatten(
    data: NDArray, min_data: NDArray, max_data: NDArray, **kw: Any
) -> list[NDArray]:
    """All dimensions but the first made one; the range stays."""
    raw = integers("quantized_flatten", "data", data, "int8", "uint8")
    ends = _ends("quantized_flatten", min_data, max_data)
    return triple(data._ctx, raw.reshape(raw.shape[0], -1).copy(), *ends)


def quantized_act(
    data: NDArray, min_data: NDArray, max_data: NDArray, act_type: str = "", **kw: Any
) -> list[NDArray]:
    """relu of (u)int8; the range stays."""
    raw = integers("quantized_act", "data", data, "int8", "uint8")
    if act_type != "relu":
        raise OperatorError(f"quantized_act: act_type={act_type!r}; known: relu")
    ends = _ends("quantized_act", min_data, max_data)
    return triple(data._ctx, np.maximum(raw, raw.dtype.type(0)), *ends)


@declared
def quantized_concat(*arrays: Any, dim: int = 1, num_args: int | None = None, **kw: Any) -> Any:
    """Arrays joined along `dim` over the widest of their ranges.

    Takes all arrays, then the least and the largest number of each in turn.
    """
    owner = "quantized_concat"
    given = list(arrays[0]) if len(arrays) == 1 else list(arrays)
    count = num_args or len(given) // 3
    if len(given) != 3 * count or not count:
        raise OperatorError(f"{owner}: {len(given)} arrays for num_args={count}; 3 each are needed")
    raws = [integers(owner, "data", a, "int8", "uint8") for a in given[:count]]
    pairs = zip(given[count::2], given[count + 1 :: 2], strict=True)
    ends = [_ends(owner, low, high) for low, high in pairs]
    kind = "uint8" if all(raw.dtype == np.uint8 for raw in raws) else "int8"
    top = max(magnitude(*pair) for pair in ends)
    parts = []
    for raw, pair in zip(raws, ends, strict=True):
        own = magnitude(*pair) / FULL[raw.dtype.name]
        same = raw.dtype.name == kind and magnitude(*pair) == top
        parts.append(raw if same else rounded(raw * np.float32(own * FULL[kind] / top), kind))
    low = min(pair[0] for pair in ends) if kind == "uint8" else -top
    return triple(given[0]._ctx, np.concatenate(parts, axis=dim), low, top)


def _pair(owner: str, arrays: tuple[NDArray, ...]) -> tuple[list[Array], list[float]]:
    lhs, rhs, *ends = arrays
    raws = [integers(owner, n, a, "int8", "uint8") for n, a in (("lhs", lhs), ("rhs", rhs))]
    if raws[0].shape != raws[1].shape:
        raise OperatorError(f"{owner}: lhs has shape {raws[0].shape}, rhs {raws[1].shape}")
    names = ("lhs_min", "lhs_max", "rhs_min", "rhs_max")
    low_l, high_l, low_r, high_r = (
        number(owner, name, end) for name, end in zip(names, ends, strict=True)
    )
    return raws, [magnitude(low_l, high_l), magnitude(low_r, high_r)]


@declared
def quantized_elemwise_add(
    lhs: NDArray,
    rhs: NDArray,
    lhs_min: NDArray,
    lhs_max: NDArray,
    rhs_min: NDArray,
    rhs_max: NDArray,
    min_calib_range: float | None = None,
    max_calib_range: float | None = None,
    **kw: Any,
) -> list[NDArray]:
    """Sum of two arrays of one shape: int32, or int8 over a range that is given."""
    arrays = (lhs, rhs, lhs_min, lhs_max, rhs_min, rhs_max)
    raws, tops = _pair("quantized_elemwise_add", arrays)
    left, right = (
        raw.astype(np.float64) * (top / FULL[raw.dtype.name])
        for raw, top in zip(raws, tops, strict=True)
    )
    total = left + right
    if min_calib_range is None or max_calib_range is None:
        top = sum(tops)
        made = (total * ((LARGEST["int32"] + 1) / top)).clip(-(2.0**31), 2.0**31 - 1)
        return triple(lhs._ctx, np.rint(made).astype(np.int32), -top, top)
    top = magnitude(min_calib_range, max_calib_range)
    made = rounded(total * (FULL["int8"] / top), "int8")
    return triple(lhs._ctx, made, -top, top)


@declared
def quantized_elemwise_mul(
    lhs: NDArray,
    rhs: NDArray,
    lhs_min: NDArray,
    lhs_max: NDArray,
    rhs_min: NDArray,
    rhs_max: NDArray,
    min_calib_range: float | None = None,
    max_calib_range: float | None = None,
    enable_float_output: bool = False,
    **kw: Any,
) -> Any:
    """Product of two arrays of one shape: int32, int8 over a range that is given, or float32."""
    arrays = (lhs, rhs, lhs_min, lhs_max, rhs_min, rhs_max)
    raws, tops = _pair("quantized_elemwise_mul", arrays)
    product = raws[0].astype(np.int32) * raws[1].astype(np.int32)
    step = 1.0
    for raw, top in zip(raws, tops, strict=True):
        step *= top / LARGEST[raw.dtype.name]
    if enable_float_output:
        return NDArray((product * step).astype(np.float32), lhs._ctx)
    if min_calib_range is None or max_calib_range is None:
        top = step * LARGEST["int32"]
        return triple(lhs._ctx, product, -top, top)
    top = magnitude(min_calib_range, max_calib_range)
    made = rounded(product * (step * LARGEST["int8"] / top), "int8")
    return triple(lhs._ctx, made, -top, top)


@declared
def quantized_batch_norm(
    data: NDArray,
    gamma: NDArray,
    beta: NDArray,
    moving_mean: NDArray,
    moving_var: NDArray,
    min_data: NDArray,
    max_data: NDArray,
    eps: float = 1e-3,
    momentum: float = 0.9,
    fix_gamma: bool = True,
    use_global_stats: bool = False,
    output_mean_var: bool = False,
    axis: int = 1,
    min_calib_range: float | None = None,
    max_calib_range: float | None = None,
    **kw: Any,
) -> list[NDArray]:
    """Batch normalisation of int8 with the moving statistics, as int8 over a given range."""
    owner = "quantized_batch_norm"
    raw = integers(owner, "data", data, "int8")
    if min_calib_range is None or max_calib_range is None:
        raise OperatorError(f"{owner}: min_calib_range and max_calib_range are needed")
    step = magnitude(*_ends(owner, min_data, max_data)) / LARGEST["int8"]
    wide = NDArray(raw.astype(np.float32) * np.float32(step), data._ctx)
    attrs = {
        "eps": eps,
        "momentum": momentum,
        "fix_gamma": fix_gamma,
        "use_global_stats": True,
        "output_mean_var": False,
        "axis": axis,
        "cudnn_off": False,
    }
    arrays = [wide, gamma, beta, moving_mean, moving_var]
    normal = invoke(find("_batch_norm"), arrays, attrs)[0]._read()
    top = magnitude(min_calib_range, max_calib_range)
    made = rounded(normal * np.float32(LARGEST["int8"] / top), "int8")
    return triple(data._ctx, made, -top, top)


@declared
def quantized_embedding(
    data: NDArray,
    weight: NDArray,
    min_weight: NDArray,
    max_weight: NDArray,
    input_dim: int = 0,
    output_dim: int = 0,
    dtype: Any = "float32",
    sparse_grad: bool = False,
    **kw: Any,
) -> list[NDArray]:
    """Rows of an int8 weight; the range stays."""
    raw = integers("quantized_embedding", "weight", weight, "int8")
    attrs = {"input_dim": input_dim, "output_dim": output_dim}
    wide = NDArray(raw.astype(np.float32), weight._ctx)
    rows = call(find("Embedding"), (data, wide), attrs)._read().astype(np.int8)
    names = ("min_weight", "max_weight")
    return triple(data._ctx, rows, *_ends("quantized_embedding", min_weight, max_weight, names))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        quantized_fully_connected,
        quantized_conv,
        quantized_pooling,
        quantized_flatten,
        quantized_act,
        quantized_concat,
        quantized_elemwise_add,
        quantized_elemwise_mul,
        quantized_batch_norm,
        quantized_embedding,
    )
}

# SPDX-License-Identifier: Apache-2.0
"""``nd._internal``: MXNet's names that begin with an underscore, which old code calls."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain import generators
from kvtrain.errors import OperatorError
from kvtrain.ndarray import creation, random
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.composed import split_v2
from kvtrain.ndarray.invoke import invoke
from kvtrain.ndarray.methods import slice_assign, slice_assign_scalar
from kvtrain.ops.registry import find

_PAIRS = {
    "add": ("_Plus", "_plus", "_add", "_grad_add"),
    "subtract": ("_Minus", "_minus", "_sub"),
    "multiply": ("_Mul", "_mul"),
    "divide": ("_Div", "_div"),
    "modulo": ("_Mod", "_mod"),
    "power": ("_Power", "_power"),
    "maximum": ("_Maximum", "_maximum"),
    "minimum": ("_Minimum", "_minimum"),
    "hypot": ("_Hypot", "_hypot"),
    "equal": ("_Equal", "_equal"),
    "not_equal": ("_Not_Equal", "_not_equal"),
    "greater": ("_Greater", "_greater"),
    "greater_equal": ("_Greater_Equal", "_greater_equal"),
    "lesser": ("_Lesser", "_lesser"),
    "lesser_equal": ("_Lesser_Equal", "_lesser_equal"),
    "logical_and": ("_Logical_And", "_logical_and"),
    "logical_or": ("_Logical_Or", "_logical_or"),
    "logical_xor": ("_Logical_Xor", "_logical_xor"),
}


def _crop_assign(
    lhs: NDArray, rhs: NDArray, begin: Any, end: Any, step: Any = None, out: Any = None, **kw: Any
) -> NDArray:
    """A copy of `lhs` (or `out`) whose part ``begin:end`` is `rhs`."""
    target = lhs.copy() if out is None else out
    if target is not lhs and out is not None:
        lhs.copyto(target)
    return slice_assign(target, rhs, begin, end, step)


def _crop_assign_scalar(
    data: NDArray,
    scalar: float = 0.0,
    begin: Any = (),
    end: Any = (),
    step: Any = None,
    out: Any = None,
    **kw: Any,
) -> NDArray:
    """A copy of `data` (or `out`) whose part ``begin:end`` is a number."""
    target = data.copy() if out is None else out
    if target is not data and out is not None:
        data.copyto(target)
    return slice_assign_scalar(target, scalar, begin, end, step)


def _copyto(data: NDArray, out: Any = None, **kw: Any) -> NDArray:
    """A copy, or `data` copied to `out`."""
    return data.copy() if out is None else data.copyto(out)


def _scatter_set_nd(
    lhs: NDArray, rhs: NDArray, indices: NDArray, shape: Any = None, out: Any = None, **kw: Any
) -> NDArray:
    """A copy of `lhs` (or `out`) with `rhs` at ``indices[0], indices[1], ...``."""
    target = lhs.copy() if out is None else out
    target._write_in_graph()[tuple(indices._read().astype(np.int64))] = rhs._read()
    return target


def _set_value(src: float, out: NDArray) -> NDArray:
    """Fill `out` with a number."""
    out._write_in_graph()[...] = src
    return out


def _identity_with_attr_like_rhs(lhs: NDArray, rhs: NDArray, **kw: Any) -> Any:
    """A copy of the first, dense where the second is of another storage."""
    copied = invoke(find("identity"), [lhs], {})
    return copied if lhs.stype == rhs.stype else copied.tostype("default")


def _rnn_param_concat(*args: NDArray, dim: int = 1, **kw: Any) -> Any:
    """Arrays joined along `dim`."""
    return invoke(find("Concat"), list(args), {"dim": dim})


def _sample_unique_zipfian(range_max: int, shape: Any, **kw: Any) -> list[NDArray]:
    """Different candidates of a Zipfian distribution per row, and how many draws that took."""
    rows, count = (1, *shape)[-2:] if isinstance(shape, tuple | list) else (1, int(shape))
    if count > range_max:
        raise OperatorError(f"_sample_unique_zipfian: {count} different ones below {range_max}")
    width = math.log(range_max)
    found = np.empty((rows, count), np.int64)
    tries = np.zeros(rows, np.int64)
    for i in range(rows):
        seen: dict[int, None] = {}
        while len(seen) < count:
            tries[i] += 1
            drawn = float(generators.serial_unit(1, "float64")[0]) * width
            seen[(math.floor(math.exp(drawn) + 0.5) - 1) % range_max] = None
        found[i] = list(seen)
    ctx = creation.zeros(1)._ctx
    return [NDArray(found, ctx), NDArray(tries, ctx)]


def functions(known: dict[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """All names of ``nd._internal``."""
    made = {name: f for name, f in known.items() if name.startswith("_")}
    for name, others in _PAIRS.items():
        made.update(dict.fromkeys(others, known[name]))
    for name in ("zeros", "ones", "full", "arange", "linspace", "eye"):
        made[f"_{name}"] = getattr(creation, name)
    own = (
        _crop_assign,
        _crop_assign_scalar,
        _copyto,
        _scatter_set_nd,
        _set_value,
        _identity_with_attr_like_rhs,
        _rnn_param_concat,
        _sample_unique_zipfian,
    )
    made.update({f.__name__: f for f in own})
    made["_slice_assign"], made["_slice_assign_scalar"] = _crop_assign, _crop_assign_scalar
    made["_shuffle"], made["_split_v2"] = random.shuffle, split_v2
    made["_CrossDeviceCopy"] = _copyto
    return made

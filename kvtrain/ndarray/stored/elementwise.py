# SPDX-License-Identifier: Apache-2.0
"""Sparse rules of element-wise operators: which results stay sparse is as in MXNet.

Functions that map 0 to 0, and scalars that leave 0 alone, work on the stored values only. Sums
of two of a kind stay of that kind; a product with a dense array is stored as its sparse factor
if that comes first; everything else is dense.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.kernels.stored import Csr, Rows, merge_rows
from kvtrain.ndarray.stored.rules import rule
from kvtrain.ops.registry import find

#: functions of one array that map 0 to 0
UNARY = (
    "abs",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctanh",
    "cbrt",
    "ceil",
    "degrees",
    "expm1",
    "fix",
    "floor",
    "log1p",
    "negative",
    "radians",
    "relu",
    "rint",
    "round",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "tan",
    "tanh",
    "trunc",
)
#: operators with a number that stay sparse whenever that number leaves 0 at 0
SCALAR = (
    "add",
    "subtract",
    "equal",
    "not_equal",
    "greater",
    "greater_equal",
    "lesser",
    "lesser_equal",
)
#: operators with a number that always stay sparse, infinities included
SCALING = ("_multiply_scalar", "_rmultiply_scalar", "_divide_scalar")


def _values(data: Any) -> Any:
    return data.values if isinstance(data, Rows) else data.data


def _unary(name: str) -> None:
    forward = find(name).forward

    def run(xp: Any, data: Any, **attrs: Any) -> Any:
        return data.map(forward(xp, _values(data), **attrs))

    rule(name)(run)


def _number(name: str, always: bool) -> None:
    forward = find(name).forward

    def run(xp: Any, data: Any, *, scalar: Any) -> Any:
        if not always and forward(xp, np.zeros(1, data.dtype), scalar=scalar)[0] != 0:
            return NotImplemented
        return data.map(forward(xp, _values(data), scalar=scalar))

    rule(name)(run)


for _name in UNARY:
    _unary(_name)
for _name in SCALING:
    _number(_name, True)
for _name in SCALAR:
    _number(f"_{_name}_scalar", False)
_number("_radd_scalar", False)


@rule("clip")
def _clip(xp: Any, data: Any, *, a_min: Any, a_max: Any) -> Any:
    if a_min > 0 or a_max < 0:
        return NotImplemented
    return data.map(find("clip").forward(xp, _values(data), a_min=a_min, a_max=a_max))


# ---- two arrays ----------------------------------------------------------------------------


def _places(data: Csr) -> Any:
    """One rising number per element of a canonical matrix."""
    return data.rows() * data.shape[1] + data.indices


def _from_places(values: Any, places: Any, shape: tuple[int, ...]) -> Csr:
    kept = values != 0
    values, places = values[kept], places[kept]
    rows, columns = np.divmod(places, max(shape[1], 1))
    indptr = np.zeros(shape[0] + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=shape[0]), out=indptr[1:])
    return Csr(values, columns, indptr, shape)


def _sum(lhs: Any, rhs: Any, sign: int) -> Any:
    if lhs.shape != rhs.shape:
        return NotImplemented
    if isinstance(lhs, Rows) and isinstance(rhs, Rows):
        return merge_rows([lhs, rhs if sign > 0 else rhs.map(-rhs.values)])
    if not isinstance(lhs, Csr) or not isinstance(rhs, Csr):
        return NotImplemented
    a, b = lhs.canonical(), rhs.canonical()
    mine, other = _places(a), _places(b)
    places = np.union1d(mine, other)
    values = np.zeros(places.size, a.dtype)
    values[np.searchsorted(places, mine)] = a.data
    at = np.searchsorted(places, other)
    values[at] = values[at] + b.data if sign > 0 else values[at] - b.data
    return _from_places(values, places, a.shape)


@rule("add")
def _add(xp: Any, lhs: Any, rhs: Any) -> Any:
    return _sum(lhs, rhs, 1)


@rule("subtract")
def _subtract(xp: Any, lhs: Any, rhs: Any) -> Any:
    return _sum(lhs, rhs, -1)


def _with_dense(op: Callable[..., Any], data: Any, other: Any) -> Any:
    """``op(data, other)`` at the stored places; `other` is dense and broadcast to `data`."""
    if isinstance(data, Rows):
        held = data.canonical()
        return held.map(op(held.values, other[held.ids]))
    if np.broadcast_shapes(data.shape, other.shape) != data.shape:
        return NotImplemented
    held = data.canonical()
    spread = np.broadcast_to(other, data.shape)
    return held.map(op(held.data, spread[held.rows(), held.indices]))


@rule("multiply")
def _multiply(xp: Any, lhs: Any, rhs: Any) -> Any:
    if isinstance(lhs, Csr) and isinstance(rhs, Csr) and lhs.shape == rhs.shape:
        a, b = lhs.canonical(), rhs.canonical()
        places, mine, other = np.intersect1d(
            _places(a), _places(b), assume_unique=True, return_indices=True
        )
        return _from_places(xp.multiply(a.data[mine], b.data[other]), places, a.shape)
    if isinstance(lhs, Rows) and isinstance(rhs, Rows) and lhs.shape == rhs.shape:
        ids = np.union1d(lhs.ids, rhs.ids)
        return lhs.take(ids).map(xp.multiply(lhs.take(ids).values, rhs.take(ids).values))
    if isinstance(lhs, Csr) and isinstance(rhs, np.ndarray):
        return _with_dense(xp.multiply, lhs, rhs)
    if isinstance(lhs, Rows) and isinstance(rhs, np.ndarray) and lhs.shape == rhs.shape:
        return _with_dense(xp.multiply, lhs, rhs)
    return NotImplemented


@rule("divide")
def _divide(xp: Any, lhs: Any, rhs: Any) -> Any:
    # of equal shapes MXNet gives a dense quotient
    if isinstance(lhs, Csr) and isinstance(rhs, np.ndarray) and lhs.shape != rhs.shape:
        return _with_dense(lambda a, b: find("divide").forward(xp, a, b), lhs, rhs)
    return NotImplemented


@rule("_scatter_elemwise_div")
def _scatter_divide(xp: Any, lhs: Any, rhs: Any) -> Any:
    if isinstance(lhs, Rows) and isinstance(rhs, np.ndarray):
        return _with_dense(lambda a, b: find("divide").forward(xp, a, b), lhs, rhs)
    return NotImplemented


for _name, _with in (
    ("_scatter_plus_scalar", "_add_scalar"),
    ("_scatter_minus_scalar", "_subtract_scalar"),
):

    def _scatter(xp: Any, data: Any, *, scalar: Any, _of: str = _with) -> Any:
        return data.map(find(_of).forward(xp, _values(data), scalar=scalar))

    rule(_name)(_scatter)

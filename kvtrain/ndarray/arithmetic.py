# SPDX-License-Identifier: Apache-2.0
"""Python's operators on NDArrays, and the functions of two operands that take numbers too."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.errors import OperatorError
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.invoke import invoke
from kvtrain.ops.registry import find

_NUMBERS = (numbers.Number, np.generic)
_OPERANDS = (NDArray, int, float, np.ndarray, list, tuple, *_NUMBERS)


def _pair(name: str) -> Callable[..., Any]:
    both = find(name)
    right, left = find(f"_{name}_scalar"), find(f"_r{name}_scalar")

    def run(lhs: Any, rhs: Any, out: Any = None, **kwargs: Any) -> Any:
        if isinstance(lhs, NDArray):
            if isinstance(rhs, NDArray):
                if lhs._raw.dtype != rhs._raw.dtype:
                    raise OperatorError(
                        f"{name}: dtypes {lhs._raw.dtype} and {rhs._raw.dtype} differ; "
                        "convert one with astype()"
                    )
                return invoke(both, (lhs, rhs), {}, out)
            if isinstance(rhs, _NUMBERS):
                return invoke(right, (lhs,), {"scalar": rhs}, out)
            if isinstance(rhs, np.ndarray | list | tuple):
                raw = np.asarray(rhs, lhs._raw.dtype)
                return invoke(both, (lhs, NDArray(raw, lhs._ctx)), {}, out)
        elif isinstance(rhs, NDArray):
            if isinstance(lhs, _NUMBERS):
                return invoke(left, (rhs,), {"scalar": lhs}, out)
            if isinstance(lhs, np.ndarray | list | tuple):
                raw = np.asarray(lhs, rhs._raw.dtype)
                return invoke(both, (NDArray(raw, rhs._ctx), rhs), {}, out)
        elif isinstance(lhs, _NUMBERS) and isinstance(rhs, _NUMBERS):
            return both.forward(np, np.asarray(lhs), np.asarray(rhs)).item()
        raise TypeError(f"{name}: {type(lhs).__name__} and {type(rhs).__name__} are not supported")

    run.__name__ = run.__qualname__ = name
    run.__doc__ = both.doc
    run.__module__ = "kvtrain.ndarray"
    return run


#: functions of two operands, either of which may be a number
FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: _pair(name)
    for name in (
        "add",
        "subtract",
        "multiply",
        "divide",
        "modulo",
        "power",
        "maximum",
        "minimum",
        "hypot",
        "arctan2",
        "equal",
        "not_equal",
        "greater",
        "greater_equal",
        "lesser",
        "lesser_equal",
        "logical_and",
        "logical_or",
        "logical_xor",
    )
}
FUNCTIONS["true_divide"] = FUNCTIONS["divide"]
FUNCTIONS["pow"] = FUNCTIONS["power"]
FUNCTIONS["_power"] = FUNCTIONS["power"]
FUNCTIONS["_maximum"] = FUNCTIONS["maximum"]
FUNCTIONS["_minimum"] = FUNCTIONS["minimum"]
FUNCTIONS["less"] = FUNCTIONS["lesser"]
FUNCTIONS["less_equal"] = FUNCTIONS["lesser_equal"]

_OPERATORS = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "mod": "modulo",
    "pow": "power",
}
_COMPARISONS = {
    "eq": "equal",
    "ne": "not_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "lt": "lesser",
    "le": "lesser_equal",
}


def _operand(value: Any) -> bool:
    return isinstance(value, _OPERANDS)


def _methods(name: str) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    function, both = FUNCTIONS[name], find(name)

    def forward(self: NDArray, other: Any) -> Any:
        if type(other) is NDArray and self._raw.dtype is other._raw.dtype:
            return invoke(both, (self, other), {})
        return function(self, other) if _operand(other) else NotImplemented

    def reflected(self: NDArray, other: Any) -> Any:
        return function(other, self) if _operand(other) else NotImplemented

    def in_place(self: NDArray, other: Any) -> Any:
        if not _operand(other):
            return NotImplemented
        self._refuse_in_graph()
        return function(self, other, out=self)

    return forward, reflected, in_place


def _compare(name: str) -> Callable[..., Any]:
    function = FUNCTIONS[name]

    def run(self: NDArray, other: Any) -> Any:
        if other is None or not _operand(other):
            return NotImplemented
        return function(self, other)

    return run


def install() -> None:
    """Give NDArray Python's operators."""
    for symbol, name in _OPERATORS.items():
        forward, reflected, in_place = _methods(name)
        setattr(NDArray, f"__{symbol}__", forward)
        setattr(NDArray, f"__r{symbol}__", reflected)
        setattr(NDArray, f"__i{symbol}__", in_place)
    for symbol, name in _COMPARISONS.items():
        setattr(NDArray, f"__{symbol}__", _compare(name))
    setattr(NDArray, "__neg__", lambda self: invoke(find("negative"), (self,), {}))  # noqa: B010
    setattr(NDArray, "__abs__", lambda self: invoke(find("abs"), (self,), {}))  # noqa: B010

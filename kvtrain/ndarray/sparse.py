# SPDX-License-Identifier: Apache-2.0
"""``mx.nd.sparse``: sparse arrays and the functions that keep them sparse where MXNet does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvtrain.errors import OperatorError
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.invoke import invoke
from kvtrain.ndarray.stored import basic, elementwise, products
from kvtrain.ndarray.stored.array import BaseSparseNDArray, CSRNDArray, RowSparseNDArray
from kvtrain.ndarray.stored.creation import array, csr_matrix, empty, row_sparse_array, zeros
from kvtrain.ndarray.update import SPARSE
from kvtrain.ops.registry import find

assert basic and products  # their rules are registered

#: functions that are those of ``nd``
SHARED = (
    *elementwise.UNARY,
    "ElementWiseSum",
    "Embedding",
    "FullyConnected",
    "LinearRegressionOutput",
    "LogisticRegressionOutput",
    "MAERegressionOutput",
    "adam_update",
    "add",
    "add_n",
    "arccos",
    "arccosh",
    "broadcast_add",
    "broadcast_div",
    "broadcast_minus",
    "broadcast_mul",
    "broadcast_plus",
    "broadcast_sub",
    "cast_storage",
    "clip",
    "concat",
    "cos",
    "cosh",
    "divide",
    "dot",
    "exp",
    "ftrl_update",
    "gamma",
    "gammaln",
    "log",
    "log10",
    "log2",
    "make_loss",
    "mean",
    "multiply",
    "norm",
    "rsqrt",
    "sgd_mom_update",
    "sgd_update",
    "sigmoid",
    "slice",
    "stop_gradient",
    "subtract",
    "sum",
    "where",
    "zeros_like",
)


def retain(data: RowSparseNDArray, indices: NDArray, out: Any = None) -> Any:
    """Only the rows `indices` of a row_sparse array; those that are not stored come as zeros.

    Parameters
    ----------
    data : RowSparseNDArray
    indices : NDArray
        Row numbers; each is a row of the result, in this order.
    """
    for name, value in (("data", data), ("indices", indices)):
        if not isinstance(value, NDArray):
            raise OperatorError(
                f"retain: argument {name!r} must be an NDArray, not {type(value).__name__}"
            )
    return invoke(find("_sparse_retain"), [data, indices], {}, out)


def _same_shape(name: str, lhs: Any, rhs: Any) -> None:
    for given, value in (("lhs", lhs), ("rhs", rhs)):
        if not isinstance(value, NDArray):
            raise OperatorError(
                f"{name}: argument {given!r} must be an NDArray, not {type(value).__name__}"
            )
    if lhs.shape != rhs.shape or lhs.dtype is not rhs.dtype:
        raise OperatorError(
            f"{name}: {lhs.shape} {lhs.dtype.__name__} and {rhs.shape} {rhs.dtype.__name__} "
            f"differ; broadcast_{name[9:]} takes arrays of different shapes"
        )


def elemwise_add(lhs: NDArray, rhs: NDArray, out: Any = None, name: str = "") -> Any:
    """Sum of two arrays of one shape; sparse if both are of one sparse storage."""
    _same_shape("elemwise_add", lhs, rhs)
    return invoke(find("add"), [lhs, rhs], {}, out)


def elemwise_sub(lhs: NDArray, rhs: NDArray, out: Any = None, name: str = "") -> Any:
    """Difference of two arrays of one shape; sparse if both are of one sparse storage."""
    _same_shape("elemwise_sub", lhs, rhs)
    return invoke(find("subtract"), [lhs, rhs], {}, out)


def elemwise_mul(lhs: NDArray, rhs: NDArray, out: Any = None, name: str = "") -> Any:
    """Product of two arrays of one shape; sparse if one is, unless the two storages differ."""
    _same_shape("elemwise_mul", lhs, rhs)
    if rhs._sparse and not lhs._sparse:
        lhs, rhs = rhs, lhs
    return invoke(find("multiply"), [lhs, rhs], {}, out)


def elemwise_div(lhs: NDArray, rhs: NDArray, out: Any = None, name: str = "") -> Any:
    """Quotient of two arrays of one shape; always dense."""
    _same_shape("elemwise_div", lhs, rhs)
    return invoke(find("divide"), [lhs, rhs], {}, out)


#: functions of ``nd`` that are not those of the registry
FUNCTIONS: dict[str, Callable[..., Any]] = {
    f.__name__: f for f in (elemwise_add, elemwise_sub, elemwise_mul, elemwise_div)
}


def install(names: dict[str, Any]) -> None:
    """Take over the functions of ``nd`` that know sparse arrays."""
    for name in SHARED:
        globals()[name] = names[name]
    globals().update(SPARSE)


__all__ = [
    "BaseSparseNDArray",
    "CSRNDArray",
    "RowSparseNDArray",
    "array",
    "csr_matrix",
    "elemwise_add",
    "elemwise_div",
    "elemwise_mul",
    "elemwise_sub",
    "empty",
    "install",
    "retain",
    "row_sparse_array",
    "zeros",
]


def __getattr__(name: str) -> Any:
    raise AttributeError(f"module 'kvtrain.nd.sparse' has no function {name!r}")

# SPDX-License-Identifier: Apache-2.0
"""``mx.nd.sparse``: sparse arrays and the functions that keep them sparse where MXNet does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvtrain.errors import OperatorError
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.invoke import invoke
from kvtrain.ndarray.stored import basic
from kvtrain.ndarray.stored.array import BaseSparseNDArray, CSRNDArray, RowSparseNDArray
from kvtrain.ndarray.stored.creation import array, csr_matrix, empty, row_sparse_array, zeros
from kvtrain.ops.registry import find

assert basic  # its rules are registered

#: functions that are those of ``nd``
SHARED = (
    "cast_storage",
    "make_loss",
    "slice",
    "stop_gradient",
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


def install(functions: dict[str, Callable[..., Any]]) -> None:
    """Take over the functions of ``nd`` that know sparse arrays."""
    for name in SHARED:
        globals()[name] = functions[name]


__all__ = [
    "BaseSparseNDArray",
    "CSRNDArray",
    "RowSparseNDArray",
    "array",
    "csr_matrix",
    "empty",
    "install",
    "retain",
    "row_sparse_array",
    "zeros",
]


def __getattr__(name: str) -> Any:
    raise AttributeError(f"module 'kvtrain.nd.sparse' has no function {name!r}")

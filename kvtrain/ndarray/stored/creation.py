# SPDX-License-Identifier: Apache-2.0
"""Making sparse arrays from their parts, from dense values and from SciPy's matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kvtrain.context import Context, usable
from kvtrain.errors import OperatorError
from kvtrain.kernels.stored import Csr, Rows, cast_storage, zeros_of
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.stored.array import BaseSparseNDArray, CSRNDArray, RowSparseNDArray, wrap

Array = np.ndarray[Any, Any]


def _values(source: Any, dtype: Any) -> Array:
    """Values of an array-like; without `dtype` its own type, float32 for lists."""
    if isinstance(source, NDArray):
        raw = source._read()
    elif isinstance(source, np.ndarray | np.generic):
        raw = np.asarray(source)
    else:
        try:
            raw = np.array(source, np.float32 if dtype is None else dtype)
        except (ValueError, TypeError) as error:
            raise TypeError(f"source_array must be array like object: {error}") from None
    return np.array(raw, dtype or raw.dtype, order="C")


def _numbers(source: Any, what: str) -> Array:
    """Indices as a new array of int64."""
    raw = source._read() if isinstance(source, NDArray) else np.asarray(source)
    if raw.dtype.kind not in "iuf" and raw.size:
        raise OperatorError(f"{what}: {raw.dtype} values are no indices")
    if raw.ndim != 1:
        raise OperatorError(f"{what}: one dimension is needed, not the shape {raw.shape}")
    return np.array(raw, np.int64)


def _fits(found: tuple[int, ...], shape: Any) -> None:
    if shape is not None and tuple(shape) != tuple(found):
        raise ValueError(f"Shape mismatch detected. {tuple(found)} v.s. {tuple(shape)}")


def _scipy(source: Any) -> Any:
    """`source` in canonical CSR form if it is a SciPy CSR matrix, else None."""
    if getattr(source, "format", None) != "csr" or not hasattr(source, "indptr"):
        return None
    parts = Csr(
        np.array(source.data),
        np.array(source.indices, np.int64),
        np.array(source.indptr, np.int64),
        tuple(source.shape),
    )
    return parts.canonical()


def csr_matrix(
    arg1: Any, shape: Any = None, ctx: Context | None = None, dtype: Any = None
) -> CSRNDArray:
    """A CSRNDArray, a matrix in compressed sparse row form.

    Parameters
    ----------
    arg1 : tuple, array-like, CSRNDArray or scipy.sparse.csr_matrix
        ``(M, N)``: no elements. ``(data, indices, indptr)``: the parts. ``(data, (row, col))``:
        the place of each element; values of one place are added. Anything else: the values,
        of which those other than zero are kept.
    shape : (int, int), optional
        Found from the indices where it is not given.
    ctx : Context, optional
    dtype : dtype, optional
        Default: that of the source, float32 for lists.

    Raises
    ------
    ValueError
        The shape is not that of the source, or is not two-dimensional.
    OperatorError
        The parts do not fit each other.
    """
    ctx = usable(ctx)
    if isinstance(arg1, tuple):
        if len(arg1) == 2 and isinstance(arg1[1], tuple | list) and len(arg1[1]) == 2:
            row, col = arg1[1]
            return CSRNDArray(_from_places(arg1[0], row, col, shape, dtype), ctx)
        if len(arg1) == 2:
            _fits(arg1, shape)
            return CSRNDArray(Csr.zeros(_shape(arg1, 2), np.dtype(dtype or np.float32)), ctx)
        if len(arg1) == 3:
            return CSRNDArray(_from_parts(*arg1, shape, dtype), ctx)
        raise ValueError(f"Unexpected length of input tuple: {len(arg1)}")
    parts = _scipy(arg1)
    if parts is None and isinstance(arg1, CSRNDArray):
        parts = arg1._parts().copy()
    if parts is None:
        if isinstance(arg1, RowSparseNDArray):
            raise ValueError(f"Unexpected input type: {type(arg1).__name__}")
        parts = cast_storage(_values(arg1, dtype), "csr")
    _fits(parts.shape, shape)
    return CSRNDArray(parts if dtype is None else parts.astype(np.dtype(dtype)), ctx)


def _shape(shape: Any, dimensions: int | None = None) -> tuple[int, ...]:
    given = tuple(int(n) for n in shape)
    if (dimensions is not None and len(given) != dimensions) or any(n < 0 for n in given):
        raise ValueError(f"invalid shape {given}")
    return given


def _from_parts(data: Any, indices: Any, indptr: Any, shape: Any, dtype: Any) -> Csr:
    values = _values(data, dtype)
    columns, starts = _numbers(indices, "indices"), _numbers(indptr, "indptr")
    if shape is None:
        if not columns.size:
            raise ValueError("invalid shape: it cannot be told from no indices; give shape")
        shape = (starts.size - 1, int(columns.max()) + 1)
    if values.shape != columns.shape:
        raise OperatorError(
            f"csr_matrix: data of shape {values.shape} and indices of shape {columns.shape} differ"
        )
    return Csr(values, columns, starts, _shape(shape, 2))


def _from_places(data: Any, row: Any, col: Any, shape: Any, dtype: Any) -> Csr:
    # the type is found as SciPy does, from which this form came
    values = _values(data, dtype or (None if isinstance(data, NDArray) else np.asarray(data).dtype))
    rows, columns = _numbers(row, "row"), _numbers(col, "col")
    if not values.shape == rows.shape == columns.shape:
        raise OperatorError(
            f"csr_matrix: data, row and col have the shapes {values.shape}, {rows.shape} and "
            f"{columns.shape}"
        )
    if shape is None:
        if not rows.size:
            raise ValueError("invalid shape: it cannot be told from no indices; give shape")
        shape = (int(rows.max()) + 1, int(columns.max()) + 1)
    shape = _shape(shape, 2)
    for name, places, count in (("row", rows, shape[0]), ("column", columns, shape[1])):
        if places.size and (places.min() < 0 or places.max() >= count):
            raise ValueError(f"{name} index exceeds matrix dimensions {shape}")
    return Csr.from_places(values, rows, columns, shape)


def row_sparse_array(
    arg1: Any, shape: Any = None, ctx: Context | None = None, dtype: Any = None
) -> RowSparseNDArray:
    """A RowSparseNDArray: some rows of an array, with their numbers.

    Parameters
    ----------
    arg1 : tuple, array-like or RowSparseNDArray
        ``(D0, D1, ..., Dn)``: no rows. ``(data, indices)``: the rows and their numbers.
        Anything else: the values, of which rows with any other than zero are kept.
    shape : tuple of int, optional
        Found from the indices where it is not given.
    ctx : Context, optional
    dtype : dtype, optional
        Default: that of the source, float32 for lists.

    Raises
    ------
    ValueError
        The shape is not that of the source.
    OperatorError
        Data and indices do not fit each other.
    """
    ctx = usable(ctx)
    if isinstance(arg1, tuple):
        if len(arg1) < 2:
            raise ValueError(f"Unexpected length of input tuple: {len(arg1)}")
        if len(arg1) > 2 or isinstance(arg1[0], int | np.integer):
            _fits(arg1, shape)
            return RowSparseNDArray(Rows.zeros(_shape(arg1), np.dtype(dtype or np.float32)), ctx)
        values, ids = _values(arg1[0], dtype), _numbers(arg1[1], "indices")
        if shape is None:
            if not ids.size:
                raise ValueError("invalid shape: it cannot be told from no indices; give shape")
            shape = (int(ids.max()) + 1, *values.shape[1:])
        shape = _shape(shape)
        if not values.size and not ids.size:
            values = values.reshape(0, *shape[1:])
        if values.shape != (ids.size, *shape[1:]):
            raise OperatorError(
                f"row_sparse_array: data of shape {values.shape} and {ids.size} indices do not "
                f"make an array of shape {shape}"
            )
        return RowSparseNDArray(Rows(ids, values, shape), ctx)
    if isinstance(arg1, RowSparseNDArray):
        parts = arg1._parts().copy()
    elif isinstance(arg1, CSRNDArray):
        raise ValueError(f"Unexpected input type: {type(arg1).__name__}")
    else:
        parts = cast_storage(_values(arg1, dtype), "row_sparse")
    _fits(parts.shape, shape)
    return RowSparseNDArray(parts if dtype is None else parts.astype(np.dtype(dtype)), ctx)


def zeros(
    stype: str, shape: int | Sequence[int], ctx: Context | None = None, dtype: Any = None, **kw: Any
) -> NDArray:
    """Zeros in storage ``'csr'``, ``'row_sparse'`` or ``'default'``."""
    given = _shape((shape,) if isinstance(shape, int | np.integer) else shape)
    return wrap(zeros_of(stype, given, dtype or np.float32), usable(ctx))


def empty(
    stype: str, shape: int | Sequence[int], ctx: Context | None = None, dtype: Any = None
) -> NDArray:
    """An array of storage ``'csr'`` or ``'row_sparse'`` without elements."""
    if stype not in ("csr", "row_sparse"):
        raise ValueError(f"unknown stype : {stype}; known: csr, row_sparse")
    return zeros(stype, shape, ctx, dtype)


def array(source_array: Any, ctx: Context | None = None, dtype: Any = None) -> NDArray:
    """A sparse array from another one, or a CSRNDArray from a SciPy CSR matrix.

    Parameters
    ----------
    source_array : RowSparseNDArray, CSRNDArray or scipy.sparse.csr_matrix
    dtype : dtype, optional
        Default: that of the source.
    """
    if isinstance(source_array, BaseSparseNDArray):
        parts = source_array._parts().copy()
    else:
        parts = _scipy(source_array)
    if parts is None:
        if isinstance(source_array, NDArray | np.ndarray):
            raise ValueError(
                "Please use mx.nd.array to create an NDArray with source_array of type "
                f"{type(source_array)}"
            )
        raise ValueError(f"Unexpected source_array type: {type(source_array)}")
    return wrap(parts if dtype is None else parts.astype(np.dtype(dtype)), usable(ctx))


def sparse_source(source: Any) -> bool:
    """Whether :func:`array` takes it."""
    return isinstance(source, BaseSparseNDArray) or _scipy(source) is not None

# SPDX-License-Identifier: Apache-2.0
"""The sparse array classes. Their parts are :class:`Rows` or :class:`Csr` of the kernels.

The two doors of NDArray here: :meth:`_parts` awaits a pending pull and gives the stored parts,
:meth:`_assign` puts others in their place. :meth:`_read` gives a dense copy, which is how an
operator that knows no sparse storage still gets its values.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.context import Context, usable
from kvtrain.errors import NotSupportedForSparseNDArray, OperatorError
from kvtrain.kernels.stored import Csr, Rows, cast_storage, zeros_of
from kvtrain.ndarray.array import NDArray, SparseOperand
from kvtrain.ndarray.storage import Loan, Storage

Array = np.ndarray[Any, Any]
_ZERO = bytes(16)


def _outline(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array of this shape and type without memory of its own; stands where values would."""
    return np.ndarray(shape, dtype, _ZERO, strides=(0,) * len(shape))


class BaseSparseNDArray(NDArray):
    """What CSRNDArray and RowSparseNDArray share."""

    __slots__ = ()
    _sparse = True

    def __init__(self, parts: Any, ctx: Context, storage: Storage | None = None) -> None:
        super().__init__(_outline(parts.shape, parts.dtype), ctx, storage or Storage(parts))

    # ---- the doors -----------------------------------------------------------------------

    def _parts(self) -> Any:
        """The stored parts, for reading; awaits a pending pull."""
        storage = self._shared()
        if storage.wait is not None:
            storage.settle()
        return storage.buffer

    def _operand(self) -> Array:
        raise SparseOperand

    def _read(self) -> Array:
        values: Array = self._parts().dense()
        return values

    def _write(self) -> Array:
        raise NotSupportedForSparseNDArray(
            f"a {self.stype} array has no dense buffer to write; assign with array[:] = values"
        )

    def _fill(self) -> Any:
        return self._shared().buffer

    def _set_parts(self, parts: Any) -> None:
        """Hold other parts of the same shape and type; also for whoever fills a pending one."""
        if parts.shape != self.shape or parts.dtype != self._raw.dtype:
            raise OperatorError(
                f"parts of shape {parts.shape}, {parts.dtype} for a {self.stype} array of shape "
                f"{self.shape}, {self._raw.dtype}"
            )
        self._shared().replace(parts)

    def _receive(self, values: Any) -> None:
        """Take over `values` (raw, dense or stored) in this array's own storage and type."""
        if values.shape != self.shape:
            raise OperatorError(f"values of shape {values.shape} do not fit {self.shape}")
        if isinstance(values, Rows | Csr) and values.stype != self.stype:
            values = values.dense()
        parts = cast_storage(values, self.stype)
        same = parts.dtype == self._raw.dtype
        self._parts()  # a pull in flight ends before its target changes
        self._set_parts(parts.copy() if same else parts.astype(self._raw.dtype))

    def _lend(self) -> Loan:
        return Loan(self._shared(), self._parts())

    def _move_to(self, buffer: Array) -> None:
        raise NotSupportedForSparseNDArray(f"a {self.stype} array cannot be moved into a buffer")

    def _view(self, step: Callable[[Array], Array]) -> NDArray:
        raise NotSupportedForSparseNDArray(f"a {self.stype} array has no views")

    def wait_to_write(self) -> None:
        """Await a pending pull before writing."""
        self._parts()

    def wait_to_read(self) -> None:
        """Await a pending pull; raises what made it fail."""
        self._parts()

    # ---- what it is ----------------------------------------------------------------------

    @property
    def stype(self) -> str:
        """Storage type: ``"csr"`` or ``"row_sparse"``."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        """Not defined for a sparse array; ``array.data.size`` is the number of stored values."""
        raise NotSupportedForSparseNDArray(
            f"the size of a {self.stype} array is ambiguous; use array.data.size for the stored "
            "values or the product of array.shape"
        )

    @property
    def indices(self) -> NDArray:
        """Row numbers of a row_sparse, column numbers of a csr array: int64, a copy."""
        raise NotImplementedError

    @property
    def data(self) -> NDArray:
        """The stored values; a copy."""
        raise NotImplementedError

    @property
    def _num_aux(self) -> int:
        return len(self._aux_types)

    @property
    def _aux_types(self) -> list[type]:
        return [np.int64, np.int64] if self.stype == "csr" else [np.int64]

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"\n<{type(self).__name__} {shape} @{self._ctx}>"

    def __bool__(self) -> bool:
        if 0 in self.shape:
            return False
        if all(n == 1 for n in self.shape):
            return bool(self._read().reshape(-1)[0])
        raise ValueError("The truth value of an NDArray with multiple elements is ambiguous.")

    def asscalar(self) -> Any:
        """Not for sparse arrays."""
        raise NotSupportedForSparseNDArray(f"asscalar() of a {self.stype} array; use asnumpy()")

    def tolist(self) -> Any:
        """Nested lists of the dense values."""
        return self._read().tolist()

    def asnumpy(self) -> Array:
        """The dense values as a new NumPy array."""
        return self._read()

    def check_format(self, full_check: bool = True) -> None:
        """Check the stored parts.

        Parameters
        ----------
        full_check : bool
            Check every index too, not only shapes and row pointers.

        Raises
        ------
        OperatorError
            They are no valid array of this storage; says why.
        """
        parts = self._parts()
        wrong = parts.problem(full_check)
        if wrong is not None:
            raise OperatorError(wrong)

    # ---- copies and conversions ----------------------------------------------------------

    def copyto(self, other: NDArray | Context) -> NDArray:
        """Copy into another array of this storage or a dense one, or to a context."""
        if isinstance(other, Context):
            return type(self)(self._parts().copy(), usable(other))
        if not isinstance(other, NDArray):
            raise TypeError(f"copyto does not support type {type(other)}")
        if other is self:
            return other
        if other.stype not in ("default", self.stype):
            raise TypeError(f"copyto does not support destination NDArray stype {other.stype}")
        if other.shape != self.shape:
            raise OperatorError(f"copyto: shape {self.shape} does not fit {other.shape}")
        other._assign(self._parts())
        return other

    def astype(self, dtype: Any, copy: bool = True) -> NDArray:
        """The values in another dtype, stored alike; without `copy`, itself if it has it."""
        if not copy and np.dtype(dtype) == self._raw.dtype:
            return self
        return type(self)(self._parts().astype(np.dtype(dtype)), self._ctx)

    def detach(self) -> NDArray:
        """The same values (shared) outside the graph."""
        return type(self)(self._fill(), self._ctx, self._storage)

    def reshape(self, *shape: Any, **kwargs: Any) -> NDArray:
        """Not for sparse arrays."""
        raise NotSupportedForSparseNDArray(
            f"Function reshape is not supported for a {self.stype} array and only available in "
            "NDArray; use tostype('default') first"
        )

    def __getstate__(self) -> dict[str, Any]:
        parts = self._parts()
        held = {n: getattr(parts, n) for n in parts.__slots__ if not n.startswith("_")}
        return {"parts": held, "ctx": (self._ctx.device_type, self._ctx.device_id)}

    def __setstate__(self, held: dict[str, Any]) -> None:
        kind: Any = Rows if self.stype == "row_sparse" else Csr
        type(self).__init__(self, kind(**held["parts"]), Context(*held["ctx"]))

    def __deepcopy__(self, memo: Any) -> NDArray:
        return self.copyto(self._ctx)

    def __copy__(self) -> NDArray:
        return self.copyto(self._ctx)

    # ---- gradients -----------------------------------------------------------------------

    def attach_grad(self, grad_req: str = "write", stype: str | None = None) -> None:
        """Make this a variable whose gradient has its own storage, unless `stype` is given."""
        super().attach_grad(grad_req, stype or self.stype)

    # ---- indexing ------------------------------------------------------------------------

    def _new_values(self, value: Any) -> Any:
        """What ``array[:] = value`` stores, as raw values; None: not a kind that can be."""
        if isinstance(value, NDArray):
            return value._parts() if isinstance(value, BaseSparseNDArray) else value._read()
        if isinstance(value, np.ndarray):
            return value
        return None


class RowSparseNDArray(BaseSparseNDArray):
    """Some rows of an array, with their numbers; all other rows are zero.

    Made by :func:`kvtrain.nd.sparse.row_sparse_array`, ``tostype('row_sparse')`` and gradients
    of embeddings. ``data`` has shape (n, ...) and ``indices`` shape (n,): dense value of row
    ``indices[i]`` is ``data[i]``.
    """

    __slots__ = ()

    @property
    def stype(self) -> str:
        """``"row_sparse"``."""
        return "row_sparse"

    @property
    def indices(self) -> NDArray:
        """Numbers of the stored rows: int64, a copy."""
        return NDArray(self._parts().ids.copy(), self._ctx)

    @property
    def data(self) -> NDArray:
        """The stored rows; a copy."""
        return NDArray(self._parts().values.copy(), self._ctx)

    def _own_parts(self) -> Rows:
        """Parts whose values may be written in place; those that are lent are left alone."""
        parts: Rows = self._parts()
        storage: Any = self._shared()
        if storage.loans:
            parts = parts.copy()
            storage.replace(parts)
        return parts

    def _write_all(self) -> Array:
        parts = self._own_parts()
        if parts.ids.size != self.shape[0]:
            raise OperatorError(
                f"a row_sparse weight of shape {self.shape} can be updated only if it stores all "
                f"its rows; it stores {parts.ids.size}"
            )
        return parts.values

    def tostype(self, stype: str) -> NDArray:
        """A copy in storage ``'row_sparse'`` or ``'default'``."""
        if stype == "csr":
            raise ValueError("cast_storage from row_sparse to csr is not supported")
        return super().tostype(stype)

    def retain(self, indices: NDArray) -> RowSparseNDArray:
        """Only the rows `indices`; those that are not stored come as zeros."""
        return self._sparse_retain(indices)  # type: ignore[attr-defined, no-any-return]

    def __getitem__(self, key: Any) -> NDArray:
        if isinstance(key, slice) and key == slice(None):
            return self
        if isinstance(key, int | np.integer):
            raise NotSupportedForSparseNDArray(
                "__getitem__ with int key is not implemented for RowSparseNDArray yet; "
                "use retain() or tostype('default')"
            )
        raise NotSupportedForSparseNDArray(
            f"RowSparseNDArray only supports [:] for __getitem__, not {key!r}"
        )

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(key, slice) or key != slice(None):
            raise TypeError("RowSparseNDArray only supports [:] for assignment")
        if isinstance(value, int | float | np.number):
            values = np.full(self.shape, value, self.dtype)
            self._refuse_in_graph()
            self._parts()
            self._set_parts(Rows(np.arange(self.shape[0]), values, self.shape))
            return
        given = self._new_values(value)
        if given is None:
            raise TypeError(f"type {type(value)} not supported")
        self._assign(given)


class CSRNDArray(BaseSparseNDArray):
    """A matrix in compressed sparse row form.

    Made by :func:`kvtrain.nd.sparse.csr_matrix` and ``tostype('csr')``. The elements of row i
    are ``data[indptr[i]:indptr[i + 1]]``, in the columns ``indices[indptr[i]:indptr[i + 1]]``.
    """

    __slots__ = ()

    @property
    def stype(self) -> str:
        """``"csr"``."""
        return "csr"

    @property
    def indices(self) -> NDArray:
        """Column of each stored element: int64, a copy."""
        return NDArray(self._parts().indices.copy(), self._ctx)

    @property
    def indptr(self) -> NDArray:
        """Where each row begins: int64, (rows + 1,), a copy."""
        return NDArray(self._parts().indptr.copy(), self._ctx)

    @property
    def data(self) -> NDArray:
        """The stored elements; a copy."""
        return NDArray(self._parts().data.copy(), self._ctx)

    def tostype(self, stype: str) -> NDArray:
        """A copy in storage ``'csr'`` or ``'default'``."""
        if stype == "row_sparse":
            raise ValueError("cast_storage from csr to row_sparse is not supported")
        return super().tostype(stype)

    def asscipy(self) -> Any:
        """A ``scipy.sparse.csr_matrix`` with copies of the parts; needs SciPy."""
        try:
            csr_matrix = importlib.import_module("scipy.sparse").csr_matrix
        except ImportError:
            raise ImportError(
                "scipy could not be imported. Please make sure that the scipy is installed: "
                "pip install scipy"
            ) from None
        parts = self._parts().copy()
        return csr_matrix((parts.data, parts.indices, parts.indptr), shape=parts.shape)

    def __getitem__(self, key: Any) -> NDArray:
        rows = self.shape[0]
        if isinstance(key, int | np.integer):
            if not -rows <= key < rows:
                raise IndexError(f"index {key} is out of bounds for axis 0 with size {rows}")
            low = int(key) % rows
            return self.slice(begin=low, end=low + 1)  # type: ignore[attr-defined, no-any-return]
        if isinstance(key, slice):
            if key.step not in (None, 1):
                raise ValueError("CSRNDArray only supports continuous slicing on axis 0")
            if key.start is None and key.stop is None:
                return self
            low, high, _ = key.indices(rows)
            return self.slice(begin=low, end=max(low, high))  # type: ignore[attr-defined, no-any-return]
        if isinstance(key, tuple):
            raise ValueError("Multi-dimension indexing is not supported")
        raise ValueError(f"Undefined behaviour for {key}")

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(key, slice):
            raise NotSupportedForSparseNDArray("CSRNDArray only supports [:] for assignment")
        if key != slice(None):
            raise ValueError("Assignment with slice for CSRNDArray is not implemented yet.")
        if isinstance(value, int | float | np.number):
            raise ValueError("Assigning numeric types to CSRNDArray is not implemented yet.")
        given = self._new_values(value)
        if given is None:
            raise TypeError(f"type {type(value)} not supported")
        self._assign(given)


def wrap(raw: Any, ctx: Context) -> NDArray:
    """The array of raw values, in the class of their storage; they are not copied."""
    if isinstance(raw, Rows):
        return RowSparseNDArray(raw, ctx)
    if isinstance(raw, Csr):
        return CSRNDArray(raw, ctx)
    return NDArray(raw, ctx)


def raw_of(array: NDArray) -> Any:
    """Raw values as they are stored: dense, :class:`Rows` or :class:`Csr`."""
    return array._parts() if isinstance(array, BaseSparseNDArray) else array._read()


def _new_grad(self: NDArray, stype: str) -> NDArray:
    """Zeros of the same shape and type in storage `stype`."""
    return wrap(zeros_of(stype, self.shape, self._raw.dtype), self._ctx)


setattr(NDArray, "_new_grad", _new_grad)  # noqa: B010

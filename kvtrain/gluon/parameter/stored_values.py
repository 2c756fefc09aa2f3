# SPDX-License-Identifier: Apache-2.0
"""How a parameter gives its values, by their storage: whole, or some rows from the store."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain import ndarray as nd
from kvtrain.context import Context
from kvtrain.errors import ParameterStorageError
from kvtrain.ndarray import NDArray


def stored(values: NDArray, stype: str, ctx: Context) -> NDArray:
    """A copy in a sparse storage; as row_sparse with every row, so that updates find it."""
    if stype != "row_sparse":
        return values.tostype("default").tostype(stype).as_in_context(ctx)
    ids = np.arange(values.shape[0])
    return nd.sparse.row_sparse_array((values.asnumpy(), ids), shape=values.shape, ctx=ctx)


class StoredValues:
    """The part of :class:`Parameter` that reads values."""

    name: str
    _stype: str
    _trainer: Any
    _data: dict[Context, NDArray] | None

    def _check_and_get(self, arrays: dict[Context, NDArray] | None, ctx: Any) -> Any:
        raise NotImplementedError

    def data(self, ctx: Context | None = None) -> NDArray:
        """The values on `ctx`; without it, on the only or the current context."""
        if self._stype != "default":
            raise ParameterStorageError(
                f"Cannot return a copy of Parameter '{self.name}' on ctx {ctx} via data() because "
                f"its storage type is {self._stype}. Please use row_sparse_data() instead."
            )
        return self._check_and_get(self._data, ctx)

    def list_data(self) -> list[NDArray]:
        """The values on every context."""
        if self._stype != "default":
            raise ParameterStorageError(
                f"Cannot return copies of Parameter '{self.name}' on all contexts via list_data() "
                f"because its storage type is {self._stype}. Please use row_sparse_data() instead."
            )
        return self._arrays()

    def _arrays(self) -> list[NDArray]:
        """What each context holds, whatever its storage."""
        return self._check_and_get(self._data, list)

    def row_sparse_data(self, row_id: NDArray) -> NDArray:
        """Rows of a row-sparse parameter from the Trainer's store, on the context of `row_id`.

        Parameters
        ----------
        row_id : NDArray
            Row numbers, in any order and number; the others are left out.

        Raises
        ------
        ParameterStorageError
            The parameter is not row-sparse, or no Trainer was made with it.
        """
        if not isinstance(row_id, NDArray):
            raise TypeError(f"row_id must have NDArray type, but {type(row_id)} is given")
        return self._pulled([self._check_and_get(self._data, row_id.context)], row_id, "a copy")[0]

    def list_row_sparse_data(self, row_id: NDArray) -> list[NDArray]:
        """As :meth:`row_sparse_data`, on every context."""
        return self._pulled(self._arrays(), row_id, "copies")

    def _pulled(self, arrays: list[NDArray], row_id: NDArray, what: str) -> list[NDArray]:
        if self._stype != "row_sparse":
            raise ParameterStorageError(
                f"Cannot return {what} of Parameter '{self.name}' via row_sparse_data() because "
                f"its storage type is {self._stype}. Please use data() instead."
            )
        if self._trainer is None:
            raise ParameterStorageError(
                f"Cannot get row_sparse data for Parameter '{self.name}' when no Trainer is "
                "created with it."
            )
        self._trainer._row_sparse_pull(self, arrays, row_id)
        return arrays

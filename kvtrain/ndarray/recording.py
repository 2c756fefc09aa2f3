# SPDX-License-Identifier: Apache-2.0
"""``xp`` for gradients of gradients: the names that vjps use, on NDArrays, recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.autograd.tape import Entry
from kvtrain.context import current_context
from kvtrain.ndarray.arithmetic import FUNCTIONS
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.invoke import invoke
from kvtrain.ndarray.namespace import call
from kvtrain.ops.registry import find

#: NumPy's name -> operator, and the names of its positional attributes
_RENAMED = {
    "concatenate": "Concat",
    "swapaxes": "SwapAxis",
    "reshape": "Reshape",
    "array": "identity",
    "subtract": "subtract",
    "mod": "modulo",
    "less": "lesser",
    "less_equal": "lesser_equal",
}


def lift(raw: Any, entry: Entry) -> NDArray:
    """A kept raw array as an NDArray at its place in the graph."""
    array = NDArray(np.asarray(raw), current_context())
    array._entry = entry
    return array


class RecordingNamespace:
    """Looks every name up in the operator registry; numbers and raw arrays are constants."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        special = getattr(type(self), f"_np_{name}", None)
        if special is not None:
            return special  # type: ignore[no-any-return]
        name = _RENAMED.get(name, name)
        if name in FUNCTIONS:
            return FUNCTIONS[name]
        op = find(name)

        def run(*args: Any, **kwargs: Any) -> Any:
            arrays = len(op.inputs)
            lifted = [
                lift(a, None) if i < arrays and isinstance(a, np.ndarray) else a
                for i, a in enumerate(args)
            ]
            result = call(op, tuple(lifted), kwargs)
            return tuple(result) if isinstance(result, list) else result

        return run

    @staticmethod
    def _np_concatenate(arrays: Any, axis: int = 0) -> Any:
        return invoke(find("Concat"), list(arrays), {"dim": axis})

    @staticmethod
    def _np_reshape(a: NDArray, shape: Any) -> Any:
        wanted = (shape,) if isinstance(shape, int) else tuple(shape)
        return invoke(find("Reshape"), [a], {"shape": wanted, "reverse": False})

    @staticmethod
    def _np_broadcast_to(a: NDArray, shape: Any) -> Any:
        return invoke(find("broadcast_to"), [a], {"shape": tuple(shape)})

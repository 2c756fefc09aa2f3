# SPDX-License-Identifier: Apache-2.0
"""``xp`` for gradients of gradients: the names that vjps use, on NDArrays, recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kvtrain.autograd.tape import Entry
from kvtrain.context import current_context
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.invoke import invoke
from kvtrain.ops.derive import numpy_call
from kvtrain.ops.registry import Op, find


def lift(raw: Any, entry: Entry) -> NDArray:
    """A kept raw array as an NDArray at its place in the graph."""
    array = NDArray(np.asarray(raw), current_context())
    array._entry = entry
    return array


def _lifted(value: Any) -> Any:
    return lift(value, None) if isinstance(value, np.ndarray | np.generic) else value


class RecordingNamespace:
    """Looks every name up in the operator registry; raw arrays are constants."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def run(*args: Any, **attrs: Any) -> Any:
            operator, inputs, given = numpy_call(name, args, attrs)
            op = find(operator)
            return self.apply(op, inputs, {**op.attrs, **given})

        return run

    @staticmethod
    def apply(op: Op, inputs: Sequence[Any], attrs: dict[str, Any]) -> Any:
        """Run `op` on arrays, raw ones taken as constants; recorded."""
        result = invoke(op, [_lifted(i) for i in inputs], attrs)
        return tuple(result) if isinstance(result, list) else result

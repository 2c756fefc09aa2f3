# SPDX-License-Identifier: Apache-2.0
"""``mx.operator``: operators written in Python, and the names of all operators."""

from __future__ import annotations

from typing import Any, NamedTuple

from kvtrain.errors import OperatorError
from kvtrain.ndarray import NDArray
from kvtrain.ndarray.custom import Call, CustomOp, CustomOpProp, register
from kvtrain.ops.registry import all_names

__all__ = [
    "CustomOp",
    "CustomOpProp",
    "NDArrayOp",
    "NumpyOp",
    "OperatorArguments",
    "PythonOp",
    "get_all_registered_operators",
    "get_all_registered_operators_grouped",
    "get_operator_arguments",
    "register",
]


class OperatorArguments(NamedTuple):
    """What an operator takes."""

    narg: int
    names: list[str]
    types: list[str]


def get_all_registered_operators() -> list[str]:
    """Names of all operators, with their aliases."""
    return sorted([*all_names(), "Custom"])


def get_all_registered_operators_grouped() -> dict[str, list[str]]:
    """Name of each operator -> all its names."""
    found: dict[str, list[str]] = {"Custom": ["Custom"]}
    for name, op in all_names().items():
        found.setdefault(op.name, []).append(name)
    return found


def get_operator_arguments(op_name: str) -> OperatorArguments:
    """Names and kinds of an operator's arguments.

    Raises
    ------
    OperatorError
        No operator is called `op_name`.
    """
    op = all_names().get(op_name)
    if op is None:
        raise OperatorError(f"no operator is called {op_name!r}")
    types = ["NDArray-or-Symbol[]" if n.startswith("*") else "NDArray-or-Symbol" for n in op.inputs]
    for default in op.attrs.values():
        required = isinstance(default, type)
        shown = "required" if required else f"optional, default={default!r}"
        types.append(shown if required else f"{type(default).__name__}, {shown}")
    names = [*(n.lstrip("*") for n in op.inputs), *op.attrs]
    return OperatorArguments(len(names), names, types)


class PythonOp:
    """Base of :class:`NumpyOp` and :class:`NDArrayOp`, from before :class:`CustomOp`.

    An instance is called with its inputs.

    Parameters
    ----------
    need_top_grad : bool
        Whether the gradient depends on that of the outputs.
    """

    def __init__(self, need_top_grad: bool = True) -> None:
        self.need_top_grad_ = need_top_grad

    def _shown(self, arrays: list[NDArray]) -> list[Any]:
        """What forward and backward get for NDArrays."""
        return list(arrays)

    def __call__(self, *args: NDArray, **kwargs: NDArray) -> Any:
        """Run it on arrays, given in their order or by name."""
        inputs = list(args)
        inputs += [kwargs[name] for name in self.list_arguments()[len(args) :] if name in kwargs]
        return Call(type(self).__name__, _Adapted(self), inputs).run()

    def infer_shape(self, in_shape: list[Any]) -> Any:
        """``(shapes of inputs, of outputs)``; one output like the first input by default."""
        return in_shape, [in_shape[0]]

    def list_outputs(self) -> list[str]:
        """Names of the outputs."""
        return ["output"]

    def list_arguments(self) -> list[str]:
        """Names of the inputs."""
        return ["data"]

    def need_top_grad(self) -> bool:
        """Whether the gradient depends on that of the outputs."""
        return self.need_top_grad_

    def forward(self, in_data: list[Any], out_data: list[Any]) -> None:
        """Write outputs; copies the input by default."""
        out_data[0][:] = in_data[0]

    def backward(
        self, out_grad: list[Any], in_data: list[Any], out_data: list[Any], in_grad: list[Any]
    ) -> None:
        """Write gradients of the inputs; 1 by default."""
        in_grad[0][:] = 1.0


class NumpyOp(PythonOp):
    """An operator on NumPy arrays, which it writes in place."""

    def _shown(self, arrays: list[NDArray]) -> list[Any]:
        return [array._write() for array in arrays]


class NDArrayOp(PythonOp):
    """An operator on NDArrays."""


class _Adapted(CustomOpProp):
    """A :class:`PythonOp` as a CustomOpProp."""

    def __init__(self, held: PythonOp) -> None:
        super().__init__(held.need_top_grad())
        self.held = held
        self.list_arguments = held.list_arguments  # type: ignore[method-assign]
        self.list_outputs = held.list_outputs  # type: ignore[method-assign]
        self.infer_shape = held.infer_shape  # type: ignore[method-assign]

    def create_operator(self, ctx: Any, in_shapes: list[Any], in_dtypes: list[Any]) -> CustomOp:
        """The operator itself."""
        return _Runner(self.held)


class _Runner(CustomOp):
    def __init__(self, held: PythonOp) -> None:
        self.held = held

    def forward(self, is_train: Any, req: Any, in_data: Any, out_data: Any, aux: Any) -> None:
        shown = self.held._shown
        self.held.forward(in_data=shown(in_data), out_data=shown(out_data))

    def backward(
        self, req: Any, out_grad: Any, in_data: Any, out_data: Any, in_grad: Any, aux: Any
    ) -> None:
        shown = self.held._shown
        self.held.backward(
            out_grad=shown(out_grad),
            in_data=shown(in_data),
            out_data=shown(out_data),
            in_grad=shown(in_grad),
        )

# SPDX-License-Identifier: Apache-2.0
"""Operators written by users in Python: ``CustomOp``, ``CustomOpProp``, ``nd.Custom``.

The property class tells shapes, types and names and makes the operator; the operator computes
on NDArrays and writes results with :meth:`CustomOp.assign`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kvtrain.autograd.tape import Node, state
from kvtrain.errors import AutogradError, OperatorError, UnknownName
from kvtrain.kernels.stored import zeros_of
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.gradient import Scope
from kvtrain.ndarray.stored.array import raw_of, wrap
from kvtrain.ops.registry import Op

Shape = tuple[int, ...]


class CustomOp:
    """Base of operators written in Python."""

    def forward(
        self,
        is_train: bool,
        req: list[str],
        in_data: list[NDArray],
        out_data: list[NDArray],
        aux: list[NDArray],
    ) -> None:
        """Compute outputs; nothing in it is recorded.

        Parameters
        ----------
        is_train : bool
            Whether this is training.
        req : list of str
            How to assign each output: ``'null'``, ``'write'``, ``'inplace'`` or ``'add'``.
        in_data, out_data, aux : list of NDArray
            Inputs, outputs to write, auxiliary states.
        """

    def backward(
        self,
        req: list[str],
        out_grad: list[NDArray],
        in_data: list[NDArray],
        out_data: list[NDArray],
        in_grad: list[NDArray],
        aux: list[NDArray],
    ) -> None:
        """Compute gradients of the inputs.

        Parameters
        ----------
        req : list of str
            How to assign each gradient; ``'null'``: it is not wanted.
        out_grad : list of NDArray
            Gradients of the outputs.
        in_data, out_data, aux : list of NDArray
            As in :meth:`forward`.
        in_grad : list of NDArray
            Gradients to write.
        """

    def assign(self, dst: NDArray, req: str, src: Any) -> None:
        """Put `src` into `dst` as `req` says."""
        if req in ("write", "inplace"):
            dst[:] = src
        elif req == "add":
            dst[:] = dst + src
        elif req != "null":
            raise OperatorError(f"assign: req={req!r}; known: null, write, inplace, add")


class CustomOpProp:
    """Base of the classes that describe an operator: names, shapes, types.

    Parameters
    ----------
    need_top_grad : bool
        Whether the gradient of the inputs depends on that of the outputs; False for losses.
    """

    def __init__(self, need_top_grad: bool = True) -> None:
        self.need_top_grad_ = need_top_grad

    def infer_shape(self, in_shape: list[Any]) -> Any:
        """``(shapes of inputs, of outputs, of auxiliary states)`` from those of the inputs.

        By default every output has the shape of the first input.
        """
        return in_shape, [in_shape[0]] * len(self.list_outputs()), []

    def infer_type(self, in_type: list[Any]) -> Any:
        """``(types of inputs, of outputs, of auxiliary states)`` from those of the inputs."""
        return (
            in_type,
            [in_type[0]] * len(self.list_outputs()),
            [in_type[0]] * len(self.list_auxiliary_states()),
        )

    def infer_storage_type(self, in_stype: list[str]) -> Any:
        """``(storage of inputs, of outputs, of auxiliary states)``; all dense by default."""
        for i, stype in enumerate(in_stype):
            if stype != "default":
                raise OperatorError(
                    "Default infer_storage_type implementation doesnt allow non default stypes: "
                    f"found non default stype '{stype}' for in_stype[{i}]. Please implement "
                    "infer_storage_type and infer_storage_type_backward interface in your custom "
                    "operator if you have non-default input/output stypes"
                )
        return (
            in_stype,
            ["default"] * len(self.list_outputs()),
            ["default"] * len(self.list_auxiliary_states()),
        )

    def infer_storage_type_backward(
        self,
        ograd_stype: list[str],
        in_stype: list[str],
        out_stype: list[str],
        igrad_stype: list[str],
        aux_stype: list[str],
    ) -> Any:
        """The five lists, with the storage of the gradients of inputs in the fourth."""
        return (
            ["default"] * len(ograd_stype),
            ["default"] * len(in_stype),
            ["default"] * len(out_stype),
            ["default"] * len(igrad_stype),
            ["default"] * len(aux_stype),
        )

    def list_outputs(self) -> list[str]:
        """Names of the outputs."""
        return ["output"]

    def list_arguments(self) -> list[str]:
        """Names of the inputs."""
        return ["data"]

    def list_auxiliary_states(self) -> list[str]:
        """Names of the auxiliary states, which come after the inputs."""
        return []

    def declare_backward_dependency(
        self, out_grad: list[int], in_data: list[int], out_data: list[int]
    ) -> list[int]:
        """Which arrays backward needs; all of them are kept here whatever it says."""
        return [*(out_grad if self.need_top_grad_ else []), *in_data, *out_data]

    def create_operator(self, ctx: Any, in_shapes: list[Any], in_dtypes: list[Any]) -> CustomOp:
        """The operator for these inputs on context `ctx`."""
        return CustomOp()


_PROPS: dict[str, type[CustomOpProp]] = {}


def register(reg_name: str) -> Callable[[type[CustomOpProp]], type[CustomOpProp]]:
    """``@mx.operator.register("name")``: make a CustomOpProp known as ``op_type="name"``.

    A later registration of a name takes the place of the one before.
    """

    def add(prop_cls: type[CustomOpProp]) -> type[CustomOpProp]:
        if not (isinstance(prop_cls, type) and issubclass(prop_cls, CustomOpProp)):
            raise TypeError(f"{prop_cls!r} must inherit from CustomOpProp")
        _PROPS[reg_name] = prop_cls
        return prop_cls

    return add


def registered() -> list[str]:
    """Names that can be given as `op_type`."""
    return sorted(_PROPS)


def _triple(found: Any, name: str, what: str) -> tuple[list[Any], list[Any], list[Any]]:
    """What an infer function returned: two or three lists."""
    if not isinstance(found, tuple | list) or len(found) not in (2, 3):
        raise OperatorError(f"{name}.{what} must return 2 or 3 lists, not {found!r}")
    given = [list(part) for part in found]
    return given[0], given[1], given[2] if len(given) == 3 else []


class Call:
    """One call of an operator: its inputs, made outputs, and its way back."""

    def __init__(self, name: str, prop: CustomOpProp, inputs: Sequence[NDArray]) -> None:
        self.name = name
        self.prop = prop
        arguments, states = prop.list_arguments(), prop.list_auxiliary_states()
        if len(inputs) != len(arguments) + len(states):
            raise OperatorError(
                f"{name}: takes {len(arguments) + len(states)} arrays "
                f"({', '.join([*arguments, *states])}), {len(inputs)} given"
            )
        self.inputs = list(inputs[: len(arguments)])
        self.aux = list(inputs[len(arguments) :])
        self.ctx = inputs[0]._ctx if inputs else None

    def forward(self) -> list[NDArray]:
        """Run the operator; returns its outputs."""
        prop, name = self.prop, self.name
        shapes = [list(a.shape) for a in self.inputs]
        types = [a.dtype for a in self.inputs]
        stypes = [a.stype for a in self.inputs]
        wanted, out_shapes, aux_shapes = _triple(prop.infer_shape(shapes), name, "infer_shape")
        _, out_types, _ = _triple(prop.infer_type(types), name, "infer_type")
        _, out_stypes, _ = _triple(prop.infer_storage_type(stypes), name, "infer_storage_type")
        names = prop.list_outputs()
        for what, found in (("infer_shape", out_shapes), ("infer_type", out_types)):
            if len(found) != len(names):
                raise OperatorError(
                    f"{name}.{what} tells {len(found)} outputs; list_outputs has {len(names)}"
                )
        self._fit(prop.list_arguments(), self.inputs, wanted)
        self._fit(prop.list_auxiliary_states(), self.aux, aux_shapes)
        self.op = prop.create_operator(self.ctx, shapes, types)
        # outside the graph: what forward does with them is not recorded
        self.in_data = [wrap(raw_of(a), a._ctx) for a in self.inputs]
        self.out_data = [
            self._made(stype, tuple(shape), dtype)
            for stype, shape, dtype in zip(out_stypes, out_shapes, out_types, strict=True)
        ]
        training = state.training
        with Scope(False, None):
            self.op.forward(
                is_train=training,
                req=["write"] * len(self.out_data),
                in_data=self.in_data,
                out_data=self.out_data,
                aux=self.aux,
            )
        return self.out_data

    def _made(self, stype: str, shape: Shape, dtype: Any) -> NDArray:
        assert self.ctx is not None
        return wrap(zeros_of(stype, tuple(int(n) for n in shape), np.dtype(dtype)), self.ctx)

    def _fit(self, names: list[str], arrays: list[NDArray], wanted: list[Any]) -> None:
        for argument, array, shape in zip(names, arrays, wanted, strict=False):
            if tuple(shape) != array.shape:
                raise OperatorError(
                    f"{self.name}: argument {argument!r} has shape {array.shape}, infer_shape "
                    f"wants {tuple(shape)}"
                )

    def vjp(self, xp: Any, g: Any, out: Any, *raws: Any) -> tuple[Any, ...]:
        """Gradients of the inputs, for the tape."""
        heads = g if isinstance(g, tuple) else (g,)
        if any(isinstance(head, NDArray) for head in heads):
            raise AutogradError(
                f"the gradient of {self.name} cannot be differentiated: a CustomOp writes it in "
                "place; use autograd.Function"
            )
        ctx = self.ctx
        assert ctx is not None
        out_grad = [wrap(head, ctx) for head in heads]
        needed = [a._entry is not None for a in self.inputs]
        kinds = self.prop.infer_storage_type_backward(
            ["default"] * len(out_grad),
            [a.stype for a in self.in_data],
            [a.stype for a in self.out_data],
            ["default"] * len(self.in_data),
            [a.stype for a in self.aux],
        )[3]
        in_grad = [
            self._made(kind, a.shape, a.dtype) for kind, a in zip(kinds, self.in_data, strict=True)
        ]
        with Scope(False, None):
            self.op.backward(
                req=["write" if wanted else "null" for wanted in needed],
                out_grad=out_grad,
                in_data=self.in_data,
                out_data=self.out_data,
                in_grad=in_grad,
                aux=self.aux,
            )
        return tuple(
            raw_of(grad) if wanted else None for grad, wanted in zip(in_grad, needed, strict=True)
        )

    def run(self) -> Any:
        """Forward, recorded as one step if any input is in the graph."""
        outputs = self.forward()
        results = [wrap(raw_of(a), a._ctx) for a in outputs]
        entries = tuple(a._entry for a in self.inputs)
        if state.recording and any(entry is not None for entry in entries):
            op = Op(self.name, self.op.forward, self.vjp, (), {}, public=False)
            kept = tuple(raw_of(a) for a in outputs)
            many = len(kept) > 1
            raws = [raw_of(a) for a in self.in_data]
            node = Node(op, entries, raws, kept if many else kept[0], {})
            for slot, result in enumerate(results):
                result._entry = (node, slot)
        return results if len(results) > 1 else results[0]


def Custom(
    *data: NDArray, op_type: str = "", name: str = "", out: Any = None, **kwargs: Any
) -> Any:
    """Run an operator registered with :func:`kvtrain.operator.register`.

    Parameters
    ----------
    *data : NDArray
        Inputs, then auxiliary states; either may be given by name too.
    op_type : str
        Its registered name.
    **kwargs
        Arguments of its CustomOpProp, which gets each as a str.

    Raises
    ------
    UnknownName
        No such operator; lists the known ones.
    OperatorError
        The number or the shapes of the inputs do not fit.
    """
    if op_type not in _PROPS:
        raise UnknownName("custom operator", op_type, tuple(registered()))
    arrays = {k: v for k, v in kwargs.items() if isinstance(v, NDArray)}
    made: Any = _PROPS[op_type]
    prop: CustomOpProp = made(**{k: str(v) for k, v in kwargs.items() if k not in arrays})
    inputs = list(data)
    for argument in (*prop.list_arguments(), *prop.list_auxiliary_states())[len(inputs) :]:
        if argument in arrays:
            inputs.append(arrays.pop(argument))
    if arrays:
        raise OperatorError(f"{op_type}: unknown or repeated argument {next(iter(arrays))!r}")
    for array in inputs:
        if not isinstance(array, NDArray):
            raise OperatorError(f"{op_type}: inputs are NDArrays, not {type(array).__name__}")
    result = Call(op_type, prop, inputs).run()
    if out is None:
        return result
    pairs = zip(
        out if isinstance(out, list | tuple) else [out],
        result if isinstance(result, list) else [result],
        strict=True,
    )
    for target, source in pairs:
        target._assign(raw_of(source))
        target._entry = source._entry
    return out

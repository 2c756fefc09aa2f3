# SPDX-License-Identifier: Apache-2.0
"""Builds the functions of ``nd`` and the methods of NDArray from the operator registry.

Closures with a real ``__signature__`` and ``__doc__``; no code is generated as text.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

import kvtrain.ops  # registers every operator
from kvtrain.context import Context
from kvtrain.errors import OperatorError
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.invoke import invoke
from kvtrain.ops.registry import Op, all_names, find

_EMPTY = inspect.Parameter.empty
assert kvtrain.ops is not None


def call(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Sort positional and named arguments into inputs and attributes, then run `op`."""
    out = kwargs.pop("out", None)
    kwargs.pop("name", None)
    ctx = kwargs.pop("ctx", None)
    if isinstance(ctx, str):
        ctx = _context_text(ctx)
    inputs: list[NDArray] = []
    attrs: dict[str, Any] = {}
    names = iter(op.attrs)
    fixed = len(op.inputs) - op.variadic
    for value in args:
        if isinstance(value, NDArray):
            inputs.append(value)
        elif len(inputs) < fixed and isinstance(value, np.ndarray):
            inputs.append(NDArray(value, inputs[0]._ctx if inputs else Context("cpu", 0)))
        elif len(inputs) < fixed:
            raise OperatorError(
                f"{op.name}: argument {op.inputs[len(inputs)]!r} must be an NDArray, "
                f"not {type(value).__name__}"
            )
        elif value is None and op.variadic and not attrs:
            continue
        else:
            name = next(names, None)
            if name is None:
                raise OperatorError(f"{op.name}: too many arguments")
            attrs[name] = op.parsers[name](op.name, name, value)
    for position, name in enumerate(op.inputs):
        bare = name.lstrip("*")
        if bare in kwargs:
            value = kwargs.pop(bare)
            if name.startswith("*") and isinstance(value, list | tuple):
                inputs.extend(value)
            elif value is not None:
                inputs.insert(position, value)
    for bare in op.optional:
        if kwargs.get(bare) is not None:
            inputs.append(kwargs[bare])
        kwargs.pop(bare, None)
    if op.variadic:
        kwargs.pop("num_args", None)
    for name, value in kwargs.items():
        if name not in op.attrs:
            known = ", ".join([*(i.lstrip("*") for i in op.inputs), *op.attrs])
            raise OperatorError(f"{op.name}: unknown argument {name!r}; known: {known}")
        attrs[name] = op.parsers[name](op.name, name, value)
    if len(inputs) == fixed + 1 and not op.variadic and out is None and args[-1] is inputs[-1]:
        out = inputs.pop()
    if len(inputs) < fixed or (len(inputs) > fixed and not op.variadic):
        raise OperatorError(
            f"{op.name}: takes {fixed} arrays ({', '.join(op.inputs)}), {len(inputs)} given"
        )
    if op.name in _ALIKE and len(inputs) > 1:
        _check_dtypes(op, inputs)
    for name, default in op.attrs.items():
        if name not in attrs:
            if default is _EMPTY:
                if name != "training":
                    raise OperatorError(f"{op.name}: argument {name!r} is missing")
            else:
                attrs[name] = default
    return invoke(op, inputs, attrs, out, ctx)


#: operators all of whose arrays must have one dtype
_ALIKE = frozenset(
    "add subtract multiply divide modulo power maximum minimum hypot equal not_equal greater "
    "greater_equal lesser lesser_equal logical_and logical_or logical_xor dot batch_dot "
    "FullyConnected Convolution Deconvolution Concat stack LayerNorm GroupNorm InstanceNorm "
    "_linalg_gemm _linalg_gemm2 _linalg_trmm _linalg_trsm".split()
)


def _check_dtypes(op: Op, inputs: Sequence[NDArray]) -> None:
    wanted = np.dtype(inputs[0].dtype)
    for position, array in enumerate(inputs[1:], start=1):
        found = np.dtype(array.dtype)
        if found != wanted:
            names = [n.lstrip("*") for n in op.inputs]
            shown = names[min(position, len(names) - 1)]
            raise OperatorError(
                f"{op.name.strip('_')}: {shown} has dtype {found}, {names[0]} {wanted}; "
                "convert one with astype()"
            )


def _context_text(text: str) -> Context:
    name, _, number = text.rstrip(")").partition("(")
    return Context(name, int(number or 0))


def _signature(op: Op, method: bool) -> inspect.Signature:
    kinds = inspect.Parameter
    parameters = []
    for i, name in enumerate(op.inputs):
        if name.startswith("*"):
            parameters.append(kinds(name[1:], kinds.VAR_POSITIONAL))
        else:
            shown = "self" if method and i == 0 else name
            parameters.append(kinds(shown, kinds.POSITIONAL_OR_KEYWORD))
    keyword = kinds.KEYWORD_ONLY if op.variadic else kinds.POSITIONAL_OR_KEYWORD
    late = False
    for name, default in op.attrs.items():
        late = late or default is not _EMPTY
        if default is _EMPTY and late and keyword is not kinds.KEYWORD_ONLY:
            keyword = kinds.KEYWORD_ONLY
        parameters.append(kinds(name, keyword, default=default))
    parameters.append(kinds("out", kinds.KEYWORD_ONLY, default=None))
    return inspect.Signature(parameters)


def _defaults(op: Op) -> dict[str, Any] | None:
    """Attributes of a call that gives arrays only; None: such a call needs sorting out."""
    required = any(d is _EMPTY and n != "training" for n, d in op.attrs.items())
    if op.variadic or not op.inputs or required:
        return None
    return {n: d for n, d in op.attrs.items() if d is not _EMPTY}


def function(name: str, op: Op) -> Callable[..., Any]:
    """The function ``nd.<name>``."""
    defaults, arrays = _defaults(op), len(op.inputs)

    alike = op.name in _ALIKE and arrays > 1

    def run(*args: Any, **kwargs: Any) -> Any:
        if defaults is not None and not kwargs and len(args) == arrays:
            for value in args:
                if type(value) is not NDArray:
                    break
            else:
                if alike:
                    _check_dtypes(op, args)
                return invoke(op, args, defaults)
        return call(op, args, kwargs)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = op.doc
    run.__module__ = "kvtrain.ndarray"
    run.__signature__ = _signature(op, False)  # type: ignore[attr-defined]
    return run


def method(name: str, op: Op) -> Callable[..., Any]:
    """The method ``NDArray.<name>``."""

    def run(self: NDArray, *args: Any, **kwargs: Any) -> Any:
        return call(op, (self, *args), kwargs)

    run.__name__ = name
    run.__qualname__ = f"NDArray.{name}"
    run.__doc__ = op.doc
    run.__signature__ = _signature(op, True)  # type: ignore[attr-defined]
    return run


#: methods whose operator is registered under another name or without `methods`
_METHODS = {
    "identity": "identity",
    "_cast": "Cast",
    "_index": "_index",
    "_reshape": "Reshape",
    "broadcast_to": "broadcast_to",
    "cumsum": "cumsum",
    "log_sigmoid": "log_sigmoid",
    "pad": "Pad",
    "split": "SliceChannel",
    "swapaxes": "SwapAxis",
    "transpose": "transpose",
    "fix": "fix",
}


def install() -> dict[str, Callable[..., Any]]:
    """Add the methods to NDArray; returns the functions of ``nd`` by name."""
    functions: dict[str, Callable[..., Any]] = {}
    for name, op in all_names().items():
        functions[name] = function(name, op)
        for shown in op.methods:
            if not hasattr(NDArray, shown):
                setattr(NDArray, shown, method(shown, op))
    for shown, name in _METHODS.items():
        if name in functions:
            setattr(NDArray, shown, method(shown, find(name)))
    setattr(NDArray, "transpose", _transpose)  # noqa: B010
    return functions


def _transpose(self: NDArray, *axes: Any, **kwargs: Any) -> Any:
    """Dimensions in the order `axes` (none given: reversed)."""
    given: Any = kwargs.get("axes", axes)
    if len(given) == 1 and (given[0] is None or isinstance(given[0], tuple | list)):
        given = given[0] or ()
    return invoke(find("transpose"), [self], {"axes": tuple(given or ())})


def family(functions: dict[str, Callable[..., Any]], prefix: str) -> SimpleNamespace:
    """The functions ``_<prefix>_<name>`` as ``nd.<prefix>.<name>``."""
    start = f"_{prefix}_"
    return SimpleNamespace(
        **{n.removeprefix(start): f for n, f in functions.items() if n.startswith(start)}
    )

# SPDX-License-Identifier: Apache-2.0
"""Shapes of deferred parameters, told by the operators that a hybrid_forward calls.

Where a block of the user's own does not define ``infer_shape``, its first forward runs with
placeholders for the parameters whose shape is not known, and with a namespace whose functions
complete a placeholder's shape from their other inputs before they run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kvtrain import ndarray as nd
from kvtrain.context import Context
from kvtrain.errors import DeferredInitializationError
from kvtrain.gluon.parameter import Parameter
from kvtrain.ndarray import NDArray

Shape = tuple[int, ...]


class Unknown:
    """Stands for a parameter whose shape the next operator tells."""

    __array_priority__ = 2000.0

    def __init__(self, parameter: Parameter, ctx: Context) -> None:
        self.parameter = parameter
        self.ctx = ctx

    @property
    def shape(self) -> Shape | None:
        """What is known of the shape."""
        return self.parameter.shape

    def resolve(self, shape: Shape | None = None) -> NDArray:
        """The values, made now; unknown sizes are taken from `shape`."""
        parameter = self.parameter
        if parameter._deferred_init:
            if shape is not None:
                parameter.shape = shape
            parameter._finish_deferred_init()
        return parameter.data(self.ctx)

    def _like(self, other: Any) -> NDArray:
        shape = other.shape if isinstance(other, NDArray) else None
        return self.resolve(shape)

    def __add__(self, other: Any) -> Any:
        return self._like(other) + other

    def __radd__(self, other: Any) -> Any:
        return other + self._like(other)

    def __mul__(self, other: Any) -> Any:
        return self._like(other) * other

    def __rmul__(self, other: Any) -> Any:
        return other * self._like(other)

    def __sub__(self, other: Any) -> Any:
        return self._like(other) - other

    def __rsub__(self, other: Any) -> Any:
        return other - self._like(other)


def _dense(shapes: Sequence[Shape | None], attrs: dict[str, Any]) -> list[Shape]:
    data = shapes[0]
    assert data is not None
    width = data[-1]
    if attrs.get("flatten", True):
        width = 1
        for n in data[1:]:
            width *= n
    units = attrs["num_hidden"]
    return [data, (units, width), (units,)]


def _convolution(shapes: Sequence[Shape | None], attrs: dict[str, Any]) -> list[Shape]:
    data = shapes[0]
    assert data is not None
    layout = attrs.get("layout") or "NC"
    first = layout.startswith("NC")
    inside = data[1] if first else data[-1]
    out, kernel = attrs["num_filter"], tuple(attrs["kernel"])
    each = inside // attrs.get("num_group", 1)
    return [data, (out, each, *kernel) if first else (out, *kernel, each), (out,)]


def _deconvolution(shapes: Sequence[Shape | None], attrs: dict[str, Any]) -> list[Shape]:
    data = shapes[0]
    assert data is not None
    out = attrs["num_filter"]
    each = out // attrs.get("num_group", 1)
    return [data, (data[1], each, *tuple(attrs["kernel"])), (out,)]


def _embedding(shapes: Sequence[Shape | None], attrs: dict[str, Any]) -> list[Shape]:
    return [shapes[0] or (), (attrs["input_dim"], attrs["output_dim"])]


def _channels(default: int) -> Callable[..., list[Shape]]:
    def rule(shapes: Sequence[Shape | None], attrs: dict[str, Any]) -> list[Shape]:
        data = shapes[0]
        assert data is not None
        return [data, *[(data[attrs.get("axis", default)],)] * (len(shapes) - 1)]

    return rule


def _groups(shapes: Sequence[Shape | None], attrs: dict[str, Any]) -> list[Shape]:
    return [shapes[0] or (), *[(attrs.get("num_groups", 1),)] * 2]


def _dot(shapes: Sequence[Shape | None], attrs: dict[str, Any]) -> list[Shape]:
    left, right = shapes
    if right is not None and left is not None and left[-1] > 0:
        right = (left[-1], *right[1:])
    return [left or (), right or ()]


def _same(shapes: Sequence[Shape | None], attrs: dict[str, Any]) -> list[Shape]:
    known = [s for s in shapes if s is not None and all(n > 0 for n in s)]
    return [known[0] if known else ()] * len(shapes)


RULES: dict[str, Callable[..., list[Shape]]] = {
    "FullyConnected": _dense,
    "Convolution": _convolution,
    "Deconvolution": _deconvolution,
    "Embedding": _embedding,
    "BatchNorm": _channels(1),
    "LayerNorm": _channels(-1),
    "InstanceNorm": _channels(1),
    "GroupNorm": _groups,
    "dot": _dot,
    **dict.fromkeys(
        (
            *("elemwise_add", "elemwise_sub", "elemwise_mul", "elemwise_div", "add", "subtract"),
            *("multiply", "divide", "maximum", "minimum", "where"),
        ),
        _same,
    ),
}
#: names of array arguments that may be given by keyword, in their order
_ORDER = ("data", "lhs", "weight", "rhs", "bias", "gamma", "beta", "moving_mean", "moving_var")


class InferringNamespace:
    """``kvtrain.nd`` whose functions complete the shapes of placeholders."""

    def __getattr__(self, name: str) -> Any:
        function = getattr(nd, name)
        if not callable(function) or isinstance(function, type):
            return function

        def run(*args: Any, **kwargs: Any) -> Any:
            if not any(isinstance(a, Unknown) for a in (*args, *kwargs.values())):
                return function(*args, **kwargs)
            named = {k: kwargs.pop(k) for k in _ORDER if isinstance(kwargs.get(k), _ARRAYS)}
            arrays = [*(a for a in args if isinstance(a, _ARRAYS)), *named.values()]
            rest = [a for a in args if not isinstance(a, _ARRAYS)]
            shapes: list[Shape | None] = [a.shape for a in arrays]
            rule = RULES.get(name)
            told = rule(shapes, kwargs) if rule else shapes
            for array, shape in zip(arrays, told, strict=False):
                if isinstance(array, Unknown) and (
                    shape is None or not shape or any(n <= 0 for n in shape)
                ):
                    raise DeferredInitializationError(
                        f"the shape {array.shape} of parameter {array.parameter.name!r} cannot be "
                        f"told from the inputs of {name} (shapes {shapes}): give the full shape, "
                        "or define infer_shape(self, x) that sets it"
                    )
            real = [
                a.resolve(s) if isinstance(a, Unknown) else a
                for a, s in zip(arrays, told, strict=False)
            ]
            return function(*real, *rest, **kwargs)

        return run


_ARRAYS = (NDArray, Unknown)

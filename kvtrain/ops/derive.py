# SPDX-License-Identifier: Apache-2.0
"""Gradients of compositions: an operator that is a formula over other operators needs no rule.

:func:`pullback` runs a formula on any `xp` (plain arithmetic or a recording namespace), keeps
the calls, and walks back over them with the rules of the operators called. Given a recording
namespace the walk is itself recorded, so that derivatives of any order follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kvtrain.ops.registry import Op, Vjp, find

#: NumPy's name -> operator
NUMPY_NAMES = {
    "array": "identity",
    "concatenate": "Concat",
    "less": "lesser",
    "less_equal": "lesser_equal",
    "mod": "modulo",
    "reshape": "Reshape",
    "swapaxes": "SwapAxis",
}
_BINARY = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "pow": "power",
    "mod": "modulo",
}
_COMPARED = {
    "gt": "greater",
    "ge": "greater_equal",
    "lt": "lesser",
    "le": "lesser_equal",
    "eq": "equal",
    "ne": "not_equal",
}
_PAIRED = {*_BINARY.values(), *_COMPARED.values(), "maximum", "minimum", "hypot", "arctan2"}
_NUMBERS = (int, float, np.number, np.bool_)


def numpy_call(name: str, args: tuple[Any, ...], attrs: dict[str, Any]) -> tuple[str, Any, Any]:
    """A call by NumPy's name and signature as (operator, inputs, attributes)."""
    if name == "concatenate":
        axis = args[1] if len(args) > 1 else attrs.get("axis", 0)
        return "Concat", list(args[0]), {"dim": axis}
    if name == "stack":
        axis = args[1] if len(args) > 1 else attrs.get("axis", 0)
        return "stack", list(args[0]), {"axis": axis}
    if name in ("reshape", "broadcast_to"):
        shape = args[1] if len(args) > 1 else attrs["shape"]
        wanted = (int(shape),) if isinstance(shape, int) else tuple(int(n) for n in shape)
        known = "_reshape_plain" if name == "reshape" else "_broadcast_plain"
        return known, [args[0]], {"shape": wanted}
    operator = NUMPY_NAMES.get(name, name)
    if operator in _PAIRED and len(args) == 2:
        left, right = args
        if isinstance(right, _NUMBERS):
            return f"_{operator}_scalar", [left], {"scalar": right}
        if isinstance(left, _NUMBERS):
            return f"_r{operator}_scalar", [right], {"scalar": left}
    op = find(operator)
    fixed = len(args) if op.variadic else len(op.inputs)
    given = dict(zip(op.attrs, args[fixed:], strict=False))
    return operator, list(args[:fixed]), {**given, **attrs}


def _apply(xp: Any, op: Op, inputs: Sequence[Any], attrs: dict[str, Any]) -> Any:
    apply = getattr(xp, "apply", None)
    return op.forward(xp, *inputs, **attrs) if apply is None else apply(op, inputs, attrs)


def run(xp: Any, name: str, *inputs: Any, **attrs: Any) -> Any:
    """An operator by its registered name, on whichever `xp`."""
    op = find(name)
    return _apply(xp, op, inputs, {**op.attrs, **attrs})


class Traced:
    """A value inside :func:`pullback`."""

    __slots__ = ("trace", "value")
    __array_ufunc__ = None
    __hash__ = object.__hash__

    def __init__(self, trace: Trace, value: Any) -> None:
        self.trace = trace
        self.value = value

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape)

    @property
    def ndim(self) -> int:
        return len(self.value.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.value.shape, dtype=np.int64))

    @property
    def dtype(self) -> Any:
        return np.dtype(self.value.dtype)

    def astype(self, dtype: Any) -> Traced:
        return self.trace.Cast(self, dtype=np.dtype(dtype).name)  # type: ignore[no-any-return]

    def reshape(self, shape: Any) -> Traced:
        return self.trace.reshape(self, shape)  # type: ignore[no-any-return]

    def __getitem__(self, key: Any) -> Traced:
        return self.trace._index(self, key=key)  # type: ignore[no-any-return]

    def __neg__(self) -> Traced:
        return self.trace.negative(self)  # type: ignore[no-any-return]


def _operator(name: str, reverse: bool) -> Callable[..., Any]:
    def run(self: Traced, other: Any) -> Any:
        left, right = (other, self) if reverse else (self, other)
        return self.trace.call(name, (left, right), {})

    return run


for _symbol, _name in {**_BINARY, **_COMPARED}.items():
    setattr(Traced, f"__{_symbol}__", _operator(_name, False))
    if _symbol in _BINARY:
        setattr(Traced, f"__r{_symbol}__", _operator(_name, True))


class Trace:
    """An `xp` that keeps every call that depends on a variable."""

    def __init__(self, xp: Any) -> None:
        self._xp = xp
        self.calls: list[tuple[Op, list[Any], dict[str, Any], Any]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **attrs: self.call(name, args, attrs)

    def call(self, name: str, args: tuple[Any, ...], attrs: dict[str, Any]) -> Any:
        """Run an operator by NumPy's or its own name."""
        operator, inputs, attrs = numpy_call(name, args, attrs)
        op = find(operator)
        return self.apply(op, inputs, {**op.attrs, **attrs})

    def apply(self, op: Op, inputs: Sequence[Any], full: dict[str, Any]) -> Any:
        """Run `op`; remembered if an input is a variable."""
        result = _apply(
            self._xp, op, [i.value if isinstance(i, Traced) else i for i in inputs], full
        )
        if not any(isinstance(i, Traced) for i in inputs):
            return result
        if isinstance(result, tuple | list):
            out: Any = tuple(Traced(self, r) for r in result)
        else:
            out = Traced(self, result)
        self.calls.append((op, list(inputs), full, out))
        return out


def pullback(
    xp: Any, function: Callable[..., Any], inputs: Any, attrs: dict[str, Any], g: Any, wanted: Any
) -> tuple[Any, ...]:
    """Gradients of ``function(xp, *inputs, **attrs)`` by the `wanted` inputs, given `g`."""
    trace = Trace(xp)
    inner = [Traced(trace, a) if i in wanted else a for i, a in enumerate(inputs)]
    out = function(trace, *inner, **attrs)
    outs, heads = (out, g) if isinstance(out, tuple) else ((out,), (g,))
    grads: dict[int, Any] = {}
    for head, grad in zip(outs, heads, strict=True):
        if isinstance(head, Traced) and grad is not None:
            _add(grads, head, grad)
    for op, given, full, made in reversed(trace.calls):
        results = made if isinstance(made, tuple) else (made,)
        parts: list[Any] = [grads.pop(id(r), None) for r in results]
        if all(p is None for p in parts):
            continue
        values: Any = tuple(r.value for r in results)
        if isinstance(made, tuple):
            passed: Any = tuple(
                xp.zeros_like(v) if p is None else p for p, v in zip(parts, values, strict=True)
            )
        else:
            passed, values = parts[0], values[0]
        if op.vjp is None:
            raise ValueError(f"{op.name} is not differentiable")
        raws = [i.value if isinstance(i, Traced) else i for i in given]
        for source, part in zip(given, op.vjp(xp, passed, values, *raws, **full), strict=True):
            if isinstance(source, Traced) and part is not None:
                _add(grads, source, part() if callable(part) else part)
    return tuple(grads.get(id(v)) if isinstance(v, Traced) else None for v in inner)


def _add(grads: dict[int, Any], target: Traced, part: Any) -> None:
    held = grads.get(id(target))
    grads[id(target)] = part if held is None else held + part


def derived(function: Callable[..., Any], *wanted: int) -> Vjp:
    """The vjp of an operator that equals the composition ``function(xp, *inputs, **attrs)``.

    Parameters
    ----------
    function : callable
        Written in registered names on `xp` and arithmetic.
    wanted : int
        Positions of the inputs that have a gradient; none given: all.
    """

    def vjp(xp: Any, g: Any, out: Any, *inputs: Any, **attrs: Any) -> tuple[Any, ...]:
        return pullback(xp, function, inputs, attrs, g, wanted or range(len(inputs)))

    return vjp


def fast(kernel: Vjp, function: Callable[..., Any], *wanted: int) -> Vjp:
    """`kernel` on plain arrays; on recorded ones the derivative of the equal `function`.

    For operators whose gradient has a kernel of its own, which nothing could differentiate.
    """
    general = derived(function, *wanted)

    def vjp(xp: Any, g: Any, out: Any, *inputs: Any, **attrs: Any) -> tuple[Any, ...]:
        plain = isinstance(inputs[0], np.ndarray)
        return (kernel if plain else general)(xp, g, out, *inputs, **attrs)

    return vjp


def flat(xp: Any, g: Any, out: Any, *inputs: Any, **attrs: Any) -> tuple[Any, ...]:
    """The vjp of an operator whose slope is zero wherever it has one."""
    return (None,) * len(inputs)


def values(array: Any) -> Any:
    """The numbers of a raw, recorded or traced array, for use as constants."""
    if isinstance(array, Traced):
        return values(array.value)
    return array.asnumpy() if hasattr(array, "asnumpy") else np.asarray(array)

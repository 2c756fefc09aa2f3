# SPDX-License-Identifier: Apache-2.0
"""Element-wise operators of two arrays: arithmetic with broadcasting, comparisons.

Comparisons give 0 and 1 in the dtype of the first operand, as in MXNet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.ops.broadcast import unbroadcast
from kvtrain.ops.registry import op


def no_slope(*args: Any) -> None:
    """The gradient of a function that is constant between its steps."""
    return None


def _kept(out: Any, a: Any, b: Any) -> Any:
    """Integers for integers."""
    kind = a.dtype if a.dtype == b.dtype else np.result_type(a, b)
    return out if kind.kind == "f" else out.astype(kind)


def _power(xp: Any, a: Any, b: Any) -> Any:
    try:
        return xp.power(a, b)
    except ValueError:  # integers to negative powers
        return _kept(np.power(np.asarray(a, np.float64), b), a, b)


def _binary(
    name: str,
    forward: Callable[..., Any],
    left: Callable[..., Any] | None,
    right: Callable[..., Any] | None,
    aliases: tuple[str, ...],
    doc: str,
) -> None:
    """Register `name` with gradients ``left(xp, g, out, a, b)`` and ``right(...)``."""
    vjp = None
    if left is not None and right is not None:
        dleft, dright = left, right

        def vjp(xp: Any, g: Any, out: Any, a: Any, b: Any) -> tuple[Any, ...]:
            if dleft is no_slope:
                return None, None
            return (
                unbroadcast(xp, dleft(xp, g, out, a, b), a.shape),
                unbroadcast(xp, dright(xp, g, out, a, b), b.shape),
            )

    def run(xp: Any, lhs: Any, rhs: Any, /) -> Any:
        return forward(xp, lhs, rhs)

    op(name, vjp=vjp, aliases=aliases, doc=doc)(run)
    _BOTH.add(name)
    _scalar(f"_{name}_scalar", forward, left, False)
    _scalar(f"_r{name}_scalar", forward, right, True)


def _scalar(
    name: str, forward: Callable[..., Any], slope: Callable[..., Any] | None, reverse: bool
) -> None:
    """Register the form with a number for one operand (the first if `reverse`).

    The number takes the array's dtype, so that float32 stays float32 and integers integers.
    """
    vjp = None
    if slope is not None:
        grad = slope

        def vjp(xp: Any, g: Any, out: Any, a: Any, *, scalar: Any) -> tuple[Any, ...]:
            return (grad(xp, g, out, scalar, a) if reverse else grad(xp, g, out, a, scalar),)

    def run(xp: Any, data: Any, /, *, scalar: float) -> Any:
        try:
            number = data.dtype.type(scalar)
        except OverflowError:  # wraps around, as in C
            number = np.asarray(scalar).astype(data.dtype)[()]
        return forward(xp, number, data) if reverse else forward(xp, data, number)

    doc = f"{name.strip('_')} with a number."
    op(name, vjp=vjp, public=False, aliases=_other_names(name), doc=doc)(run)


#: our name -> MXNet's of the forms with a number, where they differ
_SHORT = {
    "add": "plus",
    "subtract": "minus",
    "multiply": "mul",
    "divide": "div",
    "modulo": "mod",
}


def _other_names(name: str) -> tuple[str, ...]:
    """MXNet's names: ``_rminus_scalar`` and ``_RMinusScalar`` for ``_rsubtract_scalar``."""
    stem = name.removeprefix("_").removesuffix("_scalar")
    turned = "r" if stem.removeprefix("r") in _BOTH and stem not in _BOTH else ""
    known = stem.removeprefix(turned)
    short = _SHORT.get(known, known)
    camel = "".join(part.capitalize() for part in (turned, *short.split("_"))) + "Scalar"
    names = (f"_{turned}{short}_scalar", f"_{camel}")
    return tuple(n for n in names if n != name)


#: operators that have been given both forms
_BOTH: set[str] = set()


def _compare(name: str) -> Callable[..., Any]:
    def forward(xp: Any, a: Any, b: Any) -> Any:
        return getattr(xp, name)(a, b).astype(a.dtype)

    return forward


def _logical(name: str) -> Callable[..., Any]:
    def forward(xp: Any, a: Any, b: Any) -> Any:
        return getattr(xp, name)(a != 0, b != 0).astype(a.dtype)

    return forward


def _names(name: str, *more: str) -> tuple[str, ...]:
    return (f"broadcast_{name}", *more)


def _log(xp: Any, a: Any) -> Any:
    return xp.log(a) if hasattr(a, "shape") else float(np.log(a))


_binary(
    "add",
    lambda xp, a, b: xp.add(a, b),
    lambda xp, g, out, a, b: g,
    lambda xp, g, out, a, b: g,
    _names("add", "elemwise_add", "broadcast_plus", "_plus"),
    "Sum of two arrays, with broadcasting.",
)
_binary(
    "subtract",
    lambda xp, a, b: xp.subtract(a, b),
    lambda xp, g, out, a, b: g,
    lambda xp, g, out, a, b: -g,
    _names("sub", "elemwise_sub", "broadcast_minus", "_minus"),
    "Difference of two arrays, with broadcasting.",
)
_binary(
    "multiply",
    lambda xp, a, b: xp.multiply(a, b),
    lambda xp, g, out, a, b: g * b,
    lambda xp, g, out, a, b: g * a,
    _names("mul", "elemwise_mul", "_mul"),
    "Product of two arrays, with broadcasting.",
)
_binary(
    "divide",
    lambda xp, a, b: _divide(xp, a, b),
    lambda xp, g, out, a, b: g / b,
    lambda xp, g, out, a, b: -(g * out) / b,
    _names("div", "elemwise_div", "_div", "true_divide"),
    "Quotient of two arrays, with broadcasting.",
)
_binary(
    "modulo",
    lambda xp, a, b: _mod(a, b),
    lambda xp, g, out, a, b: g,
    lambda xp, g, out, a, b: -(g * xp.floor(a / b)),
    _names("mod", "_mod"),
    "Remainder with the sign of the divisor, with broadcasting.",
)
_binary(
    "power",
    lambda xp, a, b: _power(xp, a, b),
    lambda xp, g, out, a, b: g * b * xp.power(a, b - 1),
    lambda xp, g, out, a, b: g * out * _log(xp, a),
    _names("power", "pow", "_power"),
    "First array to the power of the second, with broadcasting.",
)
_binary(
    "maximum",
    lambda xp, a, b: xp.maximum(a, b),
    lambda xp, g, out, a, b: g * xp.greater_equal(a, b),
    lambda xp, g, out, a, b: g * xp.less(a, b),
    _names("maximum", "_maximum"),
    "Larger of two elements, with broadcasting.",
)
_binary(
    "minimum",
    lambda xp, a, b: xp.minimum(a, b),
    lambda xp, g, out, a, b: g * xp.less_equal(a, b),
    lambda xp, g, out, a, b: g * xp.greater(a, b),
    _names("minimum", "_minimum"),
    "Smaller of two elements, with broadcasting.",
)
_binary(
    "hypot",
    lambda xp, a, b: _kept(xp.hypot(a, b), a, b),
    lambda xp, g, out, a, b: g * a / out,
    lambda xp, g, out, a, b: g * b / out,
    ("broadcast_hypot", "_hypot"),
    "Length of the hypotenuse, with broadcasting.",
)
_binary(
    "arctan2",
    lambda xp, a, b: _kept(xp.arctan2(a, b), a, b),
    lambda xp, g, out, a, b: g * b / (a * a + b * b),
    lambda xp, g, out, a, b: -(g * a) / (a * a + b * b),
    ("broadcast_arctan2",),
    "Angle of the point (second, first), with broadcasting.",
)
for _name, _function, _more in (
    ("equal", "equal", ()),
    ("not_equal", "not_equal", ()),
    ("greater", "greater", ()),
    ("greater_equal", "greater_equal", ()),
    ("lesser", "less", ("less",)),
    ("lesser_equal", "less_equal", ("less_equal",)),
):
    _binary(
        _name,
        _compare(_function),
        no_slope,
        no_slope,
        _names(_name, *_more),
        f"1 where the first is {_name.replace('_', ' ')} the second, else 0.",
    )
for _name in ("logical_and", "logical_or", "logical_xor"):
    _binary(
        _name,
        _logical(_name),
        no_slope,
        no_slope,
        _names(_name),
        f"Element-wise {_name}, as 0 and 1.",
    )


def _divide(xp: Any, a: Any, b: Any) -> Any:
    if a.dtype.kind in "iu" and b.dtype.kind in "iu":
        # towards zero, as in C
        down = xp.floor_divide(a, b)
        return down + ((down < 0) & (down * b != a)).astype(down.dtype)
    return xp.divide(a, b)


def _mod(a: Any, b: Any) -> Any:
    out = np.mod(a, b)
    zero = np.equal(b, 0)
    return np.where(zero, out.dtype.type(0), out) if zero.any() else out


def _where_vjp(xp: Any, g: Any, out: Any, c: Any, a: Any, b: Any) -> tuple[Any, ...]:
    if len(c.shape) == 1 and len(a.shape) > 1:
        c = xp.reshape(c, (-1,) + (1,) * (len(a.shape) - 1))
    return None, g * (c != 0), g * (c == 0)


@op("where", vjp=_where_vjp, aliases=("_where",))
def _where(xp: Any, condition: Any, x: Any, y: Any, /) -> Any:
    """Elements of `x` where `condition` is not 0, else of `y`.

    A one-dimensional condition chooses rows.
    """
    rows = condition.ndim == 1 and condition.shape[0] == (x.shape or (1,))[0]
    if x.shape != y.shape or (condition.shape != x.shape and not rows):
        raise ValueError(
            f"condition {condition.shape}, x {x.shape} and y {y.shape} must have one shape "
            "(or condition one element per row)"
        )
    if condition.ndim == 1 and x.ndim > 1:
        condition = condition.reshape((-1,) + (1,) * (x.ndim - 1))
    return xp.where(condition != 0, x, y)

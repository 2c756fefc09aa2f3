# SPDX-License-Identifier: Apache-2.0
"""Element-wise operators: arithmetic with broadcasting, comparisons, functions of one array.

Comparisons give 0 and 1 in the dtype of the first operand, as in MXNet.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.ops.broadcast import unbroadcast
from kvtrain.ops.registry import op

# ---- two arrays ----------------------------------------------------------------------------


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
            return (
                unbroadcast(xp, dleft(xp, g, out, a, b), a.shape),
                unbroadcast(xp, dright(xp, g, out, a, b), b.shape),
            )

    def run(xp: Any, lhs: Any, rhs: Any, /) -> Any:
        return forward(xp, lhs, rhs)

    op(name, vjp=vjp, aliases=aliases, doc=doc)(run)
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

    def run(xp: Any, data: Any, /, *, scalar: Any) -> Any:
        number = data.dtype.type(scalar)
        return forward(xp, number, data) if reverse else forward(xp, data, number)

    op(name, vjp=vjp, public=False, doc=f"{name} with a number.")(run)


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
    lambda xp, a, b: xp.mod(a, b),
    lambda xp, g, out, a, b: g,
    lambda xp, g, out, a, b: -(g * xp.floor(a / b)),
    _names("mod", "_mod"),
    "Remainder with the sign of the divisor, with broadcasting.",
)
_binary(
    "power",
    lambda xp, a, b: xp.power(a, b),
    lambda xp, g, out, a, b: g * b * xp.power(a, b - 1),
    lambda xp, g, out, a, b: g * out * xp.log(a),
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
    lambda xp, a, b: xp.hypot(a, b),
    lambda xp, g, out, a, b: g * a / out,
    lambda xp, g, out, a, b: g * b / out,
    ("broadcast_hypot", "_hypot"),
    "Length of the hypotenuse, with broadcasting.",
)
_binary(
    "arctan2",
    lambda xp, a, b: xp.arctan2(a, b),
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
        None,
        None,
        _names(_name, *_more),
        f"1 where the first is {_name.replace('_', ' ')} the second, else 0.",
    )
for _name in ("logical_and", "logical_or", "logical_xor"):
    _binary(_name, _logical(_name), None, None, _names(_name), f"Element-wise {_name}, as 0 and 1.")


def _divide(xp: Any, a: Any, b: Any) -> Any:
    if a.dtype.kind in "iu" and b.dtype.kind in "iu":
        return xp.floor_divide(a, b)
    return xp.divide(a, b)


# ---- one array -----------------------------------------------------------------------------


def _float(function: Callable[..., Any]) -> Callable[..., Any]:
    """Keep the dtype of integer arrays, whose functions NumPy gives as float64."""

    def forward(xp: Any, a: Any) -> Any:
        out = function(xp, a)
        return out if out.dtype == a.dtype else out.astype(a.dtype)

    return forward


def _unary(
    name: str,
    forward: Callable[..., Any],
    grad: Callable[..., Any] | None,
    doc: str,
    *aliases: str,
    method: bool = True,
) -> None:
    """Register `name` with gradient ``grad(xp, g, out, a)``."""
    vjp = None
    if grad is not None:
        slope = grad

        def vjp(xp: Any, g: Any, out: Any, a: Any) -> tuple[Any, ...]:
            return (slope(xp, g, out, a),)

    kept = _float(forward)

    def run(xp: Any, data: Any, /) -> Any:
        return kept(xp, data)

    op(name, vjp=vjp, aliases=aliases, methods=(name,) if method else (), doc=doc)(run)


def _sigmoid(xp: Any, a: Any) -> Any:
    half = a.dtype.type(0.5) if a.dtype.kind == "f" else 0.5
    return half * (xp.tanh(half * a) + 1)


_unary("negative", lambda xp, a: xp.negative(a), lambda xp, g, out, a: -g, "Minus x.")
_unary("abs", lambda xp, a: xp.abs(a), lambda xp, g, out, a: g * xp.sign(a), "Absolute value.")
_unary("sign", lambda xp, a: xp.sign(a), lambda xp, g, out, a: g * 0, "-1, 0 or 1.")
_unary("exp", lambda xp, a: xp.exp(a), lambda xp, g, out, a: g * out, "e to the x.")
_unary(
    "expm1", lambda xp, a: xp.expm1(a), lambda xp, g, out, a: g * (out + 1), "e to the x, minus 1."
)
_unary("log", lambda xp, a: xp.log(a), lambda xp, g, out, a: g / a, "Natural logarithm.")
_unary("log1p", lambda xp, a: xp.log1p(a), lambda xp, g, out, a: g / (a + 1), "Logarithm of 1 + x.")
_unary(
    "log2",
    lambda xp, a: xp.log2(a),
    lambda xp, g, out, a: g / (a * math.log(2)),
    "Logarithm to base 2.",
)
_unary(
    "log10",
    lambda xp, a: xp.log10(a),
    lambda xp, g, out, a: g / (a * math.log(10)),
    "Logarithm to base 10.",
)
_unary("sqrt", lambda xp, a: xp.sqrt(a), lambda xp, g, out, a: g * 0.5 / out, "Square root.")
_unary(
    "rsqrt",
    lambda xp, a: 1 / xp.sqrt(a),
    lambda xp, g, out, a: g * -0.5 * out / a,
    "One over the square root.",
)
_unary("cbrt", lambda xp, a: xp.cbrt(a), lambda xp, g, out, a: g / (3 * out * out), "Cube root.")
_unary(
    "rcbrt",
    lambda xp, a: 1 / xp.cbrt(a),
    lambda xp, g, out, a: g * out / (a * -3.0),
    "One over the cube root.",
)
_unary("square", lambda xp, a: xp.square(a), lambda xp, g, out, a: g * 2 * a, "x times x.")
_unary("reciprocal", lambda xp, a: 1 / a, lambda xp, g, out, a: -(g * out * out), "One over x.")
_unary("sin", lambda xp, a: xp.sin(a), lambda xp, g, out, a: g * xp.cos(a), "Sine.")
_unary("cos", lambda xp, a: xp.cos(a), lambda xp, g, out, a: -(g * xp.sin(a)), "Cosine.")
_unary("tan", lambda xp, a: xp.tan(a), lambda xp, g, out, a: g * (1 + out * out), "Tangent.")
_unary(
    "arcsin",
    lambda xp, a: xp.arcsin(a),
    lambda xp, g, out, a: g / xp.sqrt(1 - a * a),
    "Inverse sine.",
)
_unary(
    "arccos",
    lambda xp, a: xp.arccos(a),
    lambda xp, g, out, a: -g / xp.sqrt(1 - a * a),
    "Inverse cosine.",
)
_unary(
    "arctan", lambda xp, a: xp.arctan(a), lambda xp, g, out, a: g / (1 + a * a), "Inverse tangent."
)
_unary("sinh", lambda xp, a: xp.sinh(a), lambda xp, g, out, a: g * xp.cosh(a), "Hyperbolic sine.")
_unary("cosh", lambda xp, a: xp.cosh(a), lambda xp, g, out, a: g * xp.sinh(a), "Hyperbolic cosine.")
_unary(
    "tanh",
    lambda xp, a: xp.tanh(a),
    lambda xp, g, out, a: g * (1 - out * out),
    "Hyperbolic tangent.",
)
_unary(
    "arcsinh",
    lambda xp, a: xp.arcsinh(a),
    lambda xp, g, out, a: g / xp.sqrt(a * a + 1),
    "Inverse hyperbolic sine.",
)
_unary(
    "arccosh",
    lambda xp, a: xp.arccosh(a),
    lambda xp, g, out, a: g / xp.sqrt(a * a - 1),
    "Inverse hyperbolic cosine.",
)
_unary(
    "arctanh",
    lambda xp, a: xp.arctanh(a),
    lambda xp, g, out, a: g / (1 - a * a),
    "Inverse hyperbolic tangent.",
)
_unary(
    "degrees",
    lambda xp, a: xp.degrees(a),
    lambda xp, g, out, a: g * (180 / math.pi),
    "Radians to degrees.",
)
_unary(
    "radians",
    lambda xp, a: xp.radians(a),
    lambda xp, g, out, a: g * (math.pi / 180),
    "Degrees to radians.",
)
_unary("relu", lambda xp, a: xp.maximum(a, 0), lambda xp, g, out, a: g * (out > 0), "max(x, 0).")
_unary("sigmoid", _sigmoid, lambda xp, g, out, a: g * out * (1 - out), "1 / (1 + exp(-x)).")
_unary(
    "softsign",
    lambda xp, a: a / (1 + xp.abs(a)),
    lambda xp, g, out, a: g / xp.square(1 + xp.abs(a)),
    "x / (1 + |x|).",
)
_unary(
    "softrelu",
    lambda xp, a: xp.maximum(a, 0) + xp.log1p(xp.exp(-xp.abs(a))),
    lambda xp, g, out, a: g * (1 - xp.exp(-out)),
    "log(1 + exp(x)).",
    method=False,
)
_unary(
    "erf",
    lambda xp, a: xp.erf(a),
    lambda xp, g, out, a: g * (2 / math.sqrt(math.pi)) * xp.exp(-(a * a)),
    "Error function.",
)
_unary(
    "gammaln", lambda xp, a: xp.gammaln(a), None, "Logarithm of the gamma function.", method=False
)
_unary("gamma", lambda xp, a: xp.gamma(a), None, "Gamma function.", method=False)
for _name, _function, _text in (
    ("rint", "rint", "Nearest integer, halves to even."),
    ("ceil", "ceil", "Rounded up."),
    ("floor", "floor", "Rounded down."),
    ("trunc", "trunc", "Rounded towards zero."),
    ("fix", "trunc", "Rounded towards zero."),
):
    _unary(
        _name,
        lambda xp, a, f=_function: getattr(xp, f)(a) if a.dtype.kind == "f" else a + 0,
        lambda xp, g, out, a: g * 0,
        _text,
    )
_unary(
    "round",
    lambda xp, a: xp.sign(a) * xp.floor(xp.abs(a) + 0.5),
    lambda xp, g, out, a: g * 0,
    "Nearest integer, halves away from zero.",
)
_unary("logical_not", lambda xp, a: xp.equal(a, 0), None, "1 where x is 0, else 0.", method=False)
_unary("isnan", lambda xp, a: xp.isnan(a), None, "1 where x is NaN.", method=False)
_unary("isinf", lambda xp, a: xp.isinf(a), None, "1 where x is infinite.", method=False)
_unary("isfinite", lambda xp, a: xp.isfinite(a), None, "1 where x is finite.", method=False)


def _identity_vjp(xp: Any, g: Any, out: Any, a: Any) -> tuple[Any, ...]:
    return (g,)


@op("identity", vjp=_identity_vjp, aliases=("_copy",))
def _identity(xp: Any, data: Any, /) -> Any:
    """A copy."""
    return xp.array(data)


@op("BlockGrad", vjp=lambda xp, g, out, a: (g * 0,), aliases=("stop_gradient",))
def _block_grad(xp: Any, data: Any, /) -> Any:
    """A copy through which no gradient flows."""
    return xp.array(data)


@op("make_loss", vjp=lambda xp, g, out, a: (xp.ones_like(a),), aliases=("MakeLoss",))
def _make_loss(xp: Any, data: Any, /) -> Any:
    """A copy whose gradient is 1 whatever comes after."""
    return xp.array(data)


@op(
    "clip",
    vjp=lambda xp, g, out, a, *, a_min, a_max: (g * (a >= a_min) * (a <= a_max),),
    methods=("clip",),
)
def _clip(xp: Any, data: Any, /, *, a_min: float, a_max: float) -> Any:
    """Limit to ``[a_min, a_max]``."""
    return xp.clip(data, data.dtype.type(a_min), data.dtype.type(a_max))


@op(
    "smooth_l1",
    vjp=lambda xp, g, out, a, *, scalar: (
        g * xp.clip(a * (scalar * scalar), a_min=-1.0, a_max=1.0),
    ),
)
def _smooth_l1(xp: Any, data: Any, /, *, scalar: float = 1.0) -> Any:
    """Huber-like: quadratic for ``|x| < 1 / scalar**2``, linear beyond."""
    s = data.dtype.type(scalar * scalar)
    size = xp.abs(data)
    return xp.where(size < 1 / s, data.dtype.type(0.5) * s * data * data, size - 0.5 / s)


@op(
    "Cast",
    vjp=lambda xp, g, out, a, *, dtype: (g.astype(np.dtype(a.dtype).name),),
    aliases=("cast",),
)
def _cast(xp: Any, data: Any, /, *, dtype: str) -> Any:
    """The same values in another dtype."""
    return data.astype(dtype)


def _where_vjp(xp: Any, g: Any, out: Any, c: Any, a: Any, b: Any) -> tuple[Any, ...]:
    if len(c.shape) == 1 and len(a.shape) > 1:
        c = xp.reshape(c, (-1,) + (1,) * (len(a.shape) - 1))
    return None, g * (c != 0), g * (c == 0)


@op("where", vjp=_where_vjp, aliases=("_where",))
def _where(xp: Any, condition: Any, x: Any, y: Any, /) -> Any:
    """Elements of `x` where `condition` is not 0, else of `y`.

    A one-dimensional condition chooses rows.
    """
    if condition.ndim == 1 and x.ndim > 1:
        condition = condition.reshape((-1,) + (1,) * (x.ndim - 1))
    return xp.where(condition != 0, x, y)

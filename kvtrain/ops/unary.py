# SPDX-License-Identifier: Apache-2.0
"""Element-wise functions of one array."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from kvtrain.ops.registry import op


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
_unary(
    "sign",
    lambda xp, a: xp.nan_to_num(xp.sign(a), copy=False),
    lambda xp, g, out, a: None,
    "-1, 0 or 1.",
)
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
    "erfinv",
    lambda xp, a: xp.erfinv(a),
    lambda xp, g, out, a: g * (math.sqrt(math.pi) / 2) * xp.exp(out * out),
    "Inverse of the error function.",
    method=False,
)
_unary(
    "gammaln",
    lambda xp, a: xp.gammaln(a),
    lambda xp, g, out, a: g * xp.polygamma(a, order=0),
    "Logarithm of the gamma function.",
    method=False,
)
_unary(
    "gamma",
    lambda xp, a: xp.gamma(a),
    lambda xp, g, out, a: g * out * xp.polygamma(a, order=0),
    "Gamma function.",
    method=False,
)


@op(
    "polygamma",
    vjp=lambda xp, g, out, a, *, order: (g * xp.polygamma(a, order=order + 1),),
    public=False,
)
def _polygamma(xp: Any, data: Any, /, *, order: int) -> Any:
    """Derivative number `order` + 1 of the logarithm of the gamma function."""
    return xp.polygamma(data, order=order)


for _name, _function, _text in (
    ("ceil", "ceil", "Rounded up."),
    ("floor", "floor", "Rounded down."),
    ("trunc", "trunc", "Rounded towards zero."),
    ("fix", "trunc", "Rounded towards zero."),
):
    _unary(
        _name,
        lambda xp, a, f=_function: getattr(xp, f)(a) if a.dtype.kind == "f" else a + 0,
        lambda xp, g, out, a: None,
        _text,
    )
_unary(
    "rint",
    lambda xp, a: xp.ceil(a - 0.5) if a.dtype.kind == "f" else a + 0,
    lambda xp, g, out, a: None,
    "Nearest integer, halves down.",
)
_unary(
    "round",
    lambda xp, a: xp.sign(a) * xp.floor(xp.abs(a) + 0.5),
    lambda xp, g, out, a: None,
    "Nearest integer, halves away from zero.",
)
_unary(
    "logical_not",
    lambda xp, a: xp.equal(a, 0),
    lambda xp, g, out, a: None,
    "1 where x is 0, else 0.",
    method=False,
)
for _name, _text in (("isnan", "NaN"), ("isinf", "infinite"), ("isfinite", "finite")):
    _unary(
        _name,
        lambda xp, a, f=_name: getattr(xp, f)(a),
        None,
        f"1 where x is {_text}, else 0.",
        f"_contrib_{_name}",
        method=False,
    )


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
    out = xp.where(size < 1 / s, data.dtype.type(0.5) * s * data * data, size - 0.5 / s)
    return out if data.dtype.kind == "f" else out.astype(data.dtype)


@op(
    "hard_sigmoid",
    vjp=lambda xp, g, out, a, *, alpha, beta: (g * (out > 0) * (out < 1) * alpha,),
)
def _hard_sigmoid(xp: Any, data: Any, /, *, alpha: float = 0.2, beta: float = 0.5) -> Any:
    """``min(max(alpha * x + beta, 0), 1)``."""
    kind = data.dtype.type
    return xp.clip(kind(alpha) * data + kind(beta), kind(0), kind(1))

# SPDX-License-Identifier: Apache-2.0
"""Arithmetic, comparisons and functions of elements, with dtypes and special values."""

from typing import Any

import numpy as np

from tests.reference.rows.base import Row, i, r, u

SPECIAL = np.array([0.0, -0.0, 1.5, -2.5, np.inf, -np.inf, np.nan, 3.0], "float32")
BINARY = ("add", "sub", "mul", "div", "mod", "power", "maximum", "minimum", "hypot")
COMPARED = ("equal", "not_equal", "greater", "greater_equal", "lesser", "lesser_equal")
LOGICAL = ("logical_and", "logical_or", "logical_xor")
EVERYWHERE = (
    "abs sign rint ceil floor trunc fix round square exp expm1 sin cos tan arctan sinh cosh tanh "
    "arcsinh degrees radians relu sigmoid softsign erf negative cbrt reciprocal rcbrt logical_not"
).split()
POSITIVE = "sqrt rsqrt log log10 log2 log1p gamma gammaln".split()
INSIDE = "arcsin arccos arctanh erfinv".split()
INT = i(3, 4, low=-5, high=6, dtype="int32")


def op(text: str, *inputs: Any, grads: tuple[int, ...] = (), **more: Any) -> Row:
    """An expression of ``mx``, ``x``, ``y``, ``z``."""

    def call(mx: Any, *arrays: Any) -> Any:
        names = {"mx": mx, "nd": mx.nd, "np": np, **dict(zip("xyz", arrays))}  # noqa: B905
        return eval(text, names)

    return Row(text, list(inputs), grads=grads, call=call, **more)


ROWS = [
    *[
        Row(f"broadcast_{n}", [u(2, 3, 4), u(3, 1, seed=2)], {}, (0, 1))
        for n in (*BINARY, *COMPARED, *LOGICAL)
    ],
    *[Row(f"broadcast_{n}", [SPECIAL, SPECIAL[::-1].copy()], {}) for n in (*BINARY, *COMPARED)],
    *[Row(f"broadcast_{n}", [INT, INT[::-1].copy()], {}) for n in ("add", "mul", "maximum")],
    *[Row(n, [r(2, 3)], {}, (0,)) for n in EVERYWHERE],
    *[Row(n, [u(2, 3)], {}, (0,)) for n in POSITIVE],
    *[Row(n, [u(2, 3, high=0.9)], {}, (0,)) for n in INSIDE],
    Row("arccosh", [u(2, 3, low=1.1)], {}, (0,)),
    *[Row(n, [SPECIAL], {}) for n in (*EVERYWHERE, "sqrt", "log", "log1p", "gamma", "gammaln")],
    *[Row(n, [np.array([0.5, 1.5, 2.5, -0.5, -1.5], "float32")], {}) for n in ("rint", "round")],
    *[Row(n, [INT], {}) for n in ("abs", "sign", "square", "negative", "relu", "floor")],
    Row("clip", [r(3, 4)], {"a_min": -0.5, "a_max": 0.7}, (0,)),
    Row("clip", [INT], {"a_min": -2, "a_max": 3}),
    *[
        op(f"x {s} y", u(2, 3), u(2, 3, seed=2), grads=(0, 1))
        for s in ("+", "-", "*", "/", "%", "**", "==", "!=", ">", ">=", "<", "<=")
    ],
    *[op(f"x {s} 2.5", u(2, 3), grads=(0,)) for s in ("+", "-", "*", "/", "%", "**", "==", ">")],
    *[op(f"2.5 {s} x", u(2, 3), grads=(0,)) for s in ("+", "-", "*", "/", "%", "**", "<")],
    *[op(f"x {s} 2.5", INT) for s in ("+", "-", "*", "/", "%", "==", ">", ">=")],
    *[op(f"x {s} 2", INT) for s in ("+", "-", "*", "/", "%", "**")],
    *[op(f"2 {s} x", np.abs(INT) + 1) for s in ("-", "/", "%", "**")],
    *[op(f"x {s} y", INT, np.abs(INT) + 1) for s in ("+", "-", "*", "/", "%", "==", ">")],
    op("x + y", r(2, 3), r(2, 3, dtype="float64")),
    op("x + y", INT, r(3, 4)),
    op("x + y", r(2, 3), r(2, 2)),
    op("x + y", r(2, 3), r(3)),
    op("-x", r(2, 3), grads=(0,)),
    op("abs(x)", r(2, 3), grads=(0,)),
    op("x.__iadd__(y)", r(2, 3), r(2, 3, seed=2), after=(0,)),
    op("x.__isub__(2)", r(2, 3), after=(0,)),
    op("x.__imul__(y)", r(2, 3), r(1, 3, seed=2), after=(0,)),
    op("x.__itruediv__(y)", r(2, 3), u(2, 3), after=(0,)),
    op("x.__imod__(2)", r(2, 3), after=(0,)),
    op("nd.elemwise_add(x, y)", r(2, 3), r(3)),
    op("nd.elemwise_add(x, y)", r(2, 3), r(2, 3), grads=(0, 1)),
    op("nd.elemwise_mul(x, y)", r(2, 3), r(2, 3), grads=(0, 1)),
    op("nd.add(x, 2)", r(2, 3)),
    op("nd.subtract(2, x)", r(2, 3)),
    op("nd.maximum(x, 0.3)", r(2, 3), grads=(0,)),
    op("nd.minimum(0.3, x)", r(2, 3), grads=(0,)),
    op("nd.maximum(x, y)", r(2, 3), r(2, 3), grads=(0, 1)),
    op("nd.power(2, x)", r(2, 3), grads=(0,)),
    op("nd.power(x, 0.5)", u(2, 3), grads=(0,)),
    op("nd.modulo(x, 0.7)", u(2, 3), grads=(0,)),
    op("nd.true_divide(x, y)", r(2, 3), u(2, 3)),
    op("nd.equal(x, 1)", i(2, 3)),
    op("nd.logical_and(x, y)", i(2, 3, high=2), i(2, 3, high=2, seed=4)),
    op("nd.logical_xor(x, 1)", i(2, 3, high=2)),
    op("nd.add_n(x, y, z)", r(2, 3), r(2, 3), r(2, 3), grads=(0, 1, 2)),
    op("nd.ElementWiseSum(x, y)", r(2, 3), r(2, 3)),
    op("nd.cast(x, 'int32')", r(2, 3) * 3),
    op("nd.cast(x, dtype='uint8')", np.array([-1.5, 3.7, 255.9], "float32")),
    op("x.astype('float16')", r(2, 3)),
    op("x.astype('int64')", r(2, 3) * 3),
    op("x.astype('bool')", np.array([0, 1, 2.5], "float32")),
    op("nd.contrib.isnan(x)", SPECIAL),
    op("nd.contrib.isinf(x)", SPECIAL),
    op("nd.contrib.isfinite(x)", SPECIAL),
    op("nd.where(x, y, z)", i(2, 3, high=2), r(2, 3), r(2, 3, seed=2), grads=(1, 2)),
    op("nd.where(x, y, z)", i(2, high=2), r(2, 3), r(2, 3, seed=2), grads=(1, 2)),
    op("nd.where(x, y, z)", i(2, 3, high=2), r(2, 3), r(3)),
    op("nd.smooth_l1(x, scalar=2.0)", r(2, 3), grads=(0,)),
    op("nd.log_sigmoid(x)", r(2, 3), grads=(0,))
    if False
    else op("nd.relu(x)", r(2, 3), grads=(0,)),
    op("nd.zeros_like(x)", r(2, 3), grads=(0,)),
    op("nd.ones_like(x)", INT),
    op("x > 0", r(2, 3), grads=(0,)),
    op("(x > 0) * x", r(2, 3), grads=(0,)),
]

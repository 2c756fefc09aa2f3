# SPDX-License-Identifier: Apache-2.0
"""Draws from a given seed."""

from typing import Any

import numpy as np

from tests.reference.rows.base import Row, r


def draw(name: str, *args: Any, exact: bool = True, **attrs: Any) -> Row:
    """`name` with the arguments after seeding; equal bits where `exact`."""
    plain = [a if isinstance(a, np.ndarray) else None for a in args]
    arrays = [a for a in plain if a is not None]

    def call(mx: Any, *given: Any) -> Any:
        mx.random.seed(11)
        left = list(given)
        function = mx.nd
        for part in name.split("."):
            function = getattr(function, part)
        mine = [a if p is None else left.pop(0) for a, p in zip(args, plain)]  # noqa: B905
        return function(*mine, **attrs)

    tolerance = {"rtol": 0.0, "atol": 0.0} if exact else {"rtol": 2e-6, "atol": 1e-7}
    return Row(f"{name}{attrs}", arrays, call=call, **tolerance)


def a(*values: float) -> Any:
    return np.array(values, "float32")


P = a(0.1, 0.2, 0.3, 0.4)
SHAPES: list[Any] = [(5,), (64,), (65,), (30, 40)]
ROWS = [
    *[draw("random.uniform", -1, 2.5, shape=s) for s in SHAPES],
    *[draw("random.uniform", shape=(70,), dtype=d) for d in ("float16", "float64")],
    *[draw("random.normal", 1, 2.5, shape=s, exact=False) for s in SHAPES],
    *[draw("random.normal", shape=(70,), dtype=d, exact=False) for d in ("float16", "float64")],
    *[draw("random.exponential", 2.5, shape=s, exact=False) for s in SHAPES],
    *[draw("random.randint", -5, 300, shape=s) for s in SHAPES],
    draw("random.randint", 0, 2**40, shape=(9,), dtype="int64"),
    *[draw("random.gamma", 2.5, 3, shape=s, exact=False) for s in SHAPES],
    *[draw("random.gamma", 0.4, 3, shape=s, exact=False) for s in SHAPES],
    draw("random.gamma", 2.5, 3, shape=(70,), dtype="float64", exact=False),
    *[draw("random.poisson", 3.5, shape=s) for s in SHAPES],
    *[draw("random.poisson", 40, shape=s) for s in SHAPES],
    *[draw("random.negative_binomial", 3, 0.4, shape=s) for s in SHAPES],
    *[draw("random.generalized_negative_binomial", 5, 0.4, shape=s) for s in SHAPES],
    draw("random.generalized_negative_binomial", 5, 0.0, shape=(9,)),
    draw("random.uniform", a(0, 10), a(1, 20), shape=3),
    draw("random.uniform", a(0, 10), a(1, 20)),
    draw("random.normal", a(0, 10), a(1, 20), shape=(40, 2), exact=False),
    draw("random.exponential", a(1, 10), shape=3, exact=False),
    draw("random.gamma", a(0.5, 10), a(1, 2), shape=(50,), exact=False),
    draw("random.poisson", a(0.5, 30), shape=(50,)),
    draw("random.negative_binomial", a(2, 5), a(0.3, 0.6), shape=(50,)),
    draw("random.generalized_negative_binomial", a(2, 5), a(0.3, 0.6), shape=(50,)),
    draw("random.multinomial", P),
    draw("random.multinomial", P, shape=(6,)),
    draw("random.multinomial", P, shape=(2, 3), dtype="float32"),
    draw("random.multinomial", np.stack([P, P[::-1]]), shape=4),
    draw("random.multinomial", np.stack([P, P[::-1]])),
    draw("random.multinomial", np.stack([P, P[::-1]]), shape=4, get_prob=True, exact=False),
    *[draw("random.shuffle", np.arange(n, dtype="float32")) for n in (1, 2, 10, 1000)],
    *[draw("random.shuffle", np.arange(2 * n).reshape(n, 2)) for n in (1, 2, 10, 1000)],
    draw("random.randn", 2, 3, exact=False),
    draw("random.randn", 2, 3, loc=3, scale=0.5, exact=False),
    *[
        draw(f"random.{n}_like", r(3, 4), exact=False, **more)
        for n, more in (
            ("uniform", {"low": -1, "high": 2}),
            ("normal", {"loc": 1, "scale": 2}),
            ("exponential", {"lam": 3.0}),
            ("gamma", {"alpha": 2.0, "beta": 0.5}),
            ("poisson", {"lam": 3.0}),
            ("negative_binomial", {"k": 3, "p": 0.4}),
            ("generalized_negative_binomial", {"mu": 3.0, "alpha": 0.4}),
        )
    ],
    draw("random_uniform", low=-1, high=2, shape=(3,)),
    draw("random_exponential", lam=4, shape=(3,), exact=False),
    draw("sample_uniform", a(0, 10), a(1, 20), shape=3),
    draw("sample_normal", a(0, 10), a(1, 20), shape=3, exact=False),
    draw("sample_exponential", a(2, 10), shape=3, exact=False),
    draw("sample_gamma", a(2, 10), a(1, 2), shape=3, exact=False),
    draw("sample_poisson", a(2, 10), shape=3),
    draw("sample_multinomial", P, shape=(6,)),
    draw("uniform", low=-1, high=2, shape=(3,)),
    draw("normal", loc=-1, scale=2, shape=(3,), exact=False),
    draw("contrib.rand_zipfian", a(1, 2), 4, 100, exact=False),
    draw("random.uniform", 0, 1, shape=(2,), dtype="int32"),
    draw("random.normal", 0, -1, shape=(2,)),
    draw("random.gamma", -1, 1, shape=(2,)),
    draw("random.poisson", -1, shape=(2,)),
    draw("random.exponential", -1, shape=(2,)),
]

# SPDX-License-Identifier: Apache-2.0
"""Densities of distributions at samples: ``random_pdf_*``.

Parameters have the shape of the batch, samples that shape followed by the samples of each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from kvtrain.ops.derive import derived
from kvtrain.ops.registry import op


def _wide(xp: Any, parameter: Any, sample: Any) -> Any:
    """A parameter in the shape of the samples."""
    shape = tuple(parameter.shape) + (1,) * (len(sample.shape) - len(parameter.shape))
    return xp.broadcast_to(xp.reshape(parameter, shape), tuple(sample.shape))


def _uniform(xp: Any, x: Any, low: Any, high: Any) -> Any:
    return -xp.log(high - low) + x * 0


def _normal(xp: Any, x: Any, mu: Any, sigma: Any) -> Any:
    u = (x - mu) / sigma
    return u * u * -0.5 - xp.log(sigma) - 0.5 * math.log(2 * math.pi)


def _gamma(xp: Any, x: Any, alpha: Any, beta: Any) -> Any:
    return alpha * xp.log(beta) + (alpha - 1) * xp.log(x) - beta * x - xp.gammaln(alpha)


def _exponential(xp: Any, x: Any, lam: Any) -> Any:
    return xp.log(lam) - lam * x


def _poisson(xp: Any, x: Any, lam: Any) -> Any:
    return x * xp.log(lam) - xp.gammaln(x + 1) - lam


def _counts(xp: Any, x: Any, limit: Any, prob: Any) -> Any:
    """Negative binomial."""
    ways = xp.gammaln(x + limit) - xp.gammaln(x + 1) - xp.gammaln(limit)
    return ways + limit * xp.log(prob) + x * xp.log(1 - prob)


def _general_counts(xp: Any, x: Any, mu: Any, alpha: Any) -> Any:
    return _counts(xp, x, 1 / alpha, 1 / (mu * alpha + 1))


def _register(
    name: str, formula: Callable[..., Any], first: str, second: str | None, doc: str
) -> None:
    def whole(xp: Any, sample: Any, *parameters: Any, is_log: bool = False) -> Any:
        wide = [_wide(xp, p, sample) for p in parameters]
        logs = formula(xp, sample, *wide)
        return logs if is_log else xp.exp(logs)

    def check(sample: Any, *parameters: Any) -> None:
        for p in parameters:
            if tuple(sample.shape[: p.ndim]) != p.shape:
                raise ValueError(f"sample {sample.shape} does not begin with {p.shape}")

    def one(xp: Any, sample: Any, a: Any, /, *, is_log: bool = False) -> Any:
        check(sample, a)
        return whole(xp, sample, a, is_log=is_log)

    def two(xp: Any, sample: Any, a: Any, b: Any, /, *, is_log: bool = False) -> Any:
        check(sample, a, b)
        return whole(xp, sample, a, b, is_log=is_log)

    names = {"a": first, "b": second}
    op(
        f"_random_pdf_{name}",
        vjp=derived(whole),
        aliases=(f"random_pdf_{name}",),
        renamed={k: v for k, v in names.items() if v},
        doc=doc,
    )(one if second is None else two)


_register("uniform", _uniform, "low", "high", "Density of the uniform distribution.")
_register("normal", _normal, "mu", "sigma", "Density of the normal distribution.")
_register("gamma", _gamma, "alpha", "beta", "Density of the gamma distribution of rate beta.")
_register("exponential", _exponential, "lam", None, "Density of the exponential distribution.")
_register("poisson", _poisson, "lam", None, "Probability of a Poisson distribution.")
_register("negative_binomial", _counts, "k", "p", "Probability of a negative binomial.")
_register(
    "generalized_negative_binomial",
    _general_counts,
    "mu",
    "alpha",
    "Probability of a negative binomial of mean mu and dispersion alpha.",
)


def _dirichlet(xp: Any, sample: Any, alpha: Any, *, is_log: bool) -> Any:
    shape = (
        tuple(alpha.shape[:-1]) + (1,) * (len(sample.shape) - len(alpha.shape)) + (alpha.shape[-1],)
    )
    wide = xp.broadcast_to(xp.reshape(alpha, shape), tuple(sample.shape))
    last = len(sample.shape) - 1
    logs = (
        xp.sum((wide - 1) * xp.log(sample), axis=last)
        + xp.gammaln(xp.sum(wide, axis=last))
        - xp.sum(xp.gammaln(wide), axis=last)
    )
    return logs if is_log else xp.exp(logs)


@op("_random_pdf_dirichlet", vjp=derived(_dirichlet), aliases=("random_pdf_dirichlet",))
def _pdf_dirichlet(xp: Any, sample: Any, alpha: Any, /, *, is_log: bool = False) -> Any:
    """Density of the Dirichlet distribution, over the last dimension."""
    if sample.shape[-1] != alpha.shape[-1] or sample.shape[: alpha.ndim - 1] != alpha.shape[:-1]:
        raise ValueError(f"sample {sample.shape} and alpha {alpha.shape} do not fit")
    return _dirichlet(xp, sample, alpha, is_log=is_log)

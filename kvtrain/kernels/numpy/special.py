# SPDX-License-Identifier: Apache-2.0
"""Functions that NumPy lacks, from the standard library, element by element."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def _each(function: Callable[[float], float], data: Array) -> Array:
    if not data.size:
        return np.array(data)
    return np.asarray(np.frompyfunc(function, 1, 1)(data), data.dtype)


def _lgamma(x: float) -> float:
    try:
        return math.lgamma(x)
    except (ValueError, OverflowError):  # a pole
        return math.inf


def _tgamma(x: float) -> float:
    try:
        return math.gamma(x)
    except OverflowError:
        return math.inf
    except ValueError:
        return math.copysign(math.inf, x) if x == 0 else math.nan


def erf(data: Array) -> Array:
    """Error function."""
    return _each(math.erf, data)


def gammaln(data: Array) -> Array:
    """Logarithm of the absolute value of the gamma function."""
    return _each(_lgamma, data)


def gamma(data: Array) -> Array:
    """Gamma function."""
    return _each(_tgamma, data)


def erfinv(data: Array) -> Array:
    """Inverse of the error function: Giles's start (2010), then two steps of Newton's method."""
    x = np.asarray(data, np.float64)
    w = -np.log((1 - x) * (1 + x))
    near = w < 5
    small = np.where(near, w - 2.5, 0.0)
    large = np.where(near, 0.0, np.sqrt(np.where(near, 9.0, w)) - 3)
    low = np.polyval(_NEAR, small)
    high = np.polyval(_FAR, large)
    y = np.where(near, low, high) * x
    for _ in range(2):
        step = (_each(math.erf, y) - x) / (2 / math.sqrt(math.pi) * np.exp(-y * y))
        y = np.where(np.isfinite(step), y - step, y)
    y = np.where(np.abs(x) == 1, np.copysign(np.inf, x), y)
    return np.where(np.abs(x) > 1, np.nan, y).astype(data.dtype)


_NEAR = (
    *(2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087),
    *(-0.00125372503, -0.00417768164, 0.246640727, 1.50140941),
)
_FAR = (
    *(-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773),
    *(-0.0076224613, 0.00943887047, 1.00167406, 2.83297682),
)


def polygamma(data: Array, *, order: int) -> Array:
    """Derivative number `order` + 1 of the logarithm of the gamma function.

    By recurrence to large arguments and the asymptotic series there; reflected below 1/2 for
    order 0.
    """
    x = np.asarray(data, np.float64)
    if order == 0:
        turned = x < 0.5
        shifted = np.where(turned, 1 - x, x)
        out = _polygamma(shifted, 0)
        with np.errstate(all="ignore"):
            reflected = out - np.pi / np.tan(np.pi * x)
        return np.where(turned, reflected, out).astype(data.dtype)
    return _polygamma(x, order).astype(data.dtype)


#: Bernoulli numbers B2, B4, ...
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)


def _polygamma(x: Array, order: int) -> Array:
    sign = -1.0 if order % 2 == 0 else 1.0
    total = np.zeros_like(x)
    for _ in range(15):
        total += sign * math.factorial(order) / x ** (order + 1)
        x = x + 1
    if order == 0:
        series = np.log(x) - 0.5 / x
        for k, b in enumerate(_BERNOULLI, start=1):
            series -= b / (2 * k * x ** (2 * k))
        return total + series
    series = math.factorial(order - 1) / x**order + math.factorial(order) / (2 * x ** (order + 1))
    for k, b in enumerate(_BERNOULLI, start=1):
        factor = math.factorial(2 * k + order - 1) / math.factorial(2 * k)
        series += b * factor / x ** (2 * k + order)
    return total + sign * series

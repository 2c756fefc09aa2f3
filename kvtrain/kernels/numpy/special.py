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


#: Cody's rational approximations (1969) of erf for |x| below 0.46875, and of erfc up to 4, beyond
_A: tuple[float, ...] = (1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2)
_A = (*_A, 3.77485237685302021e2, 3.20937758913846947e3)
_B: tuple[float, ...] = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3)
_B = (*_B, 2.84423683343917062e3)
_C: tuple[float, ...] = (
    2.15311535474403846e-8,
    5.64188496988670089e-1,
    8.88314979438837594,
    6.61191906371416295e1,
)
_C = (*_C, 2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3)
_C = (*_C, 2.05107837782607147e3, 1.23033935479799725e3)
_D: tuple[float, ...] = (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2)
_D = (*_D, 1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3)
_D = (*_D, 3.43936767414372164e3, 1.23033935480374942e3)
_P: tuple[float, ...] = (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1)
_P = (*_P, 1.25781726111229246e-1, 1.60837851487422766e-2, 6.58749161529837803e-4)
_Q: tuple[float, ...] = (1.0, 2.56852019228982242, 1.87295284992346047, 5.27905102951428412e-1)
_Q = (*_Q, 6.05183413124413191e-2, 2.33520497626869185e-3)


def _ratio(top: tuple[float, ...], below: tuple[float, ...], x: Array) -> Array:
    return np.polyval(top, x) / np.polyval(below, x)


#: a rational approximation of erf(x) / x in x * x on [-4, 4], good for single precision
_TOP: tuple[float, ...] = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
)
_TOP = (*_TOP, -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02)
_BELOW: tuple[float, ...] = (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03)
_BELOW = (*_BELOW, -7.37332916720468e-03, -1.42647390514189e-02)
_SPAN = 16 * 1024


def _horner(coefficients: tuple[float, ...], x: Array, out: Array) -> Array:
    out[...] = np.float32(coefficients[0])
    for c in coefficients[1:]:
        np.multiply(out, x, out=out)
        np.add(out, np.float32(c), out=out)
    return out


def _erf_single(data: Array) -> Array:
    """In blocks that stay in the cache."""
    flat = data.astype(np.float32).reshape(-1)
    square, top, below = (np.empty(min(_SPAN, flat.size), np.float32) for _ in range(3))
    for low in range(0, flat.size, _SPAN):
        x = flat[low : low + _SPAN]
        np.clip(x, np.float32(-4), np.float32(4), out=x)
        s = np.multiply(x, x, out=square[: x.size])
        np.multiply(x, _horner(_TOP, s, top[: x.size]), out=x)
        np.divide(x, _horner(_BELOW, s, below[: x.size]), out=x)
        np.clip(x, np.float32(-1), np.float32(1), out=x)
    return flat.reshape(data.shape).astype(data.dtype, copy=False)


def erf(data: Array) -> Array:
    """Error function."""
    if data.dtype in (np.float32, np.float16):
        return _erf_single(data)
    flat = np.asarray(data, np.float64).reshape(-1)
    size = np.abs(flat)
    out = np.empty_like(flat)
    low, high = size <= 0.46875, size > 4
    middle = ~(low | high)
    x = flat[low]
    out[low] = x * _ratio(_A, _B, x * x)
    x = size[middle]
    out[middle] = 1 - np.exp(-x * x) * _ratio(_C, _D, x)
    x = size[high]
    inverse = 1 / (x * x)
    tail = (1 / math.sqrt(math.pi) - inverse * _ratio(_P, _Q, inverse)) / x
    out[high] = 1 - np.exp(-x * x) * tail
    out[~low] = np.copysign(out[~low], flat[~low])
    return out.reshape(data.shape).astype(data.dtype)


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
        step = (erf(y) - x) / (2 / math.sqrt(math.pi) * np.exp(-y * y))
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

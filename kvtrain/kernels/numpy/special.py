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


def erf(data: Array) -> Array:
    """Error function."""
    return _each(math.erf, data)


def gammaln(data: Array) -> Array:
    """Logarithm of the absolute value of the gamma function."""
    return _each(math.lgamma, data)


def gamma(data: Array) -> Array:
    """Gamma function."""
    return _each(math.gamma, data)

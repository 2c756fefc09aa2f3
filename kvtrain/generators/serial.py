# SPDX-License-Identifier: Apache-2.0
"""The one stream that multinomial and shuffle draw from, beside the states of the others."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.generators.state import generators, unit_double, unit_of

Array = np.ndarray[Any, Any]


def serial_unit(count: int, dtype: str = "float32") -> Array:
    """`count` numbers of float32 or float64, uniform in [0, 1)."""
    with generators.lock:
        if dtype == "float64":
            return unit_double(generators.serial.words(2 * count))
        return unit_of(generators.serial.words(count))


def below(bounds: Array) -> Array:
    """An integer below each of `bounds`, as std::uniform_int_distribution draws them."""
    sizes = np.asarray(bounds, np.int64)
    scaling = (2**32 - 1) // sizes
    with generators.lock:
        words = generators.serial.words(sizes.size).astype(np.int64)
        drawn = words // scaling
        if (drawn < sizes).all():
            return drawn
        # a word past the last whole multiple is thrown away: go on one by one from there
        generators.serial.unread(words.astype(np.uint32))
        out = np.empty_like(sizes)
        for i, (size, step) in enumerate(zip(sizes.tolist(), scaling.tolist(), strict=True)):
            value = size
            while value >= size:
                value = int(generators.serial.words(1)[0]) // step
            out[i] = value
        return out


def shuffled(count: int, vector: bool) -> Array:
    """A random order of `count` things, as MXNet shuffles a vector, or the rows of an array."""
    order = np.arange(count)
    if count < 2:
        return order
    places = list(range(count))
    if vector:
        drawn = below(np.arange(2, count + 1)).tolist()
        for i, j in enumerate(drawn, start=1):
            places[i], places[j] = places[j], places[i]
    else:
        drawn = below(np.arange(count, 1, -1)).tolist()
        for i, j in zip(range(count - 1, 0, -1), drawn, strict=True):
            places[i], places[j] = places[j], places[i]
    return order[places]

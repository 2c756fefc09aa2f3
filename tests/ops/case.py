# SPDX-License-Identifier: Apache-2.0
"""What a row of the gradient tests is, and the numbers it is made of."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

_rng = np.random.default_rng(3)


def x(*shape: int) -> Any:
    """Values away from 0 and from each other, of both signs."""
    size = int(np.prod(shape))
    values = (np.arange(size) - size / 2 + 0.3) / 3
    return _rng.permutation(values).reshape(shape)


def p(*shape: int) -> Any:
    """Positive values."""
    return np.abs(x(*shape)) + 0.2


def unit(*shape: int) -> Any:
    """Values inside (-1, 1)."""
    return x(*shape) / (np.abs(x(*shape)).max() + 1)


@dataclass
class Case:
    op: str
    inputs: list[Any]
    attrs: dict[str, Any] = field(default_factory=dict)
    wanted: list[int] | None = None
    #: how many outputs are differentiated; None: all
    outputs: int | None = None
    #: which inputs are differentiated twice; None: all wanted (fewer where that takes long)
    twice: list[int] | None = None
    #: what is done to the inputs first: an operator may need symmetric ones, say
    before: Any = None

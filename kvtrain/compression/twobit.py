# SPDX-License-Identifier: Apache-2.0
"""MXNet's 2-bit quantisation: a value becomes threshold, -threshold or 0."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from kvtrain.compression.base import Array, Compressor, register
from kvtrain.errors import ConfigError
from kvtrain.kernels import xp


@register
class TwoBit(Compressor):
    """Sixteen values in four bytes; the arithmetic is MXNet's, bit for bit.

    Parameters
    ----------
    threshold : float
        What is sent for values of at least this magnitude; greater than 0, default 0.5.
    """

    name = "2bit"
    code = 3
    defaults: ClassVar[dict[str, float]] = {"threshold": 0.5}

    def check(self) -> None:
        """Raise ConfigError for a threshold that is not positive."""
        if not self.parameters["threshold"] > 0:
            raise ConfigError(
                f"2bit compression: threshold must be greater than 0, not "
                f"{self.parameters['threshold']}"
            )

    def wire_bytes(self, size: int) -> int:
        """Four values a byte."""
        return -(-size // 4)

    def compress(self, values: Array) -> Array:
        """See the base class."""
        return self.compress_total(values.copy())

    def compress_total(self, total: Array) -> Array:
        """See the base class; one pass."""
        wire = np.empty(self.wire_bytes(total.size), np.uint8)
        xp.twobit_encode(total, self.parameters["threshold"], wire)
        return wire

    def decompress(self, wire: Array, out: Array) -> None:
        """See the base class."""
        xp.twobit_decode(wire, self.parameters["threshold"], out)

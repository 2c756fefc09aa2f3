# SPDX-License-Identifier: Apache-2.0
"""Signs, and one scale for each group of values (Seide et al., 2014; Karimireddy et al., 2019)."""

from __future__ import annotations

import numpy as np

from kvtrain.compression.base import Array, Compressor, register
from kvtrain.kernels import xp

#: values that share one scale; part of the wire format
GROUP = 1024


@register
class OneBit(Compressor):
    """A value becomes the mean magnitude of its group of 1,024, with its sign."""

    name = "1bit"
    code = 4

    def wire_bytes(self, size: int) -> int:
        """The scales, then eight signs a byte."""
        return 4 * -(-size // GROUP) + -(-size // 8)

    def compress(self, values: Array) -> Array:
        """See the base class."""
        wire = np.empty(self.wire_bytes(values.size), np.uint8)
        scales, bits = self._parts(wire, values.size)
        xp.onebit_encode(values, scales, bits)
        return wire

    def decompress(self, wire: Array, out: Array) -> None:
        """See the base class."""
        xp.onebit_decode(*self._parts(wire, out.size), out)

    @staticmethod
    def _parts(wire: Array, size: int) -> tuple[Array, Array]:
        cut = 4 * -(-size // GROUP)
        return wire[:cut].view("<f4"), wire[cut:]

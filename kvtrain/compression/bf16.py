# SPDX-License-Identifier: Apache-2.0
"""bfloat16: the upper halves of float32, 2 bytes a value, with its whole range."""

from __future__ import annotations

import numpy as np

from kvtrain.compression.base import Array, Compressor, register
from kvtrain.kernels import xp


@register
class BF16(Compressor):
    """Rounded to the nearest, ties to even. Faster than fp16, with 8 bits instead of 11."""

    name = "bf16"
    code = 2

    def wire_bytes(self, size: int) -> int:
        """Two bytes a value."""
        return 2 * size

    def compress(self, values: Array) -> Array:
        """See the base class."""
        wire = np.empty(values.size, "<u2")
        xp.bf16_encode(values, wire)
        return wire.view(np.uint8)

    def decompress(self, wire: Array, out: Array) -> None:
        """See the base class."""
        xp.bf16_decode(wire.view("<u2"), out)

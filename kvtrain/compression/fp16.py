# SPDX-License-Identifier: Apache-2.0
"""Half precision: 2 bytes a value."""

from __future__ import annotations

import numpy as np

from kvtrain.compression.base import Array, Compressor, register
from kvtrain.kernels import xp


@register
class FP16(Compressor):
    """IEEE float16; values beyond its range become its largest number."""

    name = "fp16"
    code = 1

    def wire_bytes(self, size: int) -> int:
        """Two bytes a value."""
        return 2 * size

    def compress(self, values: Array) -> Array:
        """See the base class."""
        wire = np.empty(values.size, "<f2")
        xp.fp16_encode(values, wire)
        return wire.view(np.uint8)

    def decompress(self, wire: Array, out: Array) -> None:
        """See the base class."""
        np.copyto(out, wire.view("<f2"))

# SPDX-License-Identifier: Apache-2.0
"""Only the values of largest magnitude (Aji and Heafield, 2017; Stich et al., 2018)."""

from __future__ import annotations

from math import ceil
from typing import ClassVar

import numpy as np

from kvtrain.compression.base import Array, Compressor, register
from kvtrain.errors import ConfigError, RemoteProtocolError
from kvtrain.kernels import xp

#: values that are ranked together; places within a block fit 16 bits. Part of the wire format
BLOCK = 64 * 1024


@register
class TopK(Compressor):
    """Of every 65,536 values the fraction `ratio` of largest magnitude; 6 bytes each.

    Parameters
    ----------
    ratio : float
        Greater than 0, at most 1; default 0.01.
    """

    name = "topk"
    code = 5
    defaults: ClassVar[dict[str, float]] = {"ratio": 0.01}

    def check(self) -> None:
        """Raise ConfigError for a ratio out of (0, 1]."""
        if not 0 < self.parameters["ratio"] <= 1:
            raise ConfigError(
                f"topk compression: ratio must be in (0, 1], not {self.parameters['ratio']}"
            )

    def _counts(self, size: int) -> list[int]:
        return [
            max(1, ceil(self.parameters["ratio"] * min(BLOCK, size - low)))
            for low in range(0, size, BLOCK)
        ]

    def wire_bytes(self, size: int) -> int:
        """Values, then their places in the block."""
        return 6 * sum(self._counts(size))

    def compress(self, values: Array) -> Array:
        """See the base class."""
        counts = self._counts(values.size)
        wire = np.empty(6 * sum(counts), np.uint8)
        chosen, places = self._parts(wire)
        xp.topk_encode(values, counts, places, chosen)
        return wire

    def compress_total(self, total: Array) -> Array:
        """See the base class; what was sent leaves nothing."""
        wire = self.compress(total)
        at, places = 0, self._parts(wire)[1]
        for low, count in zip(range(0, total.size, BLOCK), self._counts(total.size), strict=True):
            total[low : low + BLOCK][places[at : at + count]] = 0
            at += count
        return wire

    def decompress(self, wire: Array, out: Array) -> None:
        """See the base class."""
        chosen, places = self._parts(wire)
        xp.topk_decode(self._counts(out.size), places, chosen, out)

    def check_wire(self, wire: Array, size: int) -> None:
        """See the base class; places past the end of the last block are refused too."""
        super().check_wire(wire, size)
        last = size % BLOCK
        if last:
            places = self._parts(wire)[1][-self._counts(size)[-1] :]
            if int(places.max()) >= last:
                raise RemoteProtocolError(
                    f"topk code of {size} values: place {int(places.max())} in a block of {last}"
                )

    @staticmethod
    def _parts(wire: Array) -> tuple[Array, Array]:
        cut = wire.size // 6 * 4
        return wire[:cut].view("<f4"), wire[cut:].view("<u2")

# SPDX-License-Identifier: Apache-2.0
"""Error feedback: what a codec lost is added to the next gradient (Seide et al., 2014)."""

from __future__ import annotations

import numpy as np

from kvtrain.compression.base import Array, Compressor


class ErrorFeedback:
    """A codec and the residual of one array; without feedback, the codec alone.

    The result of :meth:`compress` is kept by the sender until it is acknowledged: sending it
    again must not compress again, or the residual would be counted twice.
    """

    def __init__(self, compressor: Compressor) -> None:
        self.compressor = compressor
        #: what was not sent yet; None before the first gradient and without feedback
        self.residual: Array | None = None

    def compress(self, gradient: Array) -> Array:
        """Encode a flat gradient of any float type to uint8; the gradient is not changed."""
        if not self.compressor.error_feedback:
            return self.compressor.compress(np.ascontiguousarray(gradient, np.float32))
        if self.residual is None:
            self.residual = np.zeros(gradient.size, np.float32)
        total = self.residual
        with np.errstate(invalid="ignore", over="ignore"):
            np.add(total, gradient, out=total, casting="same_kind")
            wire = self.compressor.compress_total(total)
            if not np.isfinite(np.dot(total, total)):
                # NaN or infinity was sent once; it must not stay here for ever
                total[~np.isfinite(total)] = 0
        return wire

    def give_back(self, wire: Array) -> None:
        """What was sent did not count (PROTOCOL R39): it belongs to the residual again."""
        if self.residual is not None:
            sent = np.empty_like(self.residual)
            self.compressor.decompress(wire, sent)
            np.add(self.residual, sent, out=self.residual)

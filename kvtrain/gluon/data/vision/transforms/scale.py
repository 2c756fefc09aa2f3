# SPDX-License-Identifier: Apache-2.0
"""From pixels to the numbers that networks take."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.errors import ConfigError
from kvtrain.gluon.block import HybridBlock
from kvtrain.ndarray import NDArray


class ToTensor(HybridBlock):
    """(h, w, c) or (n, h, w, c) of 0 to 255, to (c, h, w) or (n, c, h, w) of 0 to 1, float32."""

    def hybrid_forward(self, F: Any, x: NDArray) -> Any:
        """See the class."""
        if x.ndim not in (3, 4):
            raise ConfigError(f"ToTensor: shape {x.shape}; (h, w, c) or (n, h, w, c) is needed")
        axes = (2, 0, 1) if x.ndim == 3 else (0, 3, 1, 2)
        return F.transpose(F.cast(x, dtype="float32"), axes=axes) / 255


class Normalize(HybridBlock):
    """``(x - mean) / std`` for each channel of (c, h, w) or (n, c, h, w).

    Parameters
    ----------
    mean, std : float or tuple of float
    """

    def __init__(self, mean: Any = 0.0, std: Any = 1.0) -> None:
        super().__init__()
        self._mean = np.asarray(mean, np.float32).reshape(-1, 1, 1)
        self._std = np.asarray(std, np.float32).reshape(-1, 1, 1)

    def hybrid_forward(self, F: Any, x: NDArray) -> Any:
        """See the class."""
        channels = x.shape[-3] if x.ndim in (3, 4) else 0
        for name, given in (("mean", self._mean), ("std", self._std)):
            if not channels or len(given) not in (1, channels):
                raise ConfigError(
                    f"Normalize: {name} of {len(given)} channels does not fit shape {x.shape}; "
                    "(c, h, w) or (n, c, h, w) is needed"
                )
        mean, std = NDArray(self._mean, x.context), NDArray(self._std, x.context)
        return F.broadcast_div(F.broadcast_sub(x, mean), std)

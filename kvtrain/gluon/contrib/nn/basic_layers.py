# SPDX-License-Identifier: Apache-2.0
"""Blocks side by side, pixel shuffles, sparse embedding, batch norm over devices."""

from __future__ import annotations

import math
from typing import Any

from kvtrain import ndarray as nd
from kvtrain.gluon.block import Block, HybridBlock
from kvtrain.gluon.nn.basic_layers import HybridSequential, Identity, Sequential
from kvtrain.gluon.nn.conv import dims
from kvtrain.gluon.nn.norm import BatchNorm

__all__ = [
    "Concurrent",
    "HybridConcurrent",
    "Identity",
    "PixelShuffle1D",
    "PixelShuffle2D",
    "PixelShuffle3D",
    "SparseEmbedding",
    "SyncBatchNorm",
]


class Concurrent(Sequential):
    """Blocks on the same input, their outputs joined along `axis`."""

    def __init__(self, axis: int = -1, prefix: str | None = None, params: Any = None) -> None:
        super().__init__(prefix=prefix, params=params)
        self.axis = axis

    def forward(self, x: Any, *args: Any) -> Any:
        """Joined outputs of all blocks."""
        return nd.concatenate([block(x) for block in self._children.values()], axis=self.axis)


class HybridConcurrent(HybridSequential):
    """HybridBlocks on the same input, their outputs joined along `axis`."""

    def __init__(self, axis: int = -1, prefix: str | None = None, params: Any = None) -> None:
        super().__init__(prefix=prefix, params=params)
        self.axis = axis

    def forward(self, x: Any, *args: Any) -> Any:
        """Joined outputs of all blocks."""
        return nd.concatenate([block(x) for block in self._children.values()], axis=self.axis)


class SparseEmbedding(Block):
    """Rows of a table, looked up by integers; weight and gradient are row-sparse.

    Parameters
    ----------
    input_dim : int
        Number of rows.
    output_dim : int
        Width of a row.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        dtype: Any = "float32",
        weight_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._kwargs = {"input_dim": input_dim, "output_dim": output_dim, "dtype": dtype}
        self.weight: Any = self.params.get(
            "weight",
            shape=(input_dim, output_dim),
            init=weight_initializer,
            dtype=dtype,
            grad_stype="row_sparse",
            stype="row_sparse",
        )

    def forward(self, x: Any) -> Any:
        """Rows for the numbers in `x`, of shape ``x.shape + (output_dim,)``."""
        weight = self.weight.row_sparse_data(x)
        return nd.Embedding(x, weight, sparse_grad=True, **self._kwargs)  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        k = self._kwargs
        return f"SparseEmbedding({k['input_dim']} -> {k['output_dim']}, {k['dtype']})"


class SyncBatchNorm(BatchNorm):
    """Batch normalisation over the devices of one process.

    The contexts of a process are computed one after another, so the statistics are those of the
    batch on each context, as BatchNorm computes them, whatever `num_devices` says.

    Parameters
    ----------
    num_devices : int, optional
        Shown by ``repr``; nothing else depends on it.

    The others are those of BatchNorm.
    """

    def __init__(
        self,
        in_channels: int = 0,
        num_devices: int | None = None,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        use_global_stats: bool = False,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        running_mean_initializer: Any = "zeros",
        running_variance_initializer: Any = "ones",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            1,
            momentum,
            epsilon,
            center,
            scale,
            use_global_stats,
            beta_initializer,
            gamma_initializer,
            running_mean_initializer,
            running_variance_initializer,
            in_channels,
            **kwargs,
        )
        self._num_devices = 1 if num_devices is None else num_devices

    def __repr__(self) -> str:
        shown = {k: v for k, v in self._kwargs.items() if k != "axis"}
        inside = ", ".join(f"{k}={v!r}" for k, v in shown.items())
        channels = (self.gamma.shape or (0,))[0] or None
        return (
            f"SyncBatchNorm({inside}, ndev={self._num_devices}, key='{self.prefix}', "
            f"in_channels={channels})"
        )


class _PixelShuffle(HybridBlock):
    """Channels to space: (n, f1 * .. * fk * c, d1, .., dk) to (n, c, d1 * f1, .., dk * fk)."""

    _rank = 1

    def __init__(self, factor: Any) -> None:
        super().__init__()
        self._factors = dims(factor, self._rank, "factor", type(self).__name__)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """See the class."""
        factors = self._factors
        rank = len(factors)
        rest = math.prod(factors)
        x = F.reshape(x, shape=(0, -4, -1, rest, *(0,) * rank))  # (n, c, f1 * .. * fk, d1, ..)
        for i, f in enumerate(factors[:-1]):
            rest //= f
            x = F.reshape(x, shape=(*(0,) * (2 + i), -4, f, rest, *(0,) * rank))
        order = [0, 1]
        for i in range(rank):
            order += [2 + rank + i, 2 + i]
        x = F.transpose(x, axes=tuple(order))  # (n, c, d1, f1, d2, f2, ..)
        return F.reshape(x, shape=(0, 0, *(-3,) * rank))

    def __repr__(self) -> str:
        shown = self._factors[0] if len(self._factors) == 1 else self._factors
        return f"{type(self).__name__}({shown})"


class PixelShuffle1D(_PixelShuffle):
    """(n, f * c, w) to (n, c, w * f)."""

    _rank = 1


class PixelShuffle2D(_PixelShuffle):
    """(n, f1 * f2 * c, h, w) to (n, c, h * f1, w * f2)."""

    _rank = 2


class PixelShuffle3D(_PixelShuffle):
    """(n, f1 * f2 * f3 * c, d, h, w) to (n, c, d * f1, h * f2, w * f3)."""

    _rank = 3

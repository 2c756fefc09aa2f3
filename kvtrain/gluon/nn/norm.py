# SPDX-License-Identifier: Apache-2.0
"""Normalisation layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.gluon.block import HybridBlock
from kvtrain.ndarray import NDArray


class BatchNorm(HybridBlock):
    """Batch normalisation (Ioffe and Szegedy, 2015).

    Parameters
    ----------
    axis : int
        Dimension of the channels.
    momentum : float
        Share of the old value when running averages take in a batch.
    epsilon : float
        Added to the variance.
    center, scale : bool
        Whether there are a learned shift (beta) and scale (gamma).
    use_global_stats : bool
        Use the running averages in training too.
    """

    def __init__(
        self,
        axis: int = 1,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        use_global_stats: bool = False,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        running_mean_initializer: Any = "zeros",
        running_variance_initializer: Any = "ones",
        in_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._axis = axis
        self._kwargs = {
            "axis": axis,
            "eps": epsilon,
            "momentum": momentum,
            "fix_gamma": not scale,
            "use_global_stats": use_global_stats,
        }
        shape = (in_channels,)
        common: dict[str, Any] = {"shape": shape, "allow_deferred_init": True}
        self.gamma = self.params.get(
            "gamma",
            grad_req="write" if scale else "null",
            init=gamma_initializer,
            differentiable=scale,
            **common,
        )
        self.beta = self.params.get(
            "beta",
            grad_req="write" if center else "null",
            init=beta_initializer,
            differentiable=center,
            **common,
        )
        self.running_mean = self.params.get(
            "running_mean",
            grad_req="null",
            init=running_mean_initializer,
            differentiable=False,
            **common,
        )
        self.running_var = self.params.get(
            "running_var",
            grad_req="null",
            init=running_variance_initializer,
            differentiable=False,
            **common,
        )

    def cast(self, dtype: Any) -> None:
        """Statistics stay in float32 for float16 data."""
        super().cast("float32" if np.dtype(dtype) == np.float16 else dtype)

    def infer_shape(self, x: NDArray, *args: NDArray) -> None:
        """Channels from the data."""
        for parameter in (self.gamma, self.beta, self.running_mean, self.running_var):
            parameter.shape = (x.shape[self._axis],)

    def hybrid_forward(
        self, F: Any, x: Any, gamma: Any, beta: Any, running_mean: Any, running_var: Any
    ) -> Any:
        """See the class."""
        return F.BatchNorm(x, gamma, beta, running_mean, running_var, **self._kwargs)

    def __repr__(self) -> str:
        inside = ", ".join(f"{k}={v!r}" for k, v in self._kwargs.items())
        channels = (self.gamma.shape or (0,))[0]
        return f"BatchNorm({inside}, in_channels={channels or None})"


class LayerNorm(HybridBlock):
    """Layer normalisation (Ba et al., 2016) along `axis`."""

    def __init__(
        self,
        axis: int = -1,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        in_channels: int = 0,
        prefix: str | None = None,
        params: Any = None,
    ) -> None:
        super().__init__(prefix=prefix, params=params)
        self._axis = axis
        self._epsilon = epsilon
        shape = (in_channels,)
        self.gamma = self.params.get(
            "gamma",
            grad_req="write" if scale else "null",
            shape=shape,
            init=gamma_initializer,
            allow_deferred_init=True,
        )
        self.beta = self.params.get(
            "beta",
            grad_req="write" if center else "null",
            shape=shape,
            init=beta_initializer,
            allow_deferred_init=True,
        )

    def infer_shape(self, x: NDArray, *args: NDArray) -> None:
        """Width from the data."""
        for parameter in (self.gamma, self.beta):
            parameter.shape = (x.shape[self._axis],)

    def hybrid_forward(self, F: Any, x: Any, gamma: Any, beta: Any) -> Any:
        """See the class."""
        return F.LayerNorm(x, gamma, beta, axis=self._axis, eps=self._epsilon)

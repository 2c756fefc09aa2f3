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
        return f"{type(self).__name__}({inside}, in_channels={channels or None})"


class BatchNormReLU(BatchNorm):
    """Batch normalisation, then ReLU; parameters: see :class:`BatchNorm`."""

    def hybrid_forward(
        self, F: Any, x: Any, gamma: Any, beta: Any, running_mean: Any, running_var: Any
    ) -> Any:
        """See the class."""
        out = F.BatchNorm(x, gamma, beta, running_mean, running_var, **self._kwargs)
        return F.relu(out)


class _Affine(HybridBlock):
    """A norm with a learned scale (gamma) and shift (beta)."""

    def _make(
        self, shape: tuple[int, ...], center: bool, scale: bool, beta_init: Any, gamma_init: Any
    ) -> None:
        self.gamma = self.params.get(
            "gamma",
            grad_req="write" if scale else "null",
            shape=shape,
            init=gamma_init,
            allow_deferred_init=True,
        )
        self.beta = self.params.get(
            "beta",
            grad_req="write" if center else "null",
            shape=shape,
            init=beta_init,
            allow_deferred_init=True,
        )

    def _set_width(self, width: int) -> None:
        for parameter in (self.gamma, self.beta):
            parameter.shape = (width,)

    def _print(self, **options: Any) -> str:
        inside = ", ".join(f"{k}={v!r}" for k, v in options.items())
        return f"{type(self).__name__}({inside})"


class LayerNorm(_Affine):
    """Layer normalisation (Ba et al., 2016) along `axis`.

    Parameters
    ----------
    axis : int
        Dimension that is normalised.
    epsilon : float
        Added to the variance.
    center, scale : bool
        Whether shift and scale are learned.
    in_channels : int
        Size of that dimension; 0: told by the first batch.
    """

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
        self._center = center
        self._scale = scale
        self._make((in_channels,), center, scale, beta_initializer, gamma_initializer)

    def infer_shape(self, x: NDArray, *args: NDArray) -> None:
        """Width from the data."""
        self._set_width(x.shape[self._axis])

    def hybrid_forward(self, F: Any, x: Any, gamma: Any, beta: Any) -> Any:
        """See the class."""
        return F.LayerNorm(x, gamma, beta, axis=self._axis, eps=self._epsilon)

    def __repr__(self) -> str:
        return self._print(
            eps=self._epsilon,
            axis=self._axis,
            center=self._center,
            scale=self._scale,
            in_channels=(self.gamma.shape or (0,))[0],
        )


class GroupNorm(_Affine):
    """Group normalisation (Wu and He, 2018): over groups of channels, dimension 1.

    Parameters
    ----------
    num_groups : int
        Groups; there is one gamma and one beta for each.
    epsilon : float
        Added to the variance.
    center, scale : bool
        Whether shift and scale are learned.
    """

    def __init__(
        self,
        num_groups: int = 1,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        prefix: str | None = None,
        params: Any = None,
    ) -> None:
        super().__init__(prefix=prefix, params=params)
        self._num_groups = num_groups
        self._epsilon = epsilon
        self._center = center
        self._scale = scale
        self._make((num_groups,), center, scale, beta_initializer, gamma_initializer)

    def hybrid_forward(self, F: Any, x: Any, gamma: Any, beta: Any) -> Any:
        """See the class."""
        return F.GroupNorm(x, gamma, beta, num_groups=self._num_groups, eps=self._epsilon)

    def __repr__(self) -> str:
        return self._print(
            eps=self._epsilon,
            num_groups=self._num_groups,
            center=self._center,
            scale=self._scale,
        )


class InstanceNorm(_Affine):
    """Instance normalisation (Ulyanov et al., 2016): each sample and channel by itself.

    Parameters
    ----------
    axis : int
        Dimension of the channels.
    epsilon : float
        Added to the variance.
    center, scale : bool
        Whether shift and scale are learned.
    in_channels : int
        Number of channels; 0: told by the first batch.
    """

    def __init__(
        self,
        axis: int = 1,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = False,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        in_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._axis = axis
        self._epsilon = epsilon
        self._center = center
        self._scale = scale
        self._make((in_channels,), center, scale, beta_initializer, gamma_initializer)

    def infer_shape(self, x: NDArray, *args: NDArray) -> None:
        """Channels from the data."""
        self._set_width(x.shape[self._axis])

    def hybrid_forward(self, F: Any, x: Any, gamma: Any, beta: Any) -> Any:
        """See the class."""
        if self._axis == 1:
            return F.InstanceNorm(x, gamma, beta, eps=self._epsilon)
        x = F.swapaxes(x, 1, self._axis)
        return F.swapaxes(F.InstanceNorm(x, gamma, beta, eps=self._epsilon), 1, self._axis)

    def __repr__(self) -> str:
        return self._print(
            eps=self._epsilon,
            axis=self._axis,
            center=self._center,
            scale=self._scale,
            in_channels=(self.gamma.shape or (0,))[0],
        )

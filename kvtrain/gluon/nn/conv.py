# SPDX-License-Identifier: Apache-2.0
"""Convolution and pooling of images, (n, channels, height, width)."""

from __future__ import annotations

from typing import Any

from kvtrain.errors import ConfigError
from kvtrain.gluon.block import HybridBlock
from kvtrain.gluon.nn.activations import Activation
from kvtrain.ndarray import NDArray


def _pair(value: Any, what: str) -> tuple[int, int]:
    if isinstance(value, int):
        return (value, value)
    if len(value) != 2:
        raise ConfigError(f"{what}={value!r}: one number or two are needed")
    return (int(value[0]), int(value[1]))


def _nchw(layout: str, layer: str) -> None:
    if layout != "NCHW":
        raise ConfigError(f"{layer}: layout={layout!r} is not supported; known: NCHW")


class Conv2D(HybridBlock):
    """2-D convolution (cross-correlation) with bias and activation.

    Parameters
    ----------
    channels : int
        Channels of the output.
    kernel_size, strides, padding, dilation : int or pair of int
    groups : int
        Channels are convolved in this many separate groups.
    in_channels : int
        0: told by the first batch.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: Any = (0, 0),
        dilation: Any = (1, 1),
        groups: int = 1,
        layout: str = "NCHW",
        activation: str | None = None,
        use_bias: bool = True,
        weight_initializer: Any = None,
        bias_initializer: Any = "zeros",
        in_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        _nchw(layout, "Conv2D")
        super().__init__(**kwargs)
        kernel = _pair(kernel_size, "kernel_size")
        self._channels = channels
        self._in_channels = in_channels
        self._kwargs: dict[str, Any] = {
            "kernel": kernel,
            "stride": _pair(strides, "strides"),
            "dilate": _pair(dilation, "dilation"),
            "pad": _pair(padding, "padding"),
            "num_filter": channels,
            "num_group": groups,
            "no_bias": not use_bias,
            "layout": layout,
        }
        with self.name_scope():
            self.weight = self.params.get(
                "weight",
                shape=(channels, in_channels // groups if in_channels else 0, *kernel),
                init=weight_initializer,
                allow_deferred_init=True,
            )
            self.bias = (
                self.params.get(
                    "bias", shape=(channels,), init=bias_initializer, allow_deferred_init=True
                )
                if use_bias
                else None
            )
            self.act = Activation(activation, prefix=activation + "_") if activation else None

    def _alias(self) -> str:
        return "conv"

    def infer_shape(self, x: NDArray, *args: NDArray) -> None:
        """Input channels from the data."""
        if x.ndim != 4:
            raise ConfigError(f"Conv2D: data of shape {x.shape}; (n, c, h, w) is needed")
        groups = self._kwargs["num_group"]
        self.weight.shape = (self._channels, x.shape[1] // groups, *self._kwargs["kernel"])

    def hybrid_forward(self, F: Any, x: Any, weight: Any, bias: Any = None) -> Any:
        """See the class."""
        given = (x, weight) if bias is None else (x, weight, bias)
        out = F.Convolution(*given, **self._kwargs)
        return out if self.act is None else self.act(out)

    def __repr__(self) -> str:
        inside = (self.weight.shape or (0, 0))[1] or None
        k = self._kwargs
        return (
            f"Conv2D({inside} -> {self._channels}, kernel_size={k['kernel']}, stride={k['stride']}"
            + (f", padding={k['pad']}" if k["pad"] != (0, 0) else "")
            + ("" if self.bias is not None else ", bias=False")
            + (f", {self.act!r}" if self.act is not None else "")
            + ")"
        )


class _Pool2D(HybridBlock):
    _kind = "max"
    _global = False

    def __init__(
        self,
        pool_size: Any = (2, 2),
        strides: Any = None,
        padding: Any = 0,
        layout: str = "NCHW",
        ceil_mode: bool = False,
        count_include_pad: bool | None = None,
        **kwargs: Any,
    ) -> None:
        _nchw(layout, type(self).__name__)
        super().__init__(**kwargs)
        size = _pair(pool_size, "pool_size")
        self._kwargs: dict[str, Any] = {
            "kernel": size,
            "stride": size if strides is None else _pair(strides, "strides"),
            "pad": _pair(padding, "padding"),
            "global_pool": self._global,
            "pool_type": self._kind,
            "pooling_convention": "full" if ceil_mode else "valid",
        }
        if count_include_pad is not None:
            self._kwargs["count_include_pad"] = count_include_pad

    def _alias(self) -> str:
        return "pool"

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """See the class."""
        return F.Pooling(x, **self._kwargs)

    def __repr__(self) -> str:
        k = self._kwargs
        return (
            f"{type(self).__name__}(size={k['kernel']}, stride={k['stride']}, padding={k['pad']}, "
            f"ceil_mode={k['pooling_convention'] == 'full'}, global_pool={self._global}, "
            f"pool_type={self._kind}, layout=NCHW)"
        )


class MaxPool2D(_Pool2D):
    """Maximum over windows; strides default to the window's size."""


class AvgPool2D(_Pool2D):
    """Average over windows; padding counts unless `count_include_pad` is False."""

    _kind = "avg"

    def __init__(
        self,
        pool_size: Any = (2, 2),
        strides: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        layout: str = "NCHW",
        count_include_pad: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            pool_size, strides, padding, layout, ceil_mode, count_include_pad, **kwargs
        )


class GlobalMaxPool2D(_Pool2D):
    """Maximum over the whole image: (n, c, 1, 1)."""

    _global = True

    def __init__(self, layout: str = "NCHW", **kwargs: Any) -> None:
        super().__init__((1, 1), None, 0, layout, True, **kwargs)


class GlobalAvgPool2D(_Pool2D):
    """Average over the whole image: (n, c, 1, 1)."""

    _global = True
    _kind = "avg"

    def __init__(self, layout: str = "NCHW", **kwargs: Any) -> None:
        super().__init__((1, 1), None, 0, layout, True, **kwargs)

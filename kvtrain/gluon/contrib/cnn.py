# SPDX-License-Identifier: Apache-2.0
"""``mx.gluon.contrib.cnn``: convolutions that look where learned offsets tell them to."""

from __future__ import annotations

from typing import Any

from kvtrain.gluon.block import HybridBlock
from kvtrain.gluon.nn.activations import Activation
from kvtrain.gluon.nn.conv import dims
from kvtrain.ndarray import NDArray

__all__ = ["DeformableConvolution", "ModulatedDeformableConvolution"]


class DeformableConvolution(HybridBlock):
    """Deformable convolution (Dai et al., 2017); a convolution of the input gives the offsets.

    Parameters
    ----------
    channels : int
        Channels of the output.
    kernel_size, strides, padding, dilation : int or pair of int
    groups : int
        Channels are convolved in this many separate groups.
    num_deformable_group : int
        Groups of channels that share offsets.
    in_channels : int
        0: told by the first batch.
    offset_use_bias : bool
        Whether the convolution for the offsets has a bias.
    """

    #: numbers that the offset convolution gives for each place of the window
    _each = 2

    def __init__(
        self,
        channels: int,
        kernel_size: Any = (1, 1),
        strides: Any = (1, 1),
        padding: Any = (0, 0),
        dilation: Any = (1, 1),
        groups: int = 1,
        num_deformable_group: int = 1,
        layout: str = "NCHW",
        use_bias: bool = True,
        in_channels: int = 0,
        activation: str | None = None,
        weight_initializer: Any = None,
        bias_initializer: Any = "zeros",
        offset_weight_initializer: Any = "zeros",
        offset_bias_initializer: Any = "zeros",
        offset_use_bias: bool = True,
        op_name: str | None = None,
        adj: Any = None,
        prefix: str | None = None,
        params: Any = None,
    ) -> None:
        super().__init__(prefix=prefix, params=params)
        name = type(self).__name__
        kernel = dims(kernel_size, 2, "kernel_size", name)
        places = kernel[0] * kernel[1] * num_deformable_group
        common: dict[str, Any] = {
            "kernel": kernel,
            "stride": dims(strides, 2, "strides", name),
            "dilate": dims(dilation, 2, "dilation", name),
            "pad": dims(padding, 2, "padding", name),
            "layout": layout,
        }
        self._places = places
        self._kwargs_offset = {
            **common,
            "num_filter": self._each * places,
            "num_group": groups,
            "no_bias": not offset_use_bias,
        }
        self._kwargs: dict[str, Any] = {
            **common,
            "num_filter": channels,
            "num_group": groups,
            "num_deformable_group": num_deformable_group,
            "no_bias": not use_bias,
        }
        inside = in_channels // groups if in_channels else 0
        for key, shape, init, wanted in (
            ("offset_weight", (self._each * places, inside, *kernel), offset_weight_initializer, 1),
            ("offset_bias", (self._each * places,), offset_bias_initializer, offset_use_bias),
            ("deformable_conv_weight", (channels, inside, *kernel), weight_initializer, 1),
            ("deformable_conv_bias", (channels,), bias_initializer, use_bias),
        ):
            parameter = (
                self.params.get(key, shape=shape, init=init, allow_deferred_init=True)
                if wanted
                else None
            )
            setattr(self, key, parameter)
        with self.name_scope():
            self.act = Activation(activation, prefix=activation + "_") if activation else None

    def _alias(self) -> str:
        return "deformable_conv"

    def infer_shape(self, x: NDArray, *args: NDArray) -> None:
        """Input channels from the data."""
        inside = x.shape[1] // self._kwargs["num_group"]
        for key in ("offset_weight", "deformable_conv_weight"):
            parameter = self._reg_params[key]
            shape = parameter.shape or ()
            parameter.shape = (shape[0], inside, *shape[2:])

    def _convolve(self, F: Any, x: Any, offset: Any, *given: Any) -> Any:
        return F.contrib.DeformableConvolution(x, offset, *given, **self._kwargs)

    def hybrid_forward(
        self,
        F: Any,
        x: Any,
        offset_weight: Any,
        deformable_conv_weight: Any,
        offset_bias: Any = None,
        deformable_conv_bias: Any = None,
    ) -> Any:
        """See the class."""
        biases = [offset_bias] if offset_bias is not None else []
        offset = F.Convolution(x, offset_weight, *biases, **self._kwargs_offset)
        given = [a for a in (deformable_conv_weight, deformable_conv_bias) if a is not None]
        out = self._convolve(F, x, offset, *given)
        return out if self.act is None else self.act(out)

    def __repr__(self) -> str:
        shape = self._reg_params["deformable_conv_weight"].shape or (0, 0)
        k = self._kwargs
        text = f"{shape[1] or None} -> {shape[0]}, kernel_size={k['kernel']}, stride={k['stride']}"
        if k["pad"] != (0, 0):
            text += f", padding={k['pad']}"
        if k["dilate"] != (1, 1):
            text += f", dilation={k['dilate']}"
        if k["num_group"] != 1:
            text += f", groups={k['num_group']}"
        if k["no_bias"]:
            text += ", bias=False"
        if self.act is not None:
            text += f", {self.act!r}"
        return f"{type(self).__name__}({text})"


class ModulatedDeformableConvolution(DeformableConvolution):
    """Deformable convolution whose places are also weighed (Zhu et al., 2018)."""

    _each = 3

    def _alias(self) -> str:
        return "modulated_deformable_conv"

    def _convolve(self, F: Any, x: Any, offset: Any, *given: Any) -> Any:
        cut = 2 * self._places
        moved = F.slice_axis(offset, axis=1, begin=0, end=cut)
        mask = F.sigmoid(F.slice_axis(offset, axis=1, begin=cut, end=None)) * 2
        return F.contrib.ModulatedDeformableConvolution(x, moved, mask, *given, **self._kwargs)

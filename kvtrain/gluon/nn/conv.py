# SPDX-License-Identifier: Apache-2.0
"""Convolutions of one, two and three dimensions, and transposed ones."""

from __future__ import annotations

from typing import Any

from kvtrain.errors import ConfigError
from kvtrain.gluon.block import HybridBlock
from kvtrain.gluon.nn.activations import Activation
from kvtrain.ndarray import NDArray

#: layouts by number of spatial dimensions: channels second, or last
LAYOUTS = {1: ("NCW", "NWC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}


def dims(value: Any, rank: int, what: str, layer: str) -> tuple[int, ...]:
    """One number for each of `rank` dimensions, from one number or several."""
    if isinstance(value, int):
        return (value,) * rank
    given = tuple(int(n) for n in value)
    if len(given) != rank:
        raise ConfigError(f"{layer}: {what}={value!r}; one number or {rank} are needed")
    return given


def check_layout(layout: str, rank: int, layer: str) -> None:
    """Raise unless `layout` is one of `rank` spatial dimensions."""
    if layout not in LAYOUTS[rank]:
        known = ", ".join(LAYOUTS[rank])
        raise ConfigError(f"{layer}: layout={layout!r} is not supported; known: {known}")


def channels_second(F: Any, x: Any) -> Any:
    """(n, .., c) as (n, c, ..)."""
    last = x.ndim - 1
    return F.transpose(x, axes=(0, last, *range(1, last)))


def channels_last(F: Any, x: Any) -> Any:
    """(n, c, ..) as (n, .., c)."""
    return F.transpose(x, axes=(0, *range(2, x.ndim), 1))


class _Conv(HybridBlock):
    """What all convolutions share.

    Parameters
    ----------
    channels : int
        Channels of the output.
    kernel_size, strides, padding, dilation : int or tuple of int
    groups : int
        Channels are convolved in this many separate groups.
    layout : str
        Order of the dimensions of data and weight.
    in_channels : int
        0: told by the first batch.
    op_name : {'Convolution', 'Deconvolution'}
    adj : tuple of int, optional
        Added to one side of the output of a transposed convolution.
    """

    _rank = 2

    def __init__(
        self,
        channels: int,
        kernel_size: Any,
        strides: Any,
        padding: Any,
        dilation: Any,
        groups: int,
        layout: str,
        in_channels: int = 0,
        activation: str | None = None,
        use_bias: bool = True,
        weight_initializer: Any = None,
        bias_initializer: Any = "zeros",
        op_name: str = "Convolution",
        adj: tuple[int, ...] | None = None,
        prefix: str | None = None,
        params: Any = None,
    ) -> None:
        super().__init__(prefix=prefix, params=params)
        name = type(self).__name__
        rank = len(kernel_size)
        check_layout(layout, rank, name)
        self._channels = channels
        self._in_channels = in_channels
        self._op_name = op_name
        self._kwargs: dict[str, Any] = {
            "kernel": kernel_size,
            "stride": dims(strides, rank, "strides", name),
            "dilate": dims(dilation, rank, "dilation", name),
            "pad": dims(padding, rank, "padding", name),
            "num_filter": channels,
            "num_group": groups,
            "no_bias": not use_bias,
            "layout": layout,
        }
        if adj is not None:
            self._kwargs["adj"] = adj
        with self.name_scope():
            self.weight = self.params.get(
                "weight",
                shape=self._weight_shape(in_channels),
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

    def _weight_shape(self, inside: int) -> tuple[int, ...]:
        groups = self._kwargs["num_group"]
        if self._op_name == "Convolution":
            first, second = self._channels, inside // groups
        else:
            first, second = inside, self._channels // groups
        kernel = self._kwargs["kernel"]
        if self._kwargs["layout"].startswith("NC"):
            return (first, second, *kernel)
        return (first, *kernel, second)

    def infer_shape(self, x: NDArray, *args: NDArray) -> None:
        """Input channels from the data."""
        layout = self._kwargs["layout"]
        if x.ndim != len(layout):
            raise ConfigError(
                f"{type(self).__name__}: data of shape {x.shape}; {layout} needs {len(layout)} "
                "dimensions"
            )
        self.weight.shape = self._weight_shape(x.shape[layout.index("C")])

    def hybrid_forward(self, F: Any, x: Any, weight: Any, bias: Any = None) -> Any:
        """See the class."""
        options = self._kwargs
        rank = len(options["kernel"])
        turned = options["layout"] != LAYOUTS[rank][0]
        if turned:  # the operators know channels in the second place
            x, weight = channels_second(F, x), channels_second(F, weight)
            options = {**options, "layout": LAYOUTS[rank][0]}
        given = (x, weight) if bias is None else (x, weight, bias)
        out = getattr(F, self._op_name)(*given, **options)
        out = channels_last(F, out) if turned else out
        return out if self.act is None else self.act(out)

    def __repr__(self) -> str:
        shape = self.weight.shape or (0, 0)
        k = self._kwargs
        rank = len(k["kernel"])
        text = f"{shape[1] or None} -> {shape[0]}, kernel_size={k['kernel']}, stride={k['stride']}"
        if k["pad"] != (0,) * rank:
            text += f", padding={k['pad']}"
        if k["dilate"] != (1,) * rank:
            text += f", dilation={k['dilate']}"
        if k["num_group"] != 1:
            text += f", groups={k['num_group']}"
        if self.bias is None:
            text += ", bias=False"
        if self.act is not None:
            text += f", {self.act!r}"
        return f"{type(self).__name__}({text})"


class _Forward(_Conv):
    """Convolutions of a fixed number of dimensions."""

    def __init__(
        self,
        channels: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        layout: str | None = None,
        activation: str | None = None,
        use_bias: bool = True,
        weight_initializer: Any = None,
        bias_initializer: Any = "zeros",
        in_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            channels,
            dims(kernel_size, self._rank, "kernel_size", type(self).__name__),
            strides,
            padding,
            dilation,
            groups,
            layout or LAYOUTS[self._rank][0],
            in_channels,
            activation,
            use_bias,
            weight_initializer,
            bias_initializer,
            **kwargs,
        )


class Conv1D(_Forward):
    """1-D convolution of (n, c, width) with bias and activation; options: see :class:`Conv2D`."""

    _rank = 1


class Conv2D(_Forward):
    """2-D convolution (cross-correlation) of (n, c, height, width), with bias and activation.

    Parameters
    ----------
    channels : int
        Channels of the output.
    kernel_size, strides, padding, dilation : int or pair of int
    groups : int
        Channels are convolved in this many separate groups.
    layout : {'NCHW', 'NHWC'}
    activation : str, optional
    in_channels : int
        0: told by the first batch.
    """

    _rank = 2


class Conv3D(_Forward):
    """3-D convolution of (n, c, depth, height, width); options: see :class:`Conv2D`."""

    _rank = 3


class _Transpose(_Conv):
    """Transposed convolutions of a fixed number of dimensions."""

    def __init__(
        self,
        channels: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        layout: str | None = None,
        activation: str | None = None,
        use_bias: bool = True,
        weight_initializer: Any = None,
        bias_initializer: Any = "zeros",
        in_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        added = dims(output_padding, self._rank, "output_padding", name)
        super().__init__(
            channels,
            dims(kernel_size, self._rank, "kernel_size", name),
            strides,
            padding,
            dilation,
            groups,
            layout or LAYOUTS[self._rank][0],
            in_channels,
            activation,
            use_bias,
            weight_initializer,
            bias_initializer,
            op_name="Deconvolution",
            adj=added,
            **kwargs,
        )
        self.outpad = added


class Conv1DTranspose(_Transpose):
    """Transposed 1-D convolution; options: see :class:`Conv2DTranspose`."""

    _rank = 1


class Conv2DTranspose(_Transpose):
    """Transposed 2-D convolution: the gradient of a convolution, used forwards.

    Parameters
    ----------
    output_padding : int or pair of int
        Added to one side of the output.

    The others are those of :class:`Conv2D`.
    """

    _rank = 2


class Conv3DTranspose(_Transpose):
    """Transposed 3-D convolution; options: see :class:`Conv2DTranspose`."""

    _rank = 3

# SPDX-License-Identifier: Apache-2.0
"""MobileNet (Howard et al., 2017) and MobileNetV2 (Sandler et al., 2018)."""

from __future__ import annotations

from typing import Any

from kvtrain.context import cpu
from kvtrain.gluon import nn
from kvtrain.gluon.block import HybridBlock
from kvtrain.gluon.model_zoo.model_store import ROOT, load_trained


class RELU6(HybridBlock):
    """Clips to 0 to 6."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """See the class."""
        return F.clip(x, a_min=0, a_max=6)


def _add_conv(
    out: Any,
    channels: int,
    kernel: int = 1,
    stride: int = 1,
    pad: int = 0,
    groups: int = 1,
    active: bool = True,
    relu6: bool = False,
) -> None:
    out.add(
        nn.Conv2D(channels, kernel, stride, pad, groups=groups, use_bias=False),
        nn.BatchNorm(scale=True),
    )
    if active:
        out.add(RELU6() if relu6 else nn.Activation("relu"))


class LinearBottleneck(HybridBlock):
    """1x1, depthwise 3x3 and linear 1x1 convolutions, with a shortcut where shapes allow it.

    Parameters
    ----------
    in_channels, channels : int
        Of input and output.
    t : int
        Factor of the channels in between.
    stride : int
    """

    def __init__(self, in_channels: int, channels: int, t: int, stride: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.use_shortcut = stride == 1 and in_channels == channels
        wide = in_channels * t
        with self.name_scope():
            self.out = nn.HybridSequential()
            _add_conv(self.out, wide, relu6=True)
            _add_conv(self.out, wide, 3, stride, 1, wide, relu6=True)
            _add_conv(self.out, channels, active=False, relu6=True)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """See the class."""
        out = self.out(x)
        return F.elemwise_add(out, x) if self.use_shortcut else out


class MobileNet(HybridBlock):
    """MobileNet.

    Parameters
    ----------
    multiplier : float
        Factor of all channels.
    classes : int
    """

    def __init__(self, multiplier: float = 1.0, classes: int = 1000, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        depthwise = [32, 64, 128, 128, 256, 256, *[512] * 6, 1024]
        pointwise = [*depthwise[1:], 1024]
        strides = [1, 2, 1, 2, 1, 2, *[1] * 5, 2, 1]
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            with self.features.name_scope():
                _add_conv(self.features, int(32 * multiplier), 3, 2, 1)
                for inside, outside, stride in zip(depthwise, pointwise, strides, strict=True):
                    width = int(inside * multiplier)
                    _add_conv(self.features, width, 3, stride, 1, width)
                    _add_conv(self.features, int(outside * multiplier))
                self.features.add(nn.GlobalAvgPool2D(), nn.Flatten())
            self.output = nn.Dense(classes)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Images (n, 3, h, w) to scores (n, classes)."""
        return self.output(self.features(x))


class MobileNetV2(HybridBlock):
    """MobileNetV2.

    Parameters
    ----------
    multiplier : float
        Factor of all channels.
    classes : int
    """

    def __init__(self, multiplier: float = 1.0, classes: int = 1000, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        counts = ((16, 1), (24, 2), (32, 3), (64, 4), (96, 3), (160, 3), (320, 1))
        widths = [int(c * multiplier) for c, count in counts for _ in range(count)]
        first = int(32 * multiplier)
        strides = [1, 2, 1, 2, 1, 1, 2, *[1] * 6, 2, 1, 1, 1]
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="features_")
            with self.features.name_scope():
                _add_conv(self.features, first, 3, 2, 1, relu6=True)
                inside = first
                for i, (outside, stride) in enumerate(zip(widths, strides, strict=True)):
                    self.features.add(LinearBottleneck(inside, outside, 6 if i else 1, stride))
                    inside = outside
                last = int(1280 * multiplier) if multiplier > 1 else 1280
                _add_conv(self.features, last, relu6=True)
                self.features.add(nn.GlobalAvgPool2D())
            self.output = nn.HybridSequential(prefix="output_")
            with self.output.name_scope():
                self.output.add(nn.Conv2D(classes, 1, use_bias=False, prefix="pred_"), nn.Flatten())

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Images (n, 3, h, w) to scores (n, classes)."""
        return self.output(self.features(x))


def _suffix(multiplier: float) -> str:
    text = f"{multiplier:.2f}"
    return text[:-1] if text in ("1.00", "0.50") else text


def get_mobilenet(
    multiplier: float, pretrained: bool = False, ctx: Any = None, root: Any = ROOT, **kwargs: Any
) -> MobileNet:
    """A MobileNet; `pretrained`: with trained values from a file in `root`."""
    net = MobileNet(multiplier, **kwargs)
    name = f"mobilenet{_suffix(multiplier)}"
    result: MobileNet = load_trained(net, name, pretrained, ctx or cpu(), root)
    return result


def get_mobilenet_v2(
    multiplier: float, pretrained: bool = False, ctx: Any = None, root: Any = ROOT, **kwargs: Any
) -> MobileNetV2:
    """A MobileNetV2; `pretrained`: with trained values from a file in `root`."""
    net = MobileNetV2(multiplier, **kwargs)
    name = f"mobilenetv2_{_suffix(multiplier)}"
    result: MobileNetV2 = load_trained(net, name, pretrained, ctx or cpu(), root)
    return result


def mobilenet1_0(**kwargs: Any) -> MobileNet:
    """MobileNet of full width."""
    return get_mobilenet(1.0, **kwargs)


def mobilenet0_75(**kwargs: Any) -> MobileNet:
    """MobileNet of 0.75 of the width."""
    return get_mobilenet(0.75, **kwargs)


def mobilenet0_5(**kwargs: Any) -> MobileNet:
    """MobileNet of half the width."""
    return get_mobilenet(0.5, **kwargs)


def mobilenet0_25(**kwargs: Any) -> MobileNet:
    """MobileNet of a quarter of the width."""
    return get_mobilenet(0.25, **kwargs)


def mobilenet_v2_1_0(**kwargs: Any) -> MobileNetV2:
    """MobileNetV2 of full width."""
    return get_mobilenet_v2(1.0, **kwargs)


def mobilenet_v2_0_75(**kwargs: Any) -> MobileNetV2:
    """MobileNetV2 of 0.75 of the width."""
    return get_mobilenet_v2(0.75, **kwargs)


def mobilenet_v2_0_5(**kwargs: Any) -> MobileNetV2:
    """MobileNetV2 of half the width."""
    return get_mobilenet_v2(0.5, **kwargs)


def mobilenet_v2_0_25(**kwargs: Any) -> MobileNetV2:
    """MobileNetV2 of a quarter of the width."""
    return get_mobilenet_v2(0.25, **kwargs)

# SPDX-License-Identifier: Apache-2.0
"""Residual networks, first form (He et al., 2015) and with identity mappings (2016)."""

from __future__ import annotations

from typing import Any

from kvtrain.context import cpu
from kvtrain.errors import ConfigError
from kvtrain.gluon import nn
from kvtrain.gluon.block import HybridBlock
from kvtrain.gluon.model_zoo.model_store import ROOT, load_trained


def _conv3x3(channels: int, stride: int, in_channels: int) -> nn.Conv2D:
    return nn.Conv2D(channels, 3, stride, 1, use_bias=False, in_channels=in_channels)


class _BlockV1(HybridBlock):
    """``relu(body(x) + shortcut(x))``."""

    def __init__(
        self,
        channels: int,
        stride: int,
        downsample: bool = False,
        in_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.body = nn.HybridSequential(prefix="")
        self._fill(channels, stride, in_channels)
        self.downsample: Any = None
        if downsample:
            self.downsample = nn.HybridSequential(prefix="")
            self.downsample.add(
                nn.Conv2D(channels, 1, stride, use_bias=False, in_channels=in_channels),
                nn.BatchNorm(),
            )

    def _fill(self, channels: int, stride: int, in_channels: int) -> None:
        raise NotImplementedError

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """See the class."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.Activation(shortcut + self.body(x), act_type="relu")


class BasicBlockV1(_BlockV1):
    """Two 3x3 convolutions beside a shortcut.

    Parameters
    ----------
    channels : int
        Channels of the output.
    stride : int
    downsample : bool
        The shortcut is a 1x1 convolution.
    in_channels : int
        Channels of the input.
    """

    def _fill(self, channels: int, stride: int, in_channels: int) -> None:
        self.body.add(_conv3x3(channels, stride, in_channels), nn.BatchNorm())
        self.body.add(nn.Activation("relu"), _conv3x3(channels, 1, channels), nn.BatchNorm())


class BottleneckV1(_BlockV1):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut; parameters: see BasicBlockV1."""

    def _fill(self, channels: int, stride: int, in_channels: int) -> None:
        inner = channels // 4
        self.body.add(nn.Conv2D(inner, 1, stride), nn.BatchNorm(), nn.Activation("relu"))
        self.body.add(_conv3x3(inner, 1, inner), nn.BatchNorm(), nn.Activation("relu"))
        self.body.add(nn.Conv2D(channels, 1, 1), nn.BatchNorm())


class _BlockV2(HybridBlock):
    def __init__(
        self,
        channels: int,
        stride: int,
        downsample: bool = False,
        in_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._layers = self._fill(channels, stride, in_channels)
        self.downsample: Any = None
        if downsample:
            self.downsample = nn.Conv2D(
                channels, 1, stride, use_bias=False, in_channels=in_channels
            )

    def _fill(self, channels: int, stride: int, in_channels: int) -> int:
        raise NotImplementedError

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Norm, ReLU and convolution, in this order, beside a shortcut."""
        shortcut = x
        for i in range(1, self._layers + 1):
            x = F.Activation(getattr(self, f"bn{i}")(x), act_type="relu")
            if i == 1 and self.downsample is not None:
                shortcut = self.downsample(x)
            x = getattr(self, f"conv{i}")(x)
        return x + shortcut


class BasicBlockV2(_BlockV2):
    """Two 3x3 convolutions with identity mappings; parameters: see BasicBlockV1."""

    def _fill(self, channels: int, stride: int, in_channels: int) -> int:
        self.bn1 = nn.BatchNorm()
        self.conv1 = _conv3x3(channels, stride, in_channels)
        self.bn2 = nn.BatchNorm()
        self.conv2 = _conv3x3(channels, 1, channels)
        return 2


class BottleneckV2(_BlockV2):
    """1x1, 3x3 and 1x1 convolutions with identity mappings; parameters: see BasicBlockV1."""

    def _fill(self, channels: int, stride: int, in_channels: int) -> int:
        inner = channels // 4
        self.bn1 = nn.BatchNorm()
        self.conv1 = nn.Conv2D(inner, 1, 1, use_bias=False)
        self.bn2 = nn.BatchNorm()
        self.conv2 = _conv3x3(inner, stride, inner)
        self.bn3 = nn.BatchNorm()
        self.conv3 = nn.Conv2D(channels, 1, 1, use_bias=False)
        return 3


class _ResNet(HybridBlock):
    """What both versions share.

    Parameters
    ----------
    block : class
        Of the residual blocks.
    layers : list of int
        Blocks in each stage.
    channels : list of int
        Channels of the first convolution and of each stage.
    classes : int
    thumbnail : bool
        For small images: a 3x3 convolution first, without pooling.
    """

    def __init__(
        self,
        block: Any,
        layers: list[int],
        channels: list[int],
        classes: int = 1000,
        thumbnail: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if len(layers) != len(channels) - 1:
            raise ConfigError(
                f"{type(self).__name__}: {len(layers)} stages need {len(layers) + 1} numbers of "
                f"channels, not {len(channels)}"
            )
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            self._begin(channels[0], thumbnail)
            inside = channels[0]
            for i, count in enumerate(layers):
                stride = 1 if i == 0 else 2
                self.features.add(_stage(block, count, channels[i + 1], stride, i + 1, inside))
                inside = channels[i + 1]
            self._end()
            self.output = nn.Dense(classes, in_units=inside)

    def _begin(self, channels: int, thumbnail: bool) -> None:
        if thumbnail:
            self.features.add(_conv3x3(channels, 1, 0))
            return
        self.features.add(nn.Conv2D(channels, 7, 2, 3, use_bias=False), nn.BatchNorm())
        self.features.add(nn.Activation("relu"), nn.MaxPool2D(3, 2, 1))

    def _end(self) -> None:
        self.features.add(nn.GlobalAvgPool2D())

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Images (n, 3, h, w) to scores (n, classes)."""
        return self.output(self.features(x))


def _stage(
    block: Any, count: int, channels: int, stride: int, number: int, in_channels: int
) -> nn.HybridSequential:
    stage = nn.HybridSequential(prefix=f"stage{number}_")
    with stage.name_scope():
        stage.add(
            block(channels, stride, channels != in_channels, in_channels=in_channels, prefix="")
        )
        for _ in range(count - 1):
            stage.add(block(channels, 1, False, in_channels=channels, prefix=""))
    return stage


class ResNetV1(_ResNet):
    """Residual network, first form; parameters: block, layers, channels, classes, thumbnail."""


class ResNetV2(_ResNet):
    """Residual network with identity mappings; parameters: see ResNetV1."""

    def _begin(self, channels: int, thumbnail: bool) -> None:
        self.features.add(nn.BatchNorm(scale=False, center=False))
        super()._begin(channels, thumbnail)

    def _end(self) -> None:
        self.features.add(nn.BatchNorm(), nn.Activation("relu"))
        self.features.add(nn.GlobalAvgPool2D(), nn.Flatten())


_BASIC, _BOTTLENECK = [64, 64, 128, 256, 512], [64, 256, 512, 1024, 2048]
#: layers -> (bottleneck, blocks in each stage, channels)
SPEC = {
    18: (False, [2, 2, 2, 2], _BASIC),
    34: (False, [3, 4, 6, 3], _BASIC),
    50: (True, [3, 4, 6, 3], _BOTTLENECK),
    101: (True, [3, 4, 23, 3], _BOTTLENECK),
    152: (True, [3, 8, 36, 3], _BOTTLENECK),
}
_CLASSES: dict[int, tuple[Any, Any, Any]] = {
    1: (ResNetV1, BasicBlockV1, BottleneckV1),
    2: (ResNetV2, BasicBlockV2, BottleneckV2),
}


def get_resnet(
    version: int,
    num_layers: int,
    pretrained: bool = False,
    ctx: Any = None,
    root: Any = ROOT,
    **kwargs: Any,
) -> Any:
    """A ResNet.

    Parameters
    ----------
    version : {1, 2}
    num_layers : {18, 34, 50, 101, 152}
    pretrained : bool
        Load trained values from a file in `root`.
    ctx : Context, optional
        Where they go; default cpu.
    kwargs
        Passed to the class, as ``classes`` and ``thumbnail``.
    """
    if num_layers not in SPEC:
        raise ConfigError(f"Invalid number of layers: {num_layers}. Options are {sorted(SPEC)}")
    if version not in _CLASSES:
        raise ConfigError(f"Invalid resnet version: {version}. Options are 1 and 2.")
    bottleneck, layers, channels = SPEC[num_layers]
    network, *blocks = _CLASSES[version]
    net = network(blocks[bottleneck], layers, channels, **kwargs)
    return load_trained(net, f"resnet{num_layers}_v{version}", pretrained, ctx or cpu(), root)


def _variant(version: int, num_layers: int) -> Any:
    def make(**kwargs: Any) -> Any:
        return get_resnet(version, num_layers, **kwargs)

    make.__name__ = make.__qualname__ = f"resnet{num_layers}_v{version}"
    make.__doc__ = f"ResNet of {num_layers} layers, version {version}; see :func:`get_resnet`."
    return make


resnet18_v1, resnet34_v1 = _variant(1, 18), _variant(1, 34)
resnet50_v1, resnet101_v1, resnet152_v1 = _variant(1, 50), _variant(1, 101), _variant(1, 152)
resnet18_v2, resnet34_v2 = _variant(2, 18), _variant(2, 34)
resnet50_v2, resnet101_v2, resnet152_v2 = _variant(2, 50), _variant(2, 101), _variant(2, 152)

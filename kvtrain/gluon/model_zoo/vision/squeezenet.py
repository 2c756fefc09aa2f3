# SPDX-License-Identifier: Apache-2.0
"""SqueezeNet (Iandola et al., 2016)."""

from __future__ import annotations

from typing import Any

from kvtrain.context import cpu
from kvtrain.errors import ConfigError
from kvtrain.gluon import nn
from kvtrain.gluon.block import HybridBlock
from kvtrain.gluon.contrib.nn import HybridConcurrent
from kvtrain.gluon.model_zoo.model_store import ROOT, load_trained

#: version -> first convolution, and widths of fire modules; 0: pooling
SPEC = {
    "1.0": ((96, 7), (0, 16, 16, 32, 0, 32, 48, 48, 64, 0, 64)),
    "1.1": ((64, 3), (0, 16, 16, 0, 32, 32, 0, 48, 48, 64, 64)),
}


def _conv(channels: int, kernel: int, padding: int = 0) -> nn.HybridSequential:
    out = nn.HybridSequential(prefix="")
    out.add(nn.Conv2D(channels, kernel, padding=padding), nn.Activation("relu"))
    return out


def _fire(squeezed: int) -> nn.HybridSequential:
    out = nn.HybridSequential(prefix="")
    out.add(_conv(squeezed, 1))
    paths = HybridConcurrent(axis=1, prefix="")
    paths.add(_conv(4 * squeezed, 1), _conv(4 * squeezed, 3, 1))
    out.add(paths)
    return out


class SqueezeNet(HybridBlock):
    """SqueezeNet, version '1.0' or '1.1', for images (n, 3, 224, 224)."""

    def __init__(self, version: str, classes: int = 1000, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if version not in SPEC:
            raise ConfigError(f"Unsupported SqueezeNet version {version}: 1.0 or 1.1 expected")
        (channels, kernel), widths = SPEC[version]
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            self.features.add(nn.Conv2D(channels, kernel, 2), nn.Activation("relu"))
            for width in widths:
                self.features.add(_fire(width) if width else nn.MaxPool2D(3, 2, ceil_mode=True))
            self.features.add(nn.Dropout(0.5))
            self.output = nn.HybridSequential(prefix="")
            self.output.add(nn.Conv2D(classes, 1), nn.Activation("relu"))
            self.output.add(nn.AvgPool2D(13), nn.Flatten())

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Scores (n, classes)."""
        return self.output(self.features(x))


def get_squeezenet(
    version: str, pretrained: bool = False, ctx: Any = None, root: Any = ROOT, **kwargs: Any
) -> SqueezeNet:
    """A SqueezeNet; `pretrained`: with trained values from a file in `root`."""
    net = SqueezeNet(version, **kwargs)
    result: SqueezeNet = load_trained(net, f"squeezenet{version}", pretrained, ctx or cpu(), root)
    return result


def squeezenet1_0(**kwargs: Any) -> SqueezeNet:
    """SqueezeNet 1.0."""
    return get_squeezenet("1.0", **kwargs)


def squeezenet1_1(**kwargs: Any) -> SqueezeNet:
    """SqueezeNet 1.1."""
    return get_squeezenet("1.1", **kwargs)

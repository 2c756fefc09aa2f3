# SPDX-License-Identifier: Apache-2.0
"""DenseNet (Huang et al., 2016)."""

from __future__ import annotations

from typing import Any

from kvtrain.context import cpu
from kvtrain.errors import ConfigError
from kvtrain.gluon import nn
from kvtrain.gluon.block import HybridBlock
from kvtrain.gluon.contrib.nn import HybridConcurrent, Identity
from kvtrain.gluon.model_zoo.model_store import ROOT, load_trained

#: layers -> first channels, growth, layers of each stage
SPEC = {
    121: (64, 32, [6, 12, 24, 16]),
    161: (96, 48, [6, 12, 36, 24]),
    169: (64, 32, [6, 12, 32, 32]),
    201: (64, 32, [6, 12, 48, 32]),
}


def _layer(growth: int, bn_size: int, dropout: float) -> HybridConcurrent:
    new = nn.HybridSequential(prefix="")
    new.add(nn.BatchNorm(), nn.Activation("relu"))
    new.add(nn.Conv2D(bn_size * growth, 1, use_bias=False))
    new.add(nn.BatchNorm(), nn.Activation("relu"))
    new.add(nn.Conv2D(growth, 3, padding=1, use_bias=False))
    if dropout:
        new.add(nn.Dropout(dropout))
    out = HybridConcurrent(axis=1, prefix="")
    out.add(Identity(), new)
    return out


class DenseNet(HybridBlock):
    """DenseNet for images (n, 3, 224, 224).

    Parameters
    ----------
    num_init_features : int
        Channels of the first convolution.
    growth_rate : int
        Channels that each layer adds.
    block_config : list of int
        Layers of each stage.
    bn_size : int
        Factor of the growth in the bottleneck.
    dropout : float
    classes : int
    """

    def __init__(
        self,
        num_init_features: int,
        growth_rate: int,
        block_config: list[int],
        bn_size: int = 4,
        dropout: float = 0,
        classes: int = 1000,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            self.features.add(nn.Conv2D(num_init_features, 7, 2, 3, use_bias=False))
            self.features.add(nn.BatchNorm(), nn.Activation("relu"), nn.MaxPool2D(3, 2, 1))
            channels = num_init_features
            for i, count in enumerate(block_config):
                stage = nn.HybridSequential(prefix=f"stage{i + 1}_")
                with stage.name_scope():
                    for _ in range(count):
                        stage.add(_layer(growth_rate, bn_size, dropout))
                self.features.add(stage)
                channels += count * growth_rate
                if i < len(block_config) - 1:
                    channels //= 2
                    between = nn.HybridSequential(prefix="")
                    between.add(nn.BatchNorm(), nn.Activation("relu"))
                    between.add(nn.Conv2D(channels, 1, use_bias=False), nn.AvgPool2D(2, 2))
                    self.features.add(between)
            self.features.add(nn.BatchNorm(), nn.Activation("relu"))
            self.features.add(nn.AvgPool2D(7), nn.Flatten())
            self.output = nn.Dense(classes)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Scores (n, classes)."""
        return self.output(self.features(x))


def get_densenet(
    num_layers: int, pretrained: bool = False, ctx: Any = None, root: Any = ROOT, **kwargs: Any
) -> DenseNet:
    """A DenseNet of 121, 161, 169 or 201 layers; `pretrained`: with values from `root`."""
    if num_layers not in SPEC:
        raise ConfigError(f"Invalid number of layers: {num_layers}. Options are {sorted(SPEC)}")
    net = DenseNet(*SPEC[num_layers], **kwargs)
    result: DenseNet = load_trained(net, f"densenet{num_layers}", pretrained, ctx or cpu(), root)
    return result


def densenet121(**kwargs: Any) -> DenseNet:
    """DenseNet of 121 layers."""
    return get_densenet(121, **kwargs)


def densenet161(**kwargs: Any) -> DenseNet:
    """DenseNet of 161 layers."""
    return get_densenet(161, **kwargs)


def densenet169(**kwargs: Any) -> DenseNet:
    """DenseNet of 169 layers."""
    return get_densenet(169, **kwargs)


def densenet201(**kwargs: Any) -> DenseNet:
    """DenseNet of 201 layers."""
    return get_densenet(201, **kwargs)

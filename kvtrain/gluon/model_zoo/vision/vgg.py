# SPDX-License-Identifier: Apache-2.0
"""VGG (Simonyan and Zisserman, 2014), with or without batch normalisation."""

from __future__ import annotations

from typing import Any

from kvtrain.context import cpu
from kvtrain.errors import ConfigError
from kvtrain.gluon import nn
from kvtrain.gluon.block import HybridBlock
from kvtrain.gluon.model_zoo.model_store import ROOT, load_trained
from kvtrain.initializer import Xavier

#: layers -> convolutions in each stage
SPEC = {11: [1, 1, 2, 2, 2], 13: [2] * 5, 16: [2, 2, 3, 3, 3], 19: [2, 2, 4, 4, 4]}
FILTERS = [64, 128, 256, 512, 512]


class VGG(HybridBlock):
    """VGG.

    Parameters
    ----------
    layers : list of int
        Convolutions in each stage.
    filters : list of int
        Channels of each stage.
    classes : int
    batch_norm : bool
        Normalise after each convolution.
    """

    def __init__(
        self,
        layers: list[int],
        filters: list[int],
        classes: int = 1000,
        batch_norm: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if len(layers) != len(filters):
            raise ConfigError(f"VGG: {len(layers)} stages, but {len(filters)} numbers of filters")
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            for count, channels in zip(layers, filters, strict=True):
                for _ in range(count):
                    init = Xavier(rnd_type="gaussian", factor_type="out", magnitude=2)
                    self.features.add(nn.Conv2D(channels, 3, padding=1, weight_initializer=init))
                    if batch_norm:
                        self.features.add(nn.BatchNorm())
                    self.features.add(nn.Activation("relu"))
                self.features.add(nn.MaxPool2D(strides=2))
            for _ in range(2):
                self.features.add(
                    nn.Dense(4096, activation="relu", weight_initializer="normal"),
                    nn.Dropout(0.5),
                )
            self.output = nn.Dense(classes, weight_initializer="normal")

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Images (n, 3, h, w) to scores (n, classes)."""
        return self.output(self.features(x))


def get_vgg(
    num_layers: int, pretrained: bool = False, ctx: Any = None, root: Any = ROOT, **kwargs: Any
) -> VGG:
    """A VGG of 11, 13, 16 or 19 layers; `pretrained`: with values from a file in `root`."""
    if num_layers not in SPEC:
        raise ConfigError(f"Invalid number of layers: {num_layers}. Options are {sorted(SPEC)}")
    net = VGG(SPEC[num_layers], FILTERS, **kwargs)
    name = f"vgg{num_layers}{'_bn' if kwargs.get('batch_norm') else ''}"
    result: VGG = load_trained(net, name, pretrained, ctx or cpu(), root)
    return result


def _variant(num_layers: int, batch_norm: bool) -> Any:
    options = {"batch_norm": True} if batch_norm else {}

    def make(**kwargs: Any) -> VGG:
        return get_vgg(num_layers, **{**kwargs, **options})

    make.__name__ = make.__qualname__ = f"vgg{num_layers}{'_bn' if batch_norm else ''}"
    make.__doc__ = f"VGG of {num_layers} layers{' with batch normalisation' if batch_norm else ''}."
    return make


vgg11, vgg13, vgg16, vgg19 = (_variant(n, False) for n in SPEC)
vgg11_bn, vgg13_bn, vgg16_bn, vgg19_bn = (_variant(n, True) for n in SPEC)

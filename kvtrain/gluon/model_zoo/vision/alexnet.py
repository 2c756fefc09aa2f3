# SPDX-License-Identifier: Apache-2.0
"""AlexNet (Krizhevsky et al., 2012)."""

from __future__ import annotations

from typing import Any

from kvtrain.context import cpu
from kvtrain.gluon import nn
from kvtrain.gluon.block import HybridBlock
from kvtrain.gluon.model_zoo.model_store import ROOT, load_trained


class AlexNet(HybridBlock):
    """AlexNet for images (n, 3, 224, 224)."""

    def __init__(self, classes: int = 1000, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            with self.features.name_scope():
                self.features.add(
                    nn.Conv2D(64, 11, 4, 2, activation="relu"),
                    nn.MaxPool2D(3, 2),
                    nn.Conv2D(192, 5, padding=2, activation="relu"),
                    nn.MaxPool2D(3, 2),
                    nn.Conv2D(384, 3, padding=1, activation="relu"),
                    nn.Conv2D(256, 3, padding=1, activation="relu"),
                    nn.Conv2D(256, 3, padding=1, activation="relu"),
                    nn.MaxPool2D(3, 2),
                    nn.Flatten(),
                )
                for _ in range(2):
                    self.features.add(nn.Dense(4096, activation="relu"), nn.Dropout(0.5))
            self.output = nn.Dense(classes)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Scores (n, classes)."""
        return self.output(self.features(x))


def alexnet(pretrained: bool = False, ctx: Any = None, root: Any = ROOT, **kwargs: Any) -> AlexNet:
    """AlexNet; `pretrained`: with trained values from a file in `root`."""
    net: AlexNet = load_trained(AlexNet(**kwargs), "alexnet", pretrained, ctx or cpu(), root)
    return net

# SPDX-License-Identifier: Apache-2.0
"""Inception v3 (Szegedy et al., 2015)."""

from __future__ import annotations

from typing import Any

from kvtrain.context import cpu
from kvtrain.gluon import nn
from kvtrain.gluon.block import HybridBlock
from kvtrain.gluon.contrib.nn import HybridConcurrent
from kvtrain.gluon.model_zoo.model_store import ROOT, load_trained

#: channels, kernel, stride, padding of a convolution
Conv = tuple[int, Any, int, Any]


def _conv(channels: int, kernel: Any, stride: int = 1, padding: Any = 0) -> nn.HybridSequential:
    out = nn.HybridSequential(prefix="")
    out.add(
        nn.Conv2D(channels, kernel, stride, padding, use_bias=False),
        nn.BatchNorm(epsilon=0.001),
        nn.Activation("relu"),
    )
    return out


def _branch(pool: str | None, *convs: Conv) -> nn.HybridSequential:
    out = nn.HybridSequential(prefix="")
    if pool == "avg":
        out.add(nn.AvgPool2D(3, 1, 1))
    elif pool == "max":
        out.add(nn.MaxPool2D(3, 2))
    for conv in convs:
        out.add(_conv(*conv))
    return out


def _fork(before: nn.HybridSequential) -> nn.HybridSequential:
    """`before`, then 1x3 and 3x1 convolutions side by side."""
    out = nn.HybridSequential(prefix="")
    out.add(before)
    paths = HybridConcurrent(axis=1, prefix="")
    paths.add(_branch(None, (384, (1, 3), 1, (0, 1))))
    paths.add(_branch(None, (384, (3, 1), 1, (1, 0))))
    out.add(paths)
    return out


def _a(pooled: int) -> list[Any]:
    return [
        _branch(None, (64, 1, 1, 0)),
        _branch(None, (48, 1, 1, 0), (64, 5, 1, 2)),
        _branch(None, (64, 1, 1, 0), (96, 3, 1, 1), (96, 3, 1, 1)),
        _branch("avg", (pooled, 1, 1, 0)),
    ]


def _b() -> list[Any]:
    return [
        _branch(None, (384, 3, 2, 0)),
        _branch(None, (64, 1, 1, 0), (96, 3, 1, 1), (96, 3, 2, 0)),
        _branch("max"),
    ]


def _c(width: int) -> list[Any]:
    row: tuple[Any, int, Any] = ((1, 7), 1, (0, 3))
    column: tuple[Any, int, Any] = ((7, 1), 1, (3, 0))
    return [
        _branch(None, (192, 1, 1, 0)),
        _branch(None, (width, 1, 1, 0), (width, *row), (192, *column)),
        _branch(
            None,
            (width, 1, 1, 0),
            (width, *column),
            (width, *row),
            (width, *column),
            (192, *row),
        ),
        _branch("avg", (192, 1, 1, 0)),
    ]


def _d() -> list[Any]:
    return [
        _branch(None, (192, 1, 1, 0), (320, 3, 2, 0)),
        _branch(
            None,
            (192, 1, 1, 0),
            (192, (1, 7), 1, (0, 3)),
            (192, (7, 1), 1, (3, 0)),
            (192, 3, 2, 0),
        ),
        _branch("max"),
    ]


def _e() -> list[Any]:
    return [
        _branch(None, (320, 1, 1, 0)),
        _fork(_branch(None, (384, 1, 1, 0))),
        _fork(_branch(None, (448, 1, 1, 0), (384, 3, 1, 1))),
        _branch("avg", (192, 1, 1, 0)),
    ]


def _module(name: str, make: Any, *args: int) -> HybridConcurrent:
    out = HybridConcurrent(axis=1, prefix=name + "_")
    with out.name_scope():
        out.add(*make(*args))
    return out


class Inception3(HybridBlock):
    """Inception v3 for images (n, 3, 299, 299)."""

    def __init__(self, classes: int = 1000, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            self.features.add(_conv(32, 3, 2), _conv(32, 3), _conv(64, 3, 1, 1))
            self.features.add(nn.MaxPool2D(3, 2), _conv(80, 1), _conv(192, 3), nn.MaxPool2D(3, 2))
            for i, pooled in enumerate((32, 64, 64)):
                self.features.add(_module(f"A{i + 1}", _a, pooled))
            self.features.add(_module("B", _b))
            for i, width in enumerate((128, 160, 160, 192)):
                self.features.add(_module(f"C{i + 1}", _c, width))
            self.features.add(_module("D", _d), _module("E1", _e), _module("E2", _e))
            self.features.add(nn.AvgPool2D(8), nn.Dropout(0.5))
            self.output = nn.Dense(classes)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Scores (n, classes)."""
        return self.output(self.features(x))


def inception_v3(
    pretrained: bool = False, ctx: Any = None, root: Any = ROOT, **kwargs: Any
) -> Inception3:
    """Inception v3; `pretrained`: with trained values from a file in `root`."""
    net = Inception3(**kwargs)
    result: Inception3 = load_trained(net, "inceptionv3", pretrained, ctx or cpu(), root)
    return result

# SPDX-License-Identifier: Apache-2.0
"""Lists of parameter shapes to measure with."""

from __future__ import annotations

from math import prod
from pathlib import Path

from kvtrain.errors import ConfigError
from kvtrain.ndarray.serialization import load

Shape = tuple[int, ...]


def resnet50() -> list[Shape]:
    """The 161 parameters of a ResNet-50 that are trained."""
    shapes: list[Shape] = []

    def unit(inputs: int, outputs: int, kernel: int) -> None:
        shapes.extend([(outputs, inputs, kernel, kernel), (outputs,), (outputs,)])

    unit(3, 64, 7)
    inputs = 64
    for width, depth in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(depth):
            unit(inputs, width, 1)
            unit(width, width, 3)
            unit(width, 4 * width, 1)
            if block == 0:
                unit(inputs, 4 * width, 1)
            inputs = 4 * width
    return [*shapes, (1000, 2048), (1000,)]


def vgg16() -> list[Shape]:
    """The 32 parameters of a VGG-16."""
    shapes: list[Shape] = []
    inputs = 3
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            shapes += [(width, inputs, 3, 3), (width,)]
            inputs = width
    for outputs, size in ((4096, 512 * 49), (4096, 4096), (1000, 4096)):
        shapes += [(outputs, size), (outputs,)]
    return shapes


def mlp() -> list[Shape]:
    """A perceptron 784-512-256-10."""
    return [(512, 784), (512,), (256, 512), (256,), (10, 256), (10,)]


MODELS = {"mlp": mlp, "resnet50": resnet50, "vgg16": vgg16}


def shapes_of(name: str) -> list[Shape]:
    """Shapes by the name of a model, ``params:FILE``, or a number of elements.

    Raises
    ------
    ConfigError
        None of those.
    """
    if name in MODELS:
        return MODELS[name]()
    if name.startswith("params:"):
        path = Path(name.removeprefix("params:"))
        if not path.is_file():
            raise ConfigError(f"--params {path}: there is no such file")
        held = load(str(path))
        arrays = list(held.values()) if isinstance(held, dict) else list(held)
        return [array.shape for array in arrays if prod(array.shape)]
    try:
        elements = int(float(name))
    except (ValueError, OverflowError):
        elements = 0
    if elements < 1:
        raise ConfigError(
            f"--sizes {name!r}: a number of elements, or one of {', '.join(sorted(MODELS))}"
        )
    return [(elements,)]

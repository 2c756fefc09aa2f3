# SPDX-License-Identifier: Apache-2.0
"""``nd.image``: changes of images by chance, drawn from the stream that shuffle draws from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain import generators
from kvtrain.errors import OperatorError
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.invoke import invoke
from kvtrain.ops.attribute import declared
from kvtrain.ops.registry import find


def _between(low: float, high: float) -> float:
    if not 0 <= low <= high:
        raise OperatorError(f"min_factor={low} and max_factor={high} must be 0 or more, in order")
    unit = generators.serial_unit(1)[0]
    return float(unit * np.float32(high - low) + np.float32(low))


def _done(made: NDArray, out: Any) -> NDArray:
    return made if out is None else made.copyto(out)


def _scaling(kind: str) -> Callable[..., NDArray]:
    def run(
        data: NDArray, min_factor: float, max_factor: float, out: Any = None, **kw: Any
    ) -> NDArray:
        factor = _between(min_factor, max_factor)
        return _done(invoke(find("_image_scaled"), [data], {"kind": kind, "factor": factor}), out)

    run.__name__ = run.__qualname__ = f"random_{kind}"
    run.__doc__ = f"{kind.capitalize()} times a factor drawn from [min_factor, max_factor)."
    return run


random_brightness = _scaling("brightness")
random_contrast = _scaling("contrast")
random_saturation = _scaling("saturation")


def random_hue(
    data: NDArray, min_factor: float, max_factor: float, out: Any = None, **kw: Any
) -> NDArray:
    """The hue turned by a part of the circle drawn from [min_factor, max_factor)."""
    shift = _between(min_factor, max_factor)
    return _done(invoke(find("_image_hue"), [data], {"shift": shift}), out)


def random_color_jitter(
    data: NDArray,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
    out: Any = None,
    **kw: Any,
) -> NDArray:
    """Brightness, contrast, saturation and hue changed in random order."""
    made = invoke(find("identity"), [data], {})
    for step in generators.shuffled(4, True).tolist():
        if step == 0 and brightness > 0:
            made = random_brightness(made, max(0, 1 - brightness), 1 + brightness)
        elif step == 1 and contrast > 0:
            made = random_contrast(made, max(0, 1 - contrast), 1 + contrast)
        elif step == 2 and saturation > 0:
            made = random_saturation(made, max(0, 1 - saturation), 1 + saturation)
        elif step == 3 and hue > 0:
            made = random_hue(made, max(0, 1 - hue), 1 + hue)
    return _done(made, out)


def _normals(count: int) -> list[Any]:
    """Normal values by the polar method, two from each point inside the circle."""
    made: list[Any] = []
    while len(made) < count:
        x, y = generators.serial_unit(2) * np.float32(2) - np.float32(1)
        square = x * x + y * y
        if 0 < square <= 1:
            stretch = np.sqrt(np.float32(-2) * np.log(square) / square)
            made += [y * stretch, x * stretch]
    return made[:count]


def _flipping(name: str) -> Callable[..., NDArray]:
    def run(data: NDArray, p: float = 0.5, out: Any = None, **kw: Any) -> NDArray:
        flip = 1 - generators.serial_unit(1, "float64")[0] <= p
        return _done(invoke(find(f"_image_{name}" if flip else "identity"), [data], {}), out)

    run.__name__ = run.__qualname__ = f"random_{name}"
    run.__doc__ = f"{name} with probability `p`."
    return run


random_flip_left_right = _flipping("flip_left_right")
random_flip_top_bottom = _flipping("flip_top_bottom")


def random_lighting(data: NDArray, alpha_std: float = 0.05, out: Any = None, **kw: Any) -> NDArray:
    """Lighting noise with amounts drawn from a normal distribution."""
    amounts = tuple(float(a * np.float32(alpha_std)) for a in _normals(3))
    return _done(invoke(find("_image_adjust_lighting"), [data], {"alpha": amounts}), out)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    f.__name__: declared(f)
    for f in (
        random_brightness,
        random_contrast,
        random_saturation,
        random_hue,
        random_color_jitter,
        random_flip_left_right,
        random_flip_top_bottom,
        random_lighting,
    )
}

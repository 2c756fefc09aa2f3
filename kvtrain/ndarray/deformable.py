# SPDX-License-Identifier: Apache-2.0
"""Convolutions that look where offsets tell them to (Dai et al., 2017; Zhu et al., 2018)."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.errors import OperatorError
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.namespace import call
from kvtrain.ops.registry import find


def _run(name: str, *args: Any, **attrs: Any) -> Any:
    return call(find(name), args, attrs)


def _pair(value: Any, default: int, what: str) -> tuple[int, int]:
    given = tuple(value) or (default, default)
    if len(given) != 2:
        raise OperatorError(f"DeformableConvolution: {what}={value!r}; two numbers are needed")
    return int(given[0]), int(given[1])


def _sample(data: NDArray, y: Any, x: Any, sharp: bool) -> NDArray:
    """Bilinear values of (n, c, h, w) at fractional places (n, oh, ow); 0 outside.

    `sharp`: all of the last row and column counts as inside, and nothing before the first.
    """
    h, w = data.shape[2:]
    if sharp:
        raw_y, raw_x = y._read(), x._read()
        inside = (raw_y >= 0) & (raw_x >= 0) & (raw_y < h) & (raw_x < w)
        y, x = (_run("clip", a, a_min=0, a_max=n - 1) for a, n in ((y, h), (x, w)))
        shown = NDArray(inside[:, None].astype(data._read().dtype), data.context)
    padded = _run("Pad", data, mode="constant", pad_width=(0, 0, 0, 0, 1, 1, 1, 1))
    grid = _run("stack", (x + 1) * (2 / (w + 1)) - 1, (y + 1) * (2 / (h + 1)) - 1, axis=1)
    result: NDArray = _run("BilinearSampler", padded, grid)
    return _run("broadcast_mul", result, shown) if sharp else result


def _columns(
    data: NDArray, offset: NDArray, mask: NDArray | None, groups: int, geometry: Any
) -> NDArray:
    """What each place of the window sees: (n, c, kh * kw, oh, ow)."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = geometry
    n, c, h, w = data.shape
    oh, ow = (h + 2 * ph - dh * (kh - 1) - 1) // sh + 1, (w + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    wanted = (n, 2 * groups * kh * kw, oh, ow)
    if offset.shape != wanted:
        raise OperatorError(
            f"DeformableConvolution: offset has shape {offset.shape}; {wanted} is needed for data "
            f"of shape {data.shape} and kernel={(kh, kw)}"
        )
    rows = np.arange(oh)[None, :, None] * sh - ph
    columns = np.arange(ow)[None, None, :] * sw - pw
    parts = [_run("slice_axis", data, axis=1, begin=g * (c // groups), end=(g + 1) * (c // groups))
             for g in range(groups)]  # fmt: skip

    def plane(array: NDArray, index: int) -> NDArray:
        part = _run("slice_axis", array, axis=1, begin=index, end=index + 1)
        result: NDArray = _run("squeeze", part, axis=1)
        return result

    def constant(values: Any) -> Any:
        raw = np.broadcast_to(values, (n, oh, ow)).astype(data._read().dtype)
        return NDArray(raw, data.context)

    seen = []
    for k in range(kh * kw):
        i, j = divmod(k, kw)
        base_y, base_x = constant(rows + i * dh), constant(columns + j * dw)
        values = []
        for g, part in enumerate(parts):
            at = 2 * (g * kh * kw + k)
            y, x = base_y + plane(offset, at), base_x + plane(offset, at + 1)
            value = _sample(part, y, x, sharp=mask is None)
            if mask is not None:
                share = _run("expand_dims", plane(mask, g * kh * kw + k), axis=1)
                value = _run("broadcast_mul", value, share)
            values.append(value)
        seen.append(_run("Concat", *values, dim=1))
    result: NDArray = _run("stack", *seen, axis=2)
    return result


def _convolve(
    data: NDArray,
    offset: NDArray,
    mask: NDArray | None,
    weight: NDArray,
    bias: NDArray | None,
    attrs: dict[str, Any],
) -> NDArray:
    kernel = _pair(attrs["kernel"], 1, "kernel")
    stride, dilate = _pair(attrs["stride"], 1, "stride"), _pair(attrs["dilate"], 1, "dilate")
    geometry = (kernel, stride, _pair(attrs["pad"], 0, "pad"), dilate)
    groups, filters = attrs["num_group"], attrs["num_filter"]
    if data.ndim != 4 or attrs["layout"] not in (None, "NCHW"):
        raise OperatorError(
            f"DeformableConvolution: data of shape {data.shape}, layout={attrs['layout']!r}; "
            "(n, c, h, w) in layout NCHW is needed"
        )
    needed = (filters, data.shape[1] // groups, *kernel)
    if weight.shape != needed:
        raise OperatorError(
            f"DeformableConvolution: weight has shape {weight.shape}; {needed} is needed"
        )
    seen = _columns(data, offset, mask, attrs["num_deformable_group"], geometry)
    n, _, _, oh, ow = seen.shape
    flat = seen.reshape((n, groups, -1, oh * ow))
    matrices = weight.reshape((groups, filters // groups, -1))
    outs = []
    for g in range(groups):
        left = _run("slice_axis", matrices, axis=0, begin=g, end=g + 1)
        left = _run("broadcast_axis", left, axis=0, size=n)
        right = _run("squeeze", _run("slice_axis", flat, axis=1, begin=g, end=g + 1), axis=1)
        outs.append(_run("batch_dot", left, right))
    out = _run("Concat", *outs, dim=1).reshape((n, filters, oh, ow))
    if bias is not None and not attrs["no_bias"]:
        out = _run("broadcast_add", out, bias.reshape((1, -1, 1, 1)))
    result: NDArray = out
    return result


def DeformableConvolution(
    data: NDArray,
    offset: NDArray,
    weight: NDArray,
    bias: NDArray | None = None,
    kernel: Any = (),
    stride: Any = (),
    dilate: Any = (),
    pad: Any = (),
    num_filter: int = 0,
    num_group: int = 1,
    num_deformable_group: int = 1,
    workspace: int = 1024,
    no_bias: bool = False,
    layout: str | None = None,
    **kwargs: Any,
) -> NDArray:
    """Convolution of (n, c, h, w) whose window looks at places moved by `offset`.

    Parameters
    ----------
    offset : (n, 2 * groups * kh * kw, oh, ow)
        For each place of the window how far down, then how far right.
    weight : (num_filter, c / num_group, kh, kw)
    num_deformable_group : int
        Groups of channels that share offsets.
    """
    return _convolve(data, offset, None, weight, bias, locals())


def ModulatedDeformableConvolution(
    data: NDArray,
    offset: NDArray,
    mask: NDArray,
    weight: NDArray,
    bias: NDArray | None = None,
    kernel: Any = (),
    stride: Any = (),
    dilate: Any = (),
    pad: Any = (),
    num_filter: int = 0,
    num_group: int = 1,
    num_deformable_group: int = 1,
    workspace: int = 1024,
    no_bias: bool = False,
    im2col_step: int = 64,
    layout: str | None = None,
    **kwargs: Any,
) -> NDArray:
    """As DeformableConvolution; `mask` (n, groups * kh * kw, oh, ow) weighs each place."""
    return _convolve(data, offset, mask, weight, bias, locals())


FUNCTIONS: dict[str, Any] = {
    "DeformableConvolution": DeformableConvolution,
    "ModulatedDeformableConvolution": ModulatedDeformableConvolution,
}

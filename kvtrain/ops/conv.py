# SPDX-License-Identifier: Apache-2.0
"""Convolution and its transpose in one to three dimensions; the arithmetic is in the kernels."""

from __future__ import annotations

from typing import Any

from kvtrain.ops.attribute import Shape
from kvtrain.ops.broadcast import sizes
from kvtrain.ops.registry import op

#: layouts by spatial dimensions; the channel comes second, as the CPU of MXNet has it
LAYOUTS = {1: "NCW", 2: "NCHW", 3: "NCDHW"}


def spatial_of(data: Any, layout: str | None) -> int:
    """Number of spatial dimensions of `data`, whose layout must have channels second."""
    spatial = len(data.shape) - 2
    if spatial not in LAYOUTS:
        raise ValueError(
            f"data has shape {tuple(data.shape)}; (n, c, w), (n, c, h, w) or (n, c, d, h, w) "
            "is needed"
        )
    if layout not in (None, "None", LAYOUTS[spatial]):
        raise ValueError(f"layout={layout!r} is not supported; known: {LAYOUTS[spatial]}")
    return spatial


def geometry(data: Any, stride: Any, dilate: Any, pad: Any, layout: Any) -> dict[str, Any]:
    """The attributes of the convolution kernels."""
    spatial = spatial_of(data, layout)
    return {
        "stride": sizes(stride, 1, spatial, "stride"),
        "pad": sizes(pad, 0, spatial, "pad"),
        "dilate": sizes(dilate, 1, spatial, "dilate"),
    }


def _check(data: Any, weight: Any, kernel: Any, filters: int, num_filter: int) -> None:
    wanted = sizes(kernel, 1, len(data.shape) - 2, "kernel")
    if tuple(weight.shape[2:]) != wanted or filters != num_filter:
        raise ValueError(
            f"weight {tuple(weight.shape)} does not fit num_filter={num_filter}, kernel={kernel}"
        )


def _bias(out: Any, bias: Any, num_filter: int) -> Any:
    if bias.shape != (num_filter,):
        raise ValueError(f"bias has shape {bias.shape}; num_filter={num_filter}")
    out += bias.reshape((-1,) + (1,) * (out.ndim - 2))
    return out


def _bias_grads(xp: Any, g: Any, bias: Any) -> tuple[Any, ...]:
    axes = (0, *range(2, len(g.shape)))
    return tuple(lambda: xp.sum(g, axis=axes) for _ in bias)


def _conv_vjp(
    xp: Any,
    g: Any,
    out: Any,
    data: Any,
    weight: Any,
    *bias: Any,
    kernel: Any,
    stride: Any,
    dilate: Any,
    pad: Any,
    num_group: int,
    layout: Any,
    **rest: Any,
) -> tuple[Any, ...]:
    shape = geometry(data, stride, dilate, pad, layout)
    size, window = tuple(data.shape[2:]), tuple(weight.shape[2:])
    return (
        lambda: xp.conv_data_grad(g, weight, size=size, groups=num_group, **shape),
        lambda: xp.conv_weight_grad(g, data, kernel=window, groups=num_group, **shape),
        *_bias_grads(xp, g, bias),
    )


@op("Convolution", vjp=_conv_vjp, aliases=("Convolution_v1",))
def _convolution(
    xp: Any,
    data: Any,
    weight: Any,
    /,
    *bias: Any,
    kernel: Shape,
    stride: Shape = (),
    dilate: Shape = (),
    pad: Shape = (),
    num_filter: int,
    num_group: int = 1,
    workspace: int = 1024,
    no_bias: bool = False,
    cudnn_tune: str | None = None,
    cudnn_off: bool = False,
    layout: str | None = None,
) -> Any:
    """Cross-correlation of (n, c, *spatial) with (num_filter, c / num_group, *kernel)."""
    shape = geometry(data, stride, dilate, pad, layout)
    _check(data, weight, kernel, weight.shape[0], num_filter)
    if data.shape[1] != weight.shape[1] * num_group or num_filter % num_group:
        raise ValueError(
            f"data has {data.shape[1]} channels, weight {weight.shape} with "
            f"num_group={num_group} needs {weight.shape[1] * num_group}"
        )
    reach = zip(data.shape[2:], weight.shape[2:], shape["dilate"], shape["pad"], strict=True)
    for size, k, d, p in reach:
        if d * (k - 1) + 1 > size + 2 * p:
            raise ValueError(f"kernel {kernel} exceeds the input {data.shape} with pad {pad}")
    if not bias and not no_bias:
        raise ValueError("bias is missing; pass it or no_bias=True")
    out = xp.conv(data, weight, groups=num_group, **shape)
    return _bias(out, bias[0], num_filter) if bias and not no_bias else out


def _kernel_vjp(
    xp: Any, g: Any, out: Any, data: Any, weight: Any, *, groups: int, **shape: Any
) -> tuple[Any, ...]:
    size, window = tuple(data.shape[2:]), tuple(weight.shape[2:])
    return (
        lambda: xp.conv_data_grad(g, weight, size=size, groups=groups, **shape),
        lambda: xp.conv_weight_grad(g, data, kernel=window, groups=groups, **shape),
    )


@op("conv", vjp=_kernel_vjp, public=False)
def _conv(
    xp: Any, data: Any, weight: Any, /, *, stride: Shape, pad: Shape, dilate: Shape, groups: int
) -> Any:
    """The convolution kernel."""
    return xp.conv(data, weight, stride=stride, pad=pad, dilate=dilate, groups=groups)


def _data_grad_vjp(
    xp: Any, g: Any, out: Any, grad: Any, weight: Any, *, size: Any, groups: int, **shape: Any
) -> tuple[Any, ...]:
    window = tuple(weight.shape[2:])
    return (
        lambda: xp.conv(g, weight, groups=groups, **shape),
        lambda: xp.conv_weight_grad(grad, g, kernel=window, groups=groups, **shape),
    )


@op("conv_data_grad", vjp=_data_grad_vjp, public=False)
def _conv_data_grad(
    xp: Any,
    grad: Any,
    weight: Any,
    /,
    *,
    size: Shape,
    stride: Shape,
    pad: Shape,
    dilate: Shape,
    groups: int,
) -> Any:
    """Gradient of a convolution by its data; also the transposed convolution."""
    return xp.conv_data_grad(
        grad, weight, size=size, stride=stride, pad=pad, dilate=dilate, groups=groups
    )


def _weight_grad_vjp(
    xp: Any, g: Any, out: Any, grad: Any, data: Any, *, kernel: Any, groups: int, **shape: Any
) -> tuple[Any, ...]:
    size = tuple(data.shape[2:])
    return (
        lambda: xp.conv(data, g, groups=groups, **shape),
        lambda: xp.conv_data_grad(grad, g, size=size, groups=groups, **shape),
    )


@op("conv_weight_grad", vjp=_weight_grad_vjp, public=False)
def _conv_weight_grad(
    xp: Any,
    grad: Any,
    data: Any,
    /,
    *,
    kernel: Shape,
    stride: Shape,
    pad: Shape,
    dilate: Shape,
    groups: int,
) -> Any:
    """Gradient of a convolution by its weight."""
    return xp.conv_weight_grad(
        grad, data, kernel=kernel, stride=stride, pad=pad, dilate=dilate, groups=groups
    )


# ---- transposed ----------------------------------------------------------------------------


def _transposed(
    data: Any, kernel: Any, stride: Any, dilate: Any, pad: Any, adj: Any, target: Any, layout: Any
) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Attributes of the kernels, and the output's spatial size."""
    shape = geometry(data, stride, dilate, pad, layout)
    spatial = len(data.shape) - 2
    window = sizes(kernel, 1, spatial, "kernel")
    extra = sizes(adj, 0, spatial, "adj")
    wanted = sizes(target, 0, spatial, "target_shape")
    pads, out = [], []
    for i, size in enumerate(data.shape[2:]):
        reach = shape["stride"][i] * (size - 1) + shape["dilate"][i] * (window[i] - 1) + 1
        p, a = shape["pad"][i], extra[i]
        if any(wanted):
            if wanted[i] > reach:
                raise ValueError(f"target_shape={target} is too large: {reach} can be reached")
            over = reach - wanted[i]
            p, a = (over + 1) // 2, over % 2
        elif a >= shape["stride"][i]:
            raise ValueError(f"adj={adj} must be smaller than stride={stride}")
        pads.append(p)
        out.append(reach - 2 * p + a)
    return {**shape, "pad": tuple(pads)}, tuple(out)


def _deconv_vjp(
    xp: Any,
    g: Any,
    out: Any,
    data: Any,
    weight: Any,
    *bias: Any,
    kernel: Any,
    stride: Any,
    dilate: Any,
    pad: Any,
    adj: Any,
    target_shape: Any,
    num_group: int,
    layout: Any,
    **rest: Any,
) -> tuple[Any, ...]:
    shape, _ = _transposed(data, kernel, stride, dilate, pad, adj, target_shape, layout)
    window = tuple(weight.shape[2:])
    return (
        lambda: xp.conv(g, weight, groups=num_group, **shape),
        lambda: xp.conv_weight_grad(data, g, kernel=window, groups=num_group, **shape),
        *_bias_grads(xp, g, bias),
    )


@op("Deconvolution", vjp=_deconv_vjp)
def _deconvolution(
    xp: Any,
    data: Any,
    weight: Any,
    /,
    *bias: Any,
    kernel: Shape,
    stride: Shape = (),
    dilate: Shape = (),
    pad: Shape = (),
    adj: Shape = (),
    target_shape: Shape = (),
    num_filter: int,
    num_group: int = 1,
    workspace: int = 512,
    no_bias: bool = True,
    cudnn_tune: str | None = None,
    cudnn_off: bool = False,
    layout: str | None = None,
) -> Any:
    """Transposed convolution of (n, c, *spatial) with (c, num_filter / num_group, *kernel)."""
    shape, size = _transposed(data, kernel, stride, dilate, pad, adj, target_shape, layout)
    _check(data, weight, kernel, weight.shape[1] * num_group, num_filter)
    if data.shape[1] != weight.shape[0]:
        raise ValueError(
            f"data has {data.shape[1]} channels, weight {weight.shape} needs its first"
        )
    out = xp.conv_data_grad(data, weight, size=size, groups=num_group, **shape)
    return _bias(out, bias[0], num_filter) if bias and not no_bias else out

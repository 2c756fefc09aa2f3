# SPDX-License-Identifier: Apache-2.0
"""Convolution and pooling of images, NCHW; the arithmetic is in the kernels."""

from __future__ import annotations

from typing import Any

from kvtrain.ops.broadcast import pair
from kvtrain.ops.registry import op


def _geometry(data: Any, kernel: Any, stride: Any, dilate: Any, pad: Any, layout: Any) -> Any:
    if len(data.shape) != 4:
        raise ValueError(f"Convolution: data has shape {data.shape}; (n, c, h, w) is needed")
    if layout not in (None, "NCHW"):
        raise ValueError(f"Convolution: layout={layout!r}; NCHW is supported")
    return {
        "stride": pair(stride, 1, "stride"),
        "pad": pair(pad, 0, "pad"),
        "dilate": pair(dilate, 1, "dilate"),
    }


def _conv_vjp(
    xp: Any,
    g: Any,
    out: Any,
    data: Any,
    weight: Any,
    *bias: Any,
    kernel: Any,
    num_filter: int,
    stride: Any,
    dilate: Any,
    pad: Any,
    num_group: int,
    no_bias: bool,
    layout: Any,
    **tuning: Any,
) -> tuple[Any, ...]:
    geometry = _geometry(data, kernel, stride, dilate, pad, layout)
    size = (data.shape[2], data.shape[3])
    window = (weight.shape[2], weight.shape[3])
    grads = (
        lambda: xp.conv2d_data_grad(g, weight, size=size, groups=num_group, **geometry),
        lambda: xp.conv2d_weight_grad(g, data, kernel=window, groups=num_group, **geometry),
    )
    return (*grads, *(lambda: xp.sum(g, axis=(0, 2, 3)) for _ in bias))


@op("Convolution", vjp=_conv_vjp)
def _convolution(
    xp: Any,
    data: Any,
    weight: Any,
    /,
    *bias: Any,
    kernel: Any,
    num_filter: int,
    stride: Any = (),
    dilate: Any = (),
    pad: Any = (),
    num_group: int = 1,
    no_bias: bool = False,
    layout: str | None = None,
    workspace: int = 1024,
    cudnn_tune: str | None = None,
    cudnn_off: bool = False,
) -> Any:
    """Cross-correlation of (n, c, h, w) with (num_filter, c / num_group, kh, kw)."""
    geometry = _geometry(data, kernel, stride, dilate, pad, layout)
    if tuple(weight.shape[2:]) != pair(kernel, 1, "kernel") or weight.shape[0] != num_filter:
        raise ValueError(
            f"Convolution: weight {weight.shape} does not fit num_filter={num_filter}, "
            f"kernel={kernel}"
        )
    if data.shape[1] != weight.shape[1] * num_group:
        raise ValueError(
            f"Convolution: data has {data.shape[1]} channels, weight {weight.shape} with "
            f"num_group={num_group} needs {weight.shape[1] * num_group}"
        )
    out = xp.conv2d(data, weight, groups=num_group, **geometry)
    if bias and not no_bias:
        out += bias[0].reshape((1, -1, 1, 1))
    return out


def _conv2d_vjp(
    xp: Any, g: Any, out: Any, data: Any, weight: Any, *, groups: int, **geometry: Any
) -> tuple[Any, ...]:
    size = (data.shape[2], data.shape[3])
    window = (weight.shape[2], weight.shape[3])
    return (
        lambda: xp.conv2d_data_grad(g, weight, size=size, groups=groups, **geometry),
        lambda: xp.conv2d_weight_grad(g, data, kernel=window, groups=groups, **geometry),
    )


@op("_conv2d", vjp=_conv2d_vjp, public=False, aliases=("conv2d",))
def _conv2d(
    xp: Any, data: Any, weight: Any, /, *, stride: Any, pad: Any, dilate: Any, groups: int
) -> Any:
    """The convolution kernel."""
    return xp.conv2d(data, weight, stride=stride, pad=pad, dilate=dilate, groups=groups)


def _data_grad_vjp(
    xp: Any, g: Any, out: Any, grad: Any, weight: Any, *, size: Any, groups: int, **geometry: Any
) -> tuple[Any, ...]:
    window = (weight.shape[2], weight.shape[3])
    return (
        lambda: xp.conv2d(g, weight, groups=groups, **geometry),
        lambda: xp.conv2d_weight_grad(grad, g, kernel=window, groups=groups, **geometry),
    )


@op("_conv2d_data_grad", vjp=_data_grad_vjp, public=False, aliases=("conv2d_data_grad",))
def _conv2d_data_grad(
    xp: Any,
    grad: Any,
    weight: Any,
    /,
    *,
    size: Any,
    stride: Any,
    pad: Any,
    dilate: Any,
    groups: int,
) -> Any:
    """Gradient of a convolution by its data."""
    return xp.conv2d_data_grad(
        grad, weight, size=size, stride=stride, pad=pad, dilate=dilate, groups=groups
    )


def _weight_grad_vjp(
    xp: Any, g: Any, out: Any, grad: Any, data: Any, *, kernel: Any, groups: int, **geometry: Any
) -> tuple[Any, ...]:
    size = (data.shape[2], data.shape[3])
    return (
        lambda: xp.conv2d(data, g, groups=groups, **geometry),
        lambda: xp.conv2d_data_grad(grad, g, size=size, groups=groups, **geometry),
    )


@op("_conv2d_weight_grad", vjp=_weight_grad_vjp, public=False, aliases=("conv2d_weight_grad",))
def _conv2d_weight_grad(
    xp: Any,
    grad: Any,
    data: Any,
    /,
    *,
    kernel: Any,
    stride: Any,
    pad: Any,
    dilate: Any,
    groups: int,
) -> Any:
    """Gradient of a convolution by its weight."""
    return xp.conv2d_weight_grad(
        grad, data, kernel=kernel, stride=stride, pad=pad, dilate=dilate, groups=groups
    )


def _window(
    shape: tuple[int, ...],
    kernel: Any,
    pool_type: str,
    global_pool: bool,
    stride: Any,
    pad: Any,
    pooling_convention: str,
    count_include_pad: Any,
) -> dict[str, Any]:
    if len(shape) != 4:
        raise ValueError(f"Pooling: data has shape {shape}; (n, c, h, w) is needed")
    if pool_type not in ("max", "avg", "sum"):
        raise ValueError(f"Pooling: pool_type={pool_type!r}; known: max, avg, sum")
    if pooling_convention not in ("valid", "full"):
        raise ValueError(f"Pooling: pooling_convention={pooling_convention!r}; valid and full")
    whole = (shape[2], shape[3])
    return {
        "kernel": whole if global_pool else pair(kernel, 1, "kernel"),
        "stride": (1, 1) if global_pool else pair(stride, 1, "stride"),
        "pad": (0, 0) if global_pool else pair(pad, 0, "pad"),
        "kind": pool_type,
        "full": pooling_convention == "full",
        "include_pad": count_include_pad is None or bool(count_include_pad),
    }


def _pool_vjp(
    xp: Any, g: Any, out: Any, data: Any, *, layout: Any, **attrs: Any
) -> tuple[Any, ...]:
    attrs.pop("cudnn_off", None)
    return (xp.pool2d_grad(g, data, out, **_window(data.shape, **attrs)),)


@op("Pooling", vjp=_pool_vjp)
def _pooling(
    xp: Any,
    data: Any,
    /,
    *,
    kernel: Any = (),
    pool_type: str = "max",
    global_pool: bool = False,
    stride: Any = (),
    pad: Any = (),
    pooling_convention: str = "valid",
    count_include_pad: bool | None = None,
    layout: str | None = None,
    cudnn_off: bool = False,
) -> Any:
    """Maximum, average or sum over windows of (n, c, h, w)."""
    window = _window(
        data.shape,
        kernel,
        pool_type,
        global_pool,
        stride,
        pad,
        pooling_convention,
        count_include_pad,
    )
    return xp.pool2d(data, **window)


@op("_pool2d_grad", vjp=None, public=False, aliases=("pool2d_grad",))
def _pool2d_grad(
    xp: Any,
    grad: Any,
    data: Any,
    pooled: Any,
    /,
    *,
    kernel: Any,
    stride: Any,
    pad: Any,
    kind: str,
    full: bool,
    include_pad: bool,
) -> Any:
    """Gradient of pooling by its data."""
    return xp.pool2d_grad(
        grad,
        data,
        pooled,
        kernel=kernel,
        stride=stride,
        pad=pad,
        kind=kind,
        full=full,
        include_pad=include_pad,
    )

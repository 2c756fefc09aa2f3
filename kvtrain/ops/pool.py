# SPDX-License-Identifier: Apache-2.0
"""Pooling in one to three dimensions, and the columns of windows."""

from __future__ import annotations

from math import prod
from typing import Any

from kvtrain.ops.attribute import Shape
from kvtrain.ops.broadcast import sizes
from kvtrain.ops.conv import spatial_of
from kvtrain.ops.derive import derived
from kvtrain.ops.registry import op


def _window(
    data: Any,
    kernel: Any,
    pool_type: str,
    global_pool: bool,
    pooling_convention: str,
    stride: Any,
    pad: Any,
    count_include_pad: Any,
    layout: Any,
) -> dict[str, Any]:
    spatial = spatial_of(data, layout)
    if pool_type not in ("max", "avg", "sum", "lp"):
        raise ValueError(f"pool_type={pool_type!r}; known: max, avg, sum, lp")
    if pooling_convention not in ("valid", "full", "same"):
        raise ValueError(f"pooling_convention={pooling_convention!r}; known: valid, full, same")
    whole = tuple(data.shape[2:])
    window: dict[str, Any] = {
        "kernel": whole if global_pool else sizes(kernel, 1, spatial, "kernel"),
        "stride": (1,) * spatial if global_pool else sizes(stride, 1, spatial, "stride"),
        "pad": (0,) * spatial if global_pool else sizes(pad, 0, spatial, "pad"),
        "kind": "sum" if pool_type == "lp" else pool_type,
        "convention": "valid" if global_pool else pooling_convention,
        "include_pad": count_include_pad is None or bool(count_include_pad),
    }
    if not global_pool and not kernel:
        raise ValueError("kernel is missing; pass it or global_pool=True")
    for size, k, p in zip(whole, window["kernel"], window["pad"], strict=True):
        if k <= 0 or k > size + 2 * p:
            raise ValueError(f"kernel {kernel} exceeds the input {data.shape} with pad {pad}")
    return window


def _pooled(xp: Any, data: Any, *, p_value: Any, cudnn_off: Any = False, **attrs: Any) -> Any:
    window = _window(data, **attrs)
    if attrs["pool_type"] != "lp":
        return xp.pool(data, **window)
    if p_value not in (1, 2, 3):
        raise ValueError(f"p_value={p_value!r}; pool_type lp needs 1, 2 or 3")
    # as in MXNet the powers keep their sign
    total = xp.pool(data**p_value, **window)
    return {1: lambda a: a, 2: xp.sqrt, 3: xp.cbrt}[p_value](total)


_general = derived(_pooled)


def _pooling_vjp(xp: Any, g: Any, out: Any, data: Any, **attrs: Any) -> tuple[Any, ...]:
    if attrs["pool_type"] == "lp":
        return _general(xp, g, out, data, **attrs)
    window = {k: v for k, v in attrs.items() if k not in ("p_value", "cudnn_off")}
    return (xp.pool_grad(g, data, out, **_window(data, **window)),)


@op("Pooling", vjp=_pooling_vjp, aliases=("Pooling_v1",))
def _pooling(
    xp: Any,
    data: Any,
    /,
    *,
    kernel: Shape = (),
    pool_type: str = "max",
    global_pool: bool = False,
    cudnn_off: bool = False,
    pooling_convention: str = "valid",
    stride: Shape = (),
    pad: Shape = (),
    p_value: int | None = None,
    count_include_pad: bool | None = None,
    layout: str | None = None,
) -> Any:
    """Maximum, average, sum or Lp norm over windows of (n, c, *spatial)."""
    return _pooled(
        xp,
        data,
        kernel=kernel,
        pool_type=pool_type,
        global_pool=global_pool,
        pooling_convention=pooling_convention,
        stride=stride,
        pad=pad,
        p_value=p_value,
        count_include_pad=count_include_pad,
        layout=layout,
    )


@op(
    "pool",
    vjp=lambda xp, g, out, data, **window: (xp.pool_grad(g, data, out, **window),),
    public=False,
)
def _pool(
    xp: Any,
    data: Any,
    /,
    *,
    kernel: Shape,
    stride: Shape,
    pad: Shape,
    kind: str,
    convention: str,
    include_pad: bool,
) -> Any:
    """The pooling kernel."""
    return xp.pool(
        data,
        kernel=kernel,
        stride=stride,
        pad=pad,
        kind=kind,
        convention=convention,
        include_pad=include_pad,
    )


def _pool_grad_vjp(
    xp: Any, g: Any, out: Any, grad: Any, data: Any, pooled: Any, **window: Any
) -> tuple[Any, ...]:
    if window["kind"] != "max":
        return xp.pool(g, **window), None, None
    rest = {k: v for k, v in window.items() if k not in ("kind", "include_pad")}
    return xp.pool_pick(g, data, pooled, **rest), None, None


@op("pool_grad", vjp=_pool_grad_vjp, public=False)
def _pool_grad(
    xp: Any,
    grad: Any,
    data: Any,
    pooled: Any,
    /,
    *,
    kernel: Shape,
    stride: Shape,
    pad: Shape,
    kind: str,
    convention: str,
    include_pad: bool,
) -> Any:
    """Gradient of pooling by its data."""
    return xp.pool_grad(
        grad,
        data,
        pooled,
        kernel=kernel,
        stride=stride,
        pad=pad,
        kind=kind,
        convention=convention,
        include_pad=include_pad,
    )


@op(
    "pool_pick",
    vjp=lambda xp, g, out, values, data, pooled, **window: (
        xp.pool_grad(g, data, pooled, kind="max", include_pad=True, **window),
        None,
        None,
    ),
    public=False,
)
def _pool_pick(
    xp: Any,
    values: Any,
    data: Any,
    pooled: Any,
    /,
    *,
    kernel: Shape,
    stride: Shape,
    pad: Shape,
    convention: str,
) -> Any:
    """`values` where max pooling of `data` took its maxima."""
    return xp.pool_pick(
        values, data, pooled, kernel=kernel, stride=stride, pad=pad, convention=convention
    )


# ---- columns -------------------------------------------------------------------------------


def _columns(kernel: Any, stride: Any, dilate: Any, pad: Any) -> dict[str, Any]:
    spatial = 1 if isinstance(kernel, int) else len(kernel)
    return {
        "kernel": sizes(kernel, 1, spatial, "kernel"),
        "stride": sizes(stride, 1, spatial, "stride"),
        "dilate": sizes(dilate, 1, spatial, "dilate"),
        "pad": sizes(pad, 0, spatial, "pad"),
    }


def _im2col_vjp(xp: Any, g: Any, out: Any, a: Any, **window: Any) -> tuple[Any, ...]:
    return (xp.col2im(g, output_size=tuple(a.shape[2:]), **_columns(**window)),)


@op("im2col", vjp=_im2col_vjp)
def _im2col(
    xp: Any, data: Any, /, *, kernel: Shape, stride: Shape = (), dilate: Shape = (), pad: Shape = ()
) -> Any:
    """Windows of (n, c, *spatial) as columns: (n, c * kernel, positions)."""
    return xp.im2col(data, **_columns(kernel, stride, dilate, pad))


@op(
    "col2im",
    vjp=lambda xp, g, out, a, *, output_size, **window: (xp.im2col(g, **_columns(**window)),),
)
def _col2im(
    xp: Any,
    data: Any,
    /,
    *,
    output_size: Shape,
    kernel: Shape,
    stride: Shape = (),
    dilate: Shape = (),
    pad: Shape = (),
) -> Any:
    """Columns (n, c * kernel, positions) added where im2col read them: (n, c, *output_size)."""
    window = _columns(kernel, stride, dilate, pad)
    size = sizes(output_size, 1, len(window["kernel"]), "output_size")
    if data.ndim != 3 or data.shape[1] % prod(window["kernel"]):
        raise ValueError(f"data {data.shape} is not (n, c * kernel, positions) of {kernel}")
    return xp.col2im(data, output_size=size, **window)

# SPDX-License-Identifier: Apache-2.0
"""Output layers: their gradient is that of a loss, whatever comes after."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.derive import values
from kvtrain.ops.registry import op


def _rows(shape: tuple[int, ...], multi_output: bool, preserve_shape: bool) -> tuple[int, ...]:
    """The shape whose second axis (with `multi_output`) or last axis softmax runs over."""
    if multi_output:
        return (shape[0], shape[1], int(np.prod(shape[2:], dtype=np.int64)))
    return tuple(shape) if preserve_shape else (shape[0], int(np.prod(shape[1:], dtype=np.int64)))


def _hot(classes: int, label: Any, smooth: float, dtype: Any) -> Any:
    """What softmax should give: the classes last; a label that names no class gives zeros."""
    index = label.astype(np.int64)[..., None]
    at = np.arange(classes) == index
    low = smooth / (classes - 1) if classes > 1 and smooth else 0.0
    return np.where(at, 1.0 - smooth, low).astype(dtype)


def _softmax_output_vjp(
    xp: Any,
    g: Any,
    out: Any,
    a: Any,
    label: Any,
    *,
    grad_scale: float,
    ignore_label: float,
    multi_output: bool,
    use_ignore: bool,
    preserve_shape: bool,
    normalization: str,
    out_grad: bool,
    smooth_alpha: float,
) -> tuple[Any, ...]:
    raw = values(label)
    dtype = np.dtype(a.dtype).name
    if raw.shape == tuple(a.shape):
        grad = (out - raw) * grad_scale
        return (grad * g if out_grad else grad), None
    rows = _rows(tuple(a.shape), multi_output, preserve_shape)
    classes = rows[1] if multi_output else rows[-1]
    wanted = (rows[0], rows[2]) if multi_output else rows[:-1]
    # as in MXNet: of more than two dimensions made two, the first labels count
    lines = raw.reshape(-1)[: int(np.prod(wanted))].reshape(wanted)
    aim = _hot(classes, lines, smooth_alpha, dtype)
    keep = np.ones((*wanted, 1), dtype)
    ignored = lines.astype(np.int64) == int(ignore_label)
    if use_ignore:
        keep = (~ignored)[..., None].astype(dtype)
    if multi_output:
        aim, keep = np.moveaxis(aim, -1, 1), np.moveaxis(keep, -1, 1)
    grad = (xp.reshape(out, rows) - np.ascontiguousarray(aim)) * np.ascontiguousarray(
        np.broadcast_to(keep, rows)
    )
    scale = grad_scale
    if normalization == "batch":
        scale /= raw.shape[0] if multi_output else raw.size
    elif normalization == "valid":
        scale /= max(int((~ignored).sum()), 1)
    if multi_output and normalization != "valid":
        scale /= rows[2]
    grad = xp.reshape(grad * scale, a.shape)
    return (grad * g if out_grad else grad), None


@op("SoftmaxOutput", vjp=_softmax_output_vjp, aliases=("Softmax",))
def _softmax_output(
    xp: Any,
    data: Any,
    label: Any,
    /,
    *,
    grad_scale: float = 1.0,
    ignore_label: float = -1.0,
    multi_output: bool = False,
    use_ignore: bool = False,
    preserve_shape: bool = False,
    normalization: str = "null",
    out_grad: bool = False,
    smooth_alpha: float = 0.0,
) -> Any:
    """Softmax whose gradient is ``softmax - label``, whatever comes after."""
    if normalization not in ("null", "batch", "valid"):
        raise ValueError(f"normalization={normalization!r}; known: null, batch, valid")
    rows = _rows(data.shape, multi_output, preserve_shape)
    expected = (data.shape[0], *data.shape[2:]) if multi_output else data.shape[:-1]
    flat = (rows[0], rows[2]) if multi_output else expected
    if label.shape not in (data.shape, expected, flat):
        raise ValueError(f"label {label.shape} does not fit data {data.shape}")
    return xp.softmax(data.reshape(rows), axis=1 if multi_output else -1).reshape(data.shape)


def _svm_vjp(
    xp: Any,
    g: Any,
    out: Any,
    a: Any,
    label: Any,
    *,
    margin: float,
    regularization_coefficient: float,
    use_linear: bool,
) -> tuple[Any, ...]:
    # 1 for the class of the label, -1 for the others
    side = (2 * _hot(a.shape[1], values(label), 0.0, "float64") - 1).astype(np.dtype(a.dtype).name)
    short = margin - out * side
    inside = (values(short) > 0).astype(np.dtype(a.dtype).name)
    slope = -side * inside * regularization_coefficient
    return (out * 0 + slope if use_linear else short * (2 * slope)), None


@op("SVMOutput", vjp=_svm_vjp)
def _svm_output(
    xp: Any,
    data: Any,
    label: Any,
    /,
    *,
    margin: float = 1.0,
    regularization_coefficient: float = 1.0,
    use_linear: bool = False,
) -> Any:
    """The data (n, classes); its gradient is that of a hinge loss, squared or `use_linear`."""
    if data.ndim != 2 or label.shape != data.shape[:1]:
        raise ValueError(f"data {data.shape} and label {label.shape}: (n, k) and (n,) are needed")
    return xp.array(data)


def _make_loss_vjp(
    xp: Any, g: Any, out: Any, a: Any, *, grad_scale: float, valid_thresh: float, normalization: str
) -> tuple[Any, ...]:
    scale = grad_scale
    if normalization == "batch":
        scale /= a.shape[0]
    elif normalization == "valid":
        scale /= max(int((values(a) > valid_thresh).sum()), 1)
    return (xp.ones_like(a) * scale,)


@op("MakeLoss", vjp=_make_loss_vjp)
def _make_loss(
    xp: Any,
    data: Any,
    /,
    *,
    grad_scale: float = 1.0,
    valid_thresh: float = 0.0,
    normalization: str = "null",
) -> Any:
    """A copy whose gradient is `grad_scale` whatever comes after."""
    if normalization not in ("null", "batch", "valid"):
        raise ValueError(f"normalization={normalization!r}; known: null, batch, valid")
    return xp.array(data)


def _regression(name: str, forward: Any, slope: Any, doc: str) -> None:
    def vjp(xp: Any, g: Any, out: Any, a: Any, label: Any, *, grad_scale: float) -> tuple[Any, ...]:
        count = 1
        for n in a.shape[1:]:
            count *= n
        return slope(xp, out, xp.reshape(label, a.shape)) * (grad_scale / count), None

    def run(xp: Any, data: Any, label: Any, /, *, grad_scale: float = 1.0) -> Any:
        if label.size != data.size or label.shape[0] != data.shape[0]:
            raise ValueError(f"label {label.shape} does not fit data {data.shape}")
        return forward(xp, data)

    op(name, vjp=vjp, doc=doc)(run)


_regression(
    "LinearRegressionOutput",
    lambda xp, a: xp.array(a),
    lambda xp, out, label: out - label,
    "The data; its gradient is that of squared error.",
)
_regression(
    "MAERegressionOutput",
    lambda xp, a: xp.array(a),
    lambda xp, out, label: xp.sign(out - label),
    "The data; its gradient is that of absolute error.",
)
_regression(
    "LogisticRegressionOutput",
    lambda xp, a: 1 / (1 + xp.exp(-a)),
    lambda xp, out, label: out - label,
    "Sigmoid; its gradient is that of binary cross-entropy.",
)

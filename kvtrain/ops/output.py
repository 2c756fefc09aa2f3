# SPDX-License-Identifier: Apache-2.0
"""Output layers: their gradient is that of a loss, whatever comes after."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.registry import op
from kvtrain.ops.softmax import hot


def _softmax_output_vjp(
    xp: Any, g: Any, out: Any, a: Any, label: Any, *, grad_scale: float, **attrs: Any
) -> tuple[Any, ...]:
    if attrs["multi_output"]:
        moved = xp.transpose(out, axes=(0, *range(2, len(out.shape)), 1))
    else:
        moved = out
    raw = np.asarray(label.asnumpy() if hasattr(label, "asnumpy") else label)
    if raw.shape == tuple(moved.shape):
        grad = moved - raw
        count = raw.shape[0]
    else:
        raw = raw.reshape(moved.shape[:-1])
        grad = moved - hot(moved.shape, np.clip(raw, 0, moved.shape[-1] - 1), a.dtype)
        count = raw.size
        if attrs["use_ignore"]:
            keep = (raw != attrs["ignore_label"])[..., None]
            grad = grad * np.broadcast_to(keep, moved.shape).astype(np.dtype(a.dtype).name)
            count = int(keep.sum())
    if attrs["multi_output"]:
        grad = xp.transpose(grad, axes=(0, len(out.shape) - 1, *range(1, len(out.shape) - 1)))
    scale = grad_scale
    if attrs["normalization"] == "batch":
        scale /= a.shape[0]
    elif attrs["normalization"] == "valid":
        scale /= max(count, 1)
    return grad * scale, None


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
        raise ValueError(f"SoftmaxOutput: normalization={normalization!r}; null, batch, valid")
    return xp.softmax(data, axis=1 if multi_output else -1)


def _regression(name: str, forward: Any, slope: Any, doc: str) -> None:
    def vjp(xp: Any, g: Any, out: Any, a: Any, label: Any, *, grad_scale: float) -> tuple[Any, ...]:
        count = 1
        for n in a.shape[1:]:
            count *= n
        return slope(xp, out, xp.reshape(label, a.shape)) * (grad_scale / count), None

    def run(xp: Any, data: Any, label: Any, /, *, grad_scale: float = 1.0) -> Any:
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

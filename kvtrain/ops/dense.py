# SPDX-License-Identifier: Apache-2.0
"""Dense layers, and the mask of Dropout."""

from __future__ import annotations

from typing import Any

from kvtrain.ops.registry import op


def _dense_vjp(
    xp: Any,
    g: Any,
    out: Any,
    data: Any,
    weight: Any,
    *bias: Any,
    num_hidden: int,
    no_bias: bool,
    flatten: bool,
) -> tuple[Any, ...]:
    rows = xp.reshape(g, (-1, weight.shape[0]))

    def by_data() -> Any:
        return xp.reshape(xp.dot(rows, weight), data.shape)

    def by_weight() -> Any:
        return xp.dot(xp.transpose(rows), xp.reshape(data, (-1, weight.shape[1])))

    return (by_data, by_weight, *(lambda: xp.sum(rows, axis=0) for _ in bias))


@op("FullyConnected", vjp=_dense_vjp)
def _fully_connected(
    xp: Any,
    data: Any,
    weight: Any,
    /,
    *bias: Any,
    num_hidden: int,
    no_bias: bool = False,
    flatten: bool = True,
) -> Any:
    """``data . weight^T + bias``; weight is (num_hidden, inputs)."""
    rows = data.reshape((data.shape[0], -1)) if flatten else data.reshape((-1, data.shape[-1]))
    if rows.shape[1] != weight.shape[1] or weight.shape[0] != num_hidden:
        raise ValueError(
            f"FullyConnected: data {data.shape} and num_hidden={num_hidden} do not fit "
            f"weight {weight.shape}"
        )
    out = xp.dot(rows, weight.T)
    if bias and not no_bias:
        out += bias[0]
    return out if flatten else out.reshape((*data.shape[:-1], num_hidden))


@op("_added_gradient", vjp=lambda xp, g, out, a, *, added: (g + added,), public=False)
def _added_gradient(xp: Any, data: Any, /, *, added: Any) -> Any:
    """`data`, to whose gradient `added` is added."""
    return xp.array(data)


@op("_mask", vjp=lambda xp, g, out, a, *, mask: (g * mask,), public=False)
def _mask(xp: Any, data: Any, /, *, mask: Any) -> Any:
    """``data * mask`` with a mask that has no gradient; what Dropout does in training."""
    return data * mask

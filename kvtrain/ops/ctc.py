# SPDX-License-Identifier: Apache-2.0
"""Connectionist temporal classification (Graves et al., 2006)."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.derive import derived, values
from kvtrain.ops.registry import op

#: an impossible event, as a logarithm that can be added to and differentiated
_NEVER = -1e30


def _problem(
    data: Any, label: Any, rest: tuple[Any, ...], use_data: bool, use_label: bool, blank: str
) -> tuple[Any, ...]:
    """(states, skip, data_lengths, state_lengths) of a batch."""
    if blank not in ("first", "last"):
        raise ValueError(f"blank_label={blank!r}; known: first, last")
    left = list(rest)
    steps, n, classes = data.shape
    labels = values(label).astype(np.int64)
    if labels.ndim != 2 or len(labels) != n:
        raise ValueError(f"label has shape {labels.shape}; ({n}, length) is needed")
    if use_data and not left:
        raise ValueError("data_lengths is missing")
    spans = values(left.pop(0)).astype(np.int64) if use_data else np.full(n, steps)
    padding = 0 if blank == "first" else -1
    if use_label:
        if not left:
            raise ValueError("label_lengths is missing")
        counts = values(left.pop(0)).astype(np.int64)
    else:
        padded = labels == padding
        counts = np.where(padded.any(axis=1), padded.argmax(axis=1), labels.shape[1])
    none = 0 if blank == "first" else classes - 1
    states = np.full((n, 2 * labels.shape[1] + 1), none)
    states[:, 1::2] = np.where(np.arange(labels.shape[1]) < counts[:, None], labels, none)
    if states.min() < 0 or states.max() >= classes:
        raise ValueError(f"label outside the {classes} classes of data {tuple(data.shape)}")
    skip = np.zeros(states.shape, bool)
    skip[:, 2:] = (states[:, 2:] != none) & (states[:, 2:] != states[:, :-2])
    return states, skip, spans, 2 * counts + 1


def _formula(xp: Any, data: Any, label: Any, *rest: Any, **attrs: Any) -> Any:
    """The recursion in single operators: its gradient's gradient is derived from it."""
    states, skip, spans, sizes = _problem(
        data,
        label,
        rest,
        attrs["use_data_lengths"],
        attrs["use_label_lengths"],
        attrs["blank_label"],
    )
    steps, n, _ = data.shape
    logs = xp.log_softmax(data, axis=-1)
    dtype = np.dtype(data.dtype).name
    rows = np.arange(n)
    exists = np.arange(states.shape[1]) < sizes[:, None]
    wall = np.where(exists, 0, _NEVER).astype(dtype)
    jump = np.where(skip, 0, _NEVER).astype(dtype)
    never = np.full((n, 2), _NEVER, dtype)
    start = np.full(states.shape, _NEVER, dtype)
    start[:, :2] = 0

    def emitted(t: int) -> Any:
        return xp._index(logs, key=(np.full_like(states, t), rows[:, None], states))

    alpha = emitted(0) + start + wall
    alphas = [alpha]
    for t in range(1, steps):
        one = xp.concatenate([never[:, :1], alpha[:, :-1]], axis=1)
        two = xp.concatenate([never, alpha[:, :-2]], axis=1) + jump
        top = xp.maximum(xp.maximum(alpha, one), two)
        total = xp.exp(alpha - top) + xp.exp(one - top) + xp.exp(two - top)
        alpha = xp.log(total) + top + emitted(t) + wall
        alphas.append(alpha)
    last = xp._index(xp.stack(alphas, axis=0), key=(np.maximum(spans - 1, 0), rows))
    end = last[(rows, sizes - 1)]
    before = last[(rows, np.maximum(sizes - 2, 0))] + np.where(sizes > 1, 0, _NEVER).astype(dtype)
    top = xp.maximum(end, before)
    return -(xp.log(xp.exp(end - top) + xp.exp(before - top)) + top)


_general = derived(_formula, 0)


def _ctc_vjp(xp: Any, g: Any, out: Any, data: Any, *rest: Any, **attrs: Any) -> tuple[Any, ...]:
    g = g[0]
    if not isinstance(data, np.ndarray):
        return _general(xp, g, out[0], data, *rest, **attrs)
    grad: tuple[Any, ...] = (out[1] * g[:, None], *(None for _ in rest))
    return grad


@op(
    "CTCLoss",
    vjp=_ctc_vjp,
    aliases=("ctc_loss", "_contrib_CTCLoss", "_contrib_ctc_loss"),
    optional=("data_lengths", "label_lengths"),
    visible=lambda attrs: 1,
)
def _ctc_loss(
    xp: Any,
    data: Any,
    label: Any,
    /,
    *lengths: Any,
    use_data_lengths: bool = False,
    use_label_lengths: bool = False,
    blank_label: str = "first",
) -> Any:
    """Minus the log-probability of `label` (n, l) under the activations `data` (t, n, classes).

    `label` is padded with 0 (blank "first") or -1 ("last"), or has `label_lengths`.
    """
    if data.ndim != 3:
        raise ValueError(f"data has shape {data.shape}; (time, batch, classes) is needed")
    problem = _problem(data, label, lengths, use_data_lengths, use_label_lengths, blank_label)
    logs = xp.log_softmax(data, axis=-1)
    losses, posteriors = xp.ctc(logs, *problem)
    inside = np.arange(data.shape[0])[:, None] < problem[2]
    # as in MXNet labels that do not fit into the data cost nothing
    fits = np.isfinite(losses)
    grad = (np.exp(logs) - posteriors) * (inside & fits)[..., None]
    losses = np.where(fits, losses, 0)
    return losses.astype(data.dtype), grad.astype(data.dtype)

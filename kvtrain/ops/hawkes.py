# SPDX-License-Identifier: Apache-2.0
"""Likelihood of marked self-exciting point processes (Hawkes, 1971)."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.derive import derived, values
from kvtrain.ops.registry import op


def _formula(
    xp: Any,
    lda: Any,
    alpha: Any,
    beta: Any,
    state: Any,
    lags: Any,
    marks: Any,
    valid_length: Any,
    max_time: Any,
) -> Any:
    n, k = lda.shape
    dtype = np.dtype(lda.dtype)
    gaps, kinds = values(lags).astype(dtype), values(marks).astype(np.int64)
    counts, ends = values(valid_length).reshape(-1), values(max_time).reshape(-1)
    wide = [xp.broadcast_to(xp.reshape(a, (1, k)), (n, k)) for a in (alpha, beta)]
    a, b = wide
    s: Any = xp.reshape(state, (n, k))
    seen = np.zeros((n, k), dtype)
    now = np.zeros(n, dtype)
    total: Any = None

    def decayed(since: Any, memory: Any) -> tuple[Any, Any]:
        fade = xp.exp(b * (-since))
        return fade, lda * since + a * memory * (1 - fade)

    for i in range(gaps.shape[1]):
        alive = (i < counts).astype(dtype)
        now = now + gaps[:, i] * alive
        mark = np.zeros((n, k), dtype)
        mark[np.arange(n), np.clip(kinds[:, i], 0, k - 1)] = alive
        since = np.ascontiguousarray((now[:, None] - seen) * mark)
        fade, compensator = decayed(since, s)
        rate = lda + a * b * s * fade
        here = np.ascontiguousarray(np.broadcast_to((1 - alive)[:, None] / k, (n, k)).astype(dtype))
        part = xp.log(xp.sum(rate * mark + here, axis=1)) - xp.sum(compensator * mark, axis=1)
        total = part if total is None else total + part
        s = s * (1 - mark) + (s * fade + 1) * mark
        seen = seen + since
    since = np.ascontiguousarray(ends[:, None].astype(dtype) - seen)
    fade, compensator = decayed(since, s)
    left = -xp.sum(compensator, axis=1)
    total = left if total is None else total + left
    return xp.concatenate([xp.reshape(total, (n, 1)), s * fade], axis=1)


@op("_hawkes", vjp=derived(_formula, 0, 1, 2), public=False)
def _hawkes(
    xp: Any,
    lda: Any,
    alpha: Any,
    beta: Any,
    state: Any,
    lags: Any,
    marks: Any,
    valid_length: Any,
    max_time: Any,
    /,
) -> Any:
    """Log-likelihoods and last states as one array (n, 1 + k)."""
    n, k = lda.shape if lda.ndim == 2 else (0, 0)
    shapes = {
        "lda": ((n, k), lda),
        "alpha": ((k,), alpha),
        "beta": ((k,), beta),
        "state": ((n, k), state),
        "marks": (tuple(lags.shape), marks),
        "valid_length": ((n,), valid_length),
        "max_time": ((n,), max_time),
    }
    for name, (wanted, array) in shapes.items():
        if tuple(array.shape) != wanted:
            raise ValueError(f"{name} has shape {tuple(array.shape)}; {wanted} is needed")
    if lags.ndim != 2 or lags.shape[0] != n:
        raise ValueError(f"lags has shape {tuple(lags.shape)}; ({n}, events) is needed")
    return _formula(xp, lda, alpha, beta, state, lags, marks, valid_length, max_time)

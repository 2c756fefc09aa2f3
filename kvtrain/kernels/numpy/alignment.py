# SPDX-License-Identifier: Apache-2.0
"""Connectionist temporal classification: all sequences of a batch at once, in logarithms."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def _shifted(alpha: Array, by: int) -> Array:
    """`alpha` moved along its last axis, what comes in being impossible."""
    out = np.full_like(alpha, -np.inf)
    if by > 0:
        out[:, by:] = alpha[:, :-by]
    else:
        out[:, :by] = alpha[:, -by:]
    return out


def _log_sum(*terms: Array) -> Array:
    out = terms[0]
    for term in terms[1:]:
        out = np.logaddexp(out, term)
    return out


def ctc(
    logs: Array, states: Array, skip: Array, data_lengths: Array, state_lengths: Array
) -> tuple[Array, Array]:
    """Losses, and the sum of the probabilities of each class at each step given the labels.

    Parameters
    ----------
    logs : (t, n, classes)
        Logarithms of the probabilities of the classes.
    states : (n, s)
        Classes of the extended labels: blank, label, blank, ...
    skip : (n, s)
        Whether a state may follow the last but one.
    data_lengths, state_lengths : (n,)

    Returns
    -------
    losses (n,), posteriors (t, n, classes)
    """
    steps, n, _ = logs.shape
    rows = np.arange(n)
    exists = np.arange(states.shape[1]) < state_lengths[:, None]
    emitted = np.take_along_axis(logs, np.broadcast_to(states, (steps, *states.shape)), 2)
    emitted = np.where(exists, emitted, -np.inf)
    jump = np.where(skip, 0.0, -np.inf).astype(logs.dtype)
    alphas = np.full((steps, *states.shape), -np.inf, logs.dtype)
    alphas[0, :, :2] = emitted[0, :, :2]
    for t in range(1, steps):
        before = alphas[t - 1]
        alphas[t] = _log_sum(before, _shifted(before, 1), _shifted(before, 2) + jump) + emitted[t]
    last = alphas[np.maximum(data_lengths - 1, 0), rows]
    end = last[rows, state_lengths - 1]
    second = np.where(state_lengths > 1, last[rows, np.maximum(state_lengths - 2, 0)], -np.inf)
    total = np.logaddexp(end, second)
    beta = np.full(states.shape, -np.inf, logs.dtype)
    final = np.full(states.shape, -np.inf, logs.dtype)
    final[rows, state_lengths - 1] = 0
    final[rows, np.maximum(state_lengths - 2, 0)] = 0
    posteriors = np.zeros_like(logs)
    next_jump = _shifted(jump, -2)
    for t in reversed(range(steps)):
        if t + 1 < steps:
            after = beta + emitted[t + 1]
            moved = _log_sum(after, _shifted(after, -1), _shifted(after, -2) + next_jump)
        else:
            moved = beta
        ends = np.equal(data_lengths - 1, t)
        beta = np.where(ends[:, None], final, moved)
        weight = np.exp(alphas[t] + beta - total[:, None])
        weight = np.where(np.isfinite(weight) & (t < data_lengths)[:, None], weight, 0)
        np.add.at(posteriors[t], (rows[:, None], states), weight)
    return -total, posteriors

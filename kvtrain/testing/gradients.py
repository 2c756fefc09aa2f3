# SPDX-License-Identifier: Apache-2.0
"""Compares gradients with finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kvtrain import autograd, nd


def assert_almost_equal(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-7) -> None:
    """Compare two arrays (NumPy or NDArray), with both tolerances and shapes in the error."""
    left = a.asnumpy() if isinstance(a, nd.NDArray) else np.asarray(a)
    right = b.asnumpy() if isinstance(b, nd.NDArray) else np.asarray(b)
    np.testing.assert_allclose(left, right, rtol=rtol, atol=atol)


def check_gradient(
    function: Callable[..., Any],
    inputs: Sequence[Any],
    wanted: Sequence[int] | None = None,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-6,
) -> None:
    """Compare the gradients of `function` with central differences, in float64.

    Parameters
    ----------
    function : callable
        NDArrays to one NDArray (or a list, of which all are used).
    inputs : sequence of array-like
        Where to differentiate.
    wanted : sequence of int, optional
        Which inputs are differentiated; all by default.
    """
    arrays = [nd.array(np.asarray(x, np.float64), dtype="float64") for x in inputs]
    chosen = range(len(arrays)) if wanted is None else wanted
    for i in chosen:
        arrays[i].attach_grad()
    rng = np.random.default_rng(0)
    weights: list[Any] = []

    def scalar() -> float:
        out = function(*arrays)
        outs = out if isinstance(out, list | tuple) else [out]
        if not weights:
            weights.extend(rng.standard_normal(o.shape) for o in outs)
        return sum(float((o.asnumpy() * w).sum()) for o, w in zip(outs, weights, strict=True))

    with autograd.train_mode():
        scalar()
    with autograd.record():
        out = function(*arrays)
    outs = out if isinstance(out, list | tuple) else [out]
    heads = [nd.array(w, dtype="float64") for w in weights]
    autograd.backward(list(outs), heads)
    for i in chosen:
        raw = arrays[i]._write()
        numeric = np.zeros_like(raw)
        for place in np.ndindex(raw.shape):
            kept = raw[place]
            with autograd.train_mode():
                raw[place] = kept + eps
                high = scalar()
                raw[place] = kept - eps
                low = scalar()
            raw[place] = kept
            numeric[place] = (high - low) / (2 * eps)
        assert arrays[i].grad is not None
        np.testing.assert_allclose(
            arrays[i].grad.asnumpy(), numeric, rtol=rtol, atol=atol, err_msg=f"input {i}"
        )

# SPDX-License-Identifier: Apache-2.0
"""Functions of ``nd`` that few programs call: point processes, graphs, sparse activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.errors import OperatorError
from kvtrain.kernels.stored import Csr
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.invoke import invoke
from kvtrain.ndarray.stored.array import CSRNDArray, wrap
from kvtrain.ops.registry import find


def hawkesll(
    lda: NDArray,
    alpha: NDArray,
    beta: NDArray,
    state: NDArray,
    lags: NDArray,
    marks: NDArray,
    valid_length: NDArray,
    max_time: NDArray,
    **kw: Any,
) -> list[NDArray]:
    """Log-likelihood of marked Hawkes processes with exponential decay.

    The intensity of mark k is ``lda[k] + alpha[k] * beta[k] * sum(exp(-beta[k] * (t - t_j)))``
    over the earlier events of mark k.

    Parameters
    ----------
    lda, state : (n, k)
        Background intensities, and what earlier events have left.
    alpha, beta : (k,)
        Branching ratio and decay of each mark.
    lags, marks : (n, events)
        Time since the event before, and kind (int32) of each event.
    valid_length, max_time : (n,)
        Number of events, and end of observation.

    Returns
    -------
    log-likelihoods (n,), states at `max_time` (n, k)
    """
    arrays = [lda, alpha, beta, state, lags, marks, valid_length, max_time]
    whole = invoke(find("_hawkes"), arrays, {})
    first = invoke(find("slice_axis"), [whole], {"axis": 1, "begin": 0, "end": 1})
    likelihood = invoke(find("Reshape"), [first], {"shape": (-1,), "reverse": False})
    left = invoke(find("slice_axis"), [whole], {"axis": 1, "begin": 1, "end": None})
    return [likelihood, left]


def _graph(owner: str, data: Any) -> Csr:
    if not isinstance(data, CSRNDArray):
        raise OperatorError(f"{owner}: data must be a CSRNDArray, not {type(data).__name__}")
    parts: Csr = data._parts()
    return parts


def edge_id(data: Any, u: NDArray, v: NDArray, **kw: Any) -> NDArray:
    """Values of the edges from `u` to `v` in a graph's csr matrix; -1 where there is none."""
    graph = _graph("edge_id", data)
    sources, targets = (a._read().astype(np.int64) for a in (u, v))
    if sources.shape != targets.shape or sources.ndim != 1:
        raise OperatorError(f"edge_id: u has shape {u.shape}, v {v.shape}; one dimension is needed")
    found = np.full(sources.shape, -1, graph.data.dtype)
    for i, (source, target) in enumerate(zip(sources, targets, strict=True)):
        if not 0 <= source < graph.shape[0]:
            raise OperatorError(f"edge_id: u names node {source} of {graph.shape[0]}")
        low, high = graph.indptr[source], graph.indptr[source + 1]
        hits = np.flatnonzero(graph.indices[low:high] == target)
        if hits.size:
            found[i] = graph.data[low + hits[0]]
    return NDArray(found, data._ctx)


def dgl_adjacency(data: Any, **kw: Any) -> Any:
    """A graph's csr matrix with 1 (float32) for every edge."""
    graph = _graph("dgl_adjacency", data)
    ones = np.ones(graph.data.shape, np.float32)
    return wrap(Csr(ones, graph.indices, graph.indptr, graph.shape), data._ctx)


def IdentityAttachKLSparseReg(
    data: NDArray,
    moving_avg: NDArray | None = None,
    sparseness_target: float = 0.1,
    penalty: float = 0.001,
    momentum: float = 0.9,
    **kw: Any,
) -> NDArray:
    """`data`, whose gradient also drives the mean activation of each unit to a target.

    The penalty is the Kullback-Leibler divergence between `sparseness_target` and the moving
    average of the activations (between 0 and 1), which is kept in `moving_avg`.
    """
    raw = data._read()
    mean = raw.reshape(raw.shape[0], -1).mean(axis=0)
    if moving_avg is not None:
        kept = moving_avg._write()
        if kept.shape != mean.shape:
            raise OperatorError(
                f"IdentityAttachKLSparseReg: moving_avg has shape {kept.shape}; {mean.shape} is "
                "needed"
            )
        kept *= kept.dtype.type(momentum)
        kept += mean * kept.dtype.type(1 - momentum)
        mean = kept
    slope = penalty * ((1 - sparseness_target) / (1 - mean) - sparseness_target / mean)
    added = np.broadcast_to(slope.reshape(raw.shape[1:]), raw.shape).astype(raw.dtype)
    result: NDArray = invoke(find("_added_gradient"), [data], {"added": added})
    return result


CONTRIB: dict[str, Callable[..., Any]] = {f.__name__: f for f in (hawkesll, edge_id, dgl_adjacency)}
FUNCTIONS: dict[str, Callable[..., Any]] = {f.__name__: f for f in (IdentityAttachKLSparseReg,)}

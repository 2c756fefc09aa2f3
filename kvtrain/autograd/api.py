# SPDX-License-Identifier: Apache-2.0
"""``mx.autograd``: recording, training mode, gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.autograd.tape import Leaf, Walk, state
from kvtrain.errors import AutogradError
from kvtrain.kernels import xp
from kvtrain.kernels.stored import Rows
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.gradient import Scope, as_list, backward, graph_heads
from kvtrain.ndarray.recording import RecordingNamespace, lift
from kvtrain.ndarray.stored.array import wrap

__all__ = [
    "backward",
    "get_symbol",
    "grad",
    "is_recording",
    "is_training",
    "mark_variables",
    "pause",
    "predict_mode",
    "record",
    "set_recording",
    "set_training",
    "train_mode",
]


def record(train_mode: bool = True) -> Scope:
    """``with autograd.record():`` record for gradients, in training mode by default."""
    return Scope(True, train_mode)


def pause(train_mode: bool = False) -> Scope:
    """``with autograd.pause():`` do not record, in prediction mode by default."""
    return Scope(False, train_mode)


def train_mode() -> Scope:
    """``with autograd.train_mode():`` layers behave as in training."""
    return Scope(None, True)


def predict_mode() -> Scope:
    """``with autograd.predict_mode():`` layers behave as in prediction."""
    return Scope(None, False)


def is_recording() -> bool:
    """Whether calls are recorded in this thread."""
    return state.recording


def is_training() -> bool:
    """Whether layers behave as in training in this thread."""
    return state.training


def set_recording(is_recording: bool) -> bool:
    """Set whether calls are recorded; returns what it was."""
    was, state.recording = state.recording, bool(is_recording)
    return was


def set_training(train_mode: bool) -> bool:
    """Set training mode; returns what it was."""
    was, state.training = state.training, bool(train_mode)
    return was


def mark_variables(variables: Any, gradients: Any, grad_reqs: Any = "write") -> None:
    """Make arrays variables, with the given buffers for their gradients.

    Parameters
    ----------
    variables, gradients : NDArray or list of NDArray
        Variables and their gradient buffers.
    grad_reqs : str or list of str
        'write', 'add' or 'null' for each.
    """
    variables, gradients = as_list(variables), as_list(gradients)
    reqs = [grad_reqs] * len(variables) if isinstance(grad_reqs, str) else list(grad_reqs)
    if not len(variables) == len(gradients) == len(reqs):
        raise AutogradError(
            f"mark_variables: {len(variables)} variables, {len(gradients)} gradients and "
            f"{len(reqs)} grad_reqs"
        )
    for variable, gradient, req in zip(variables, gradients, reqs, strict=True):
        if gradient.shape != variable.shape:
            raise AutogradError(
                f"mark_variables: gradient of shape {gradient.shape} for a variable of shape "
                f"{variable.shape}"
            )
        variable._attach(gradient, req)


def grad(
    heads: Any,
    variables: Any,
    head_grads: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    train_mode: bool = True,
) -> Any:
    """Gradients of `heads` by `variables`, as new arrays.

    Parameters
    ----------
    variables : NDArray or list of NDArray
        Arrays of the graph.
    create_graph : bool
        Record the computation of the gradients too, to differentiate them again.

    Returns
    -------
    list of NDArray
        One per variable; a list for a single variable too, as in MXNet.
    """
    wanted = as_list(variables)
    entries = [v._entry for v in wanted]
    if not wanted or any(entry is None for entry in entries):
        raise AutogradError("grad: every variable must be in the graph; call attach_grad() first")
    retain = create_graph if retain_graph is None else retain_graph
    walk = Walk(RecordingNamespace(), lift) if create_graph else Walk(xp)
    with Scope(create_graph, train_mode), np.errstate(all="ignore"):
        inner = walk.run(graph_heads(heads, head_grads, create_graph), entries, retain)
    results = []
    for variable, entry in zip(wanted, entries, strict=True):
        value = walk.leaves.get(entry) if isinstance(entry, Leaf) else inner.get(entry)
        if value is None and (entry in walk.leaves or entry in inner):
            value = np.zeros(variable.shape, variable.dtype)
        if value is None:
            raise AutogradError("grad: the heads do not depend on one of the variables")
        if isinstance(value, NDArray):
            results.append(value)
        elif isinstance(value, Rows):
            results.append(wrap(value, variable._ctx))
        else:
            raw = np.array(np.broadcast_to(value, variable.shape), variable.dtype, order="C")
            results.append(NDArray(raw, variable._ctx))
    return results


def get_symbol(x: NDArray) -> Any:
    """Not available: recorded graphs are not symbols."""
    raise AutogradError("get_symbol is not supported")

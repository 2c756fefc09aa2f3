# SPDX-License-Identifier: Apache-2.0
"""Functions of ``nd`` that are made of operators: no gradient rules of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kvtrain.autograd.tape import state as state_flags
from kvtrain.errors import OperatorError
from kvtrain.ndarray import random
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.invoke import invoke
from kvtrain.ndarray.namespace import call
from kvtrain.ops.attribute import Shape, declared
from kvtrain.ops.registry import find


def concatenate(arrays: Sequence[NDArray], axis: int = 0, always_copy: bool = True) -> NDArray:
    """Arrays joined along `axis`."""
    result: NDArray = invoke(find("Concat"), list(arrays), {"dim": axis})
    return result


def moveaxis(tensor: NDArray, source: Any, destination: Any) -> NDArray:
    """Dimensions moved to new places."""
    sources = (source,) if isinstance(source, int) else tuple(source)
    targets = (destination,) if isinstance(destination, int) else tuple(destination)
    n = tensor.ndim
    sources, targets = tuple(s % n for s in sources), tuple(t % n for t in targets)
    if len(sources) != len(targets) or len(set(sources)) != len(sources):
        raise OperatorError(f"moveaxis: source={source} and destination={destination} do not pair")
    order = [i for i in range(n) if i not in sources]
    for target, origin in sorted(zip(targets, sources, strict=True)):
        order.insert(target, origin)
    result: NDArray = invoke(find("transpose"), [tensor], {"axes": tuple(order)})
    return result


def add_n(*args: NDArray, out: Any = None, **kwargs: Any) -> Any:
    """Sum of several arrays of one shape, in the order given; sparse if all are row_sparse."""
    arrays = list(args[0]) if len(args) == 1 and isinstance(args[0], list | tuple) else list(args)
    if not arrays:
        raise OperatorError("add_n: no arrays were given")
    arrays = [a.tostype("default") if a.stype == "csr" else a for a in arrays]
    total: Any = arrays[0]
    add = find("add")
    for other in arrays[1:]:
        total = invoke(add, [total, other], {})
    if len(arrays) == 1:
        total = invoke(find("identity"), [total], {})
    return total if out is None else total.copyto(out)


@declared
def Dropout(
    data: NDArray,
    p: float = 0.5,
    mode: str = "training",
    axes: Shape = (),
    out: Any = None,
    **kw: Any,
) -> NDArray:
    """Elements set to 0 with probability `p`, the others scaled by ``1 / (1 - p)``.

    Acts in training (``autograd.record()``), or always with ``mode="always"``.
    """
    if not 0 <= p < 1:
        raise OperatorError(f"Dropout: p={p}; 0 <= p < 1 is needed")
    if mode not in ("training", "always"):
        raise OperatorError(f"Dropout: mode={mode!r}; known: training, always")
    if p == 0 or not (state_flags.training or mode == "always"):
        result: NDArray = invoke(find("identity"), [data], {})
    else:
        result = random.masked(data, p, (axes,) if isinstance(axes, int) else tuple(axes))
    return result if out is None else result.copyto(out)


@declared
def BatchNorm(
    data: NDArray,
    gamma: NDArray,
    beta: NDArray,
    moving_mean: NDArray,
    moving_var: NDArray,
    eps: float = 1e-3,
    momentum: float = 0.9,
    fix_gamma: bool = True,
    use_global_stats: bool = False,
    output_mean_var: bool = False,
    axis: int = 1,
    cudnn_off: bool = False,
    **kwargs: Any,
) -> Any:
    """Normalise over all dimensions but `axis`; in training also update the moving averages.

    ``moving = momentum * moving + (1 - momentum) * batch``, in place, with the biased variance.
    With `output_mean_var` also the mean and ``1 / sqrt(variance + eps)`` that were used.
    """
    out, mean, var = invoke(
        find("_batch_norm"),
        [data, gamma, beta, moving_mean, moving_var],
        {
            "eps": eps,
            "momentum": momentum,
            "fix_gamma": fix_gamma,
            "use_global_stats": use_global_stats,
            "output_mean_var": output_mean_var,
            "axis": axis,
            "cudnn_off": cudnn_off,
        },
    )
    if state_flags.training and not use_global_stats:
        for moving, batch in ((moving_mean, mean), (moving_var, var)):
            raw = moving._write()
            raw *= raw.dtype.type(momentum)
            raw += batch._read() * raw.dtype.type(1 - momentum)
    if not output_mean_var:
        return out
    inverse = 1 / np.sqrt(var._read() + np.float32(eps))
    return [out, mean, NDArray(inverse.astype(var.dtype), var._ctx)]


def SyncBatchNorm(*args: Any, ndev: int = 1, key: Any = None, **kwargs: Any) -> Any:
    """BatchNorm: the statistics of one device, as `ndev` devices compute in one process here.

    Signature of MXNet's contrib.SyncBatchNorm; `ndev` above 1 is refused, since statistics are
    not shared between devices.
    """
    if ndev > 1:
        raise OperatorError(f"SyncBatchNorm: ndev={ndev}; statistics are not shared; use ndev=1")
    return BatchNorm(*args, **kwargs)


def BatchNormWithReLU(*args: Any, **kwargs: Any) -> Any:
    """BatchNorm followed by relu."""
    for name in ("min_calib_range", "max_calib_range"):
        kwargs.pop(name, None)
    made = BatchNorm(*args, **kwargs)
    first = made[0] if isinstance(made, list) else made
    positive = invoke(find("relu"), [first], {})
    return [positive, *made[1:]] if isinstance(made, list) else positive


@declared
def RNN(
    data: NDArray,
    parameters: NDArray,
    state: NDArray,
    state_cell: NDArray | None = None,
    sequence_length: NDArray | None = None,
    *,
    p: float = 0.0,
    out: Any = None,
    **attrs: Any,
) -> Any:
    """A recurrent network of several layers, maybe in both directions.

    Parameters
    ----------
    data : (time, batch, features)
    parameters : flat
        Weights of all layers and directions (inputs', state's, projection's), then the biases.
    state, state_cell : (layers * directions, batch, units)
        First states; `state_cell` for mode "lstm".
    sequence_length : (batch,), optional
        With ``use_sequence_length=True``.
    p : float
        Dropout between the layers, in training.
    attrs
        state_size, num_layers, mode ("rnn_relu", "rnn_tanh", "lstm" or "gru"), bidirectional,
        state_outputs, projection_size, lstm_state_clip_min, lstm_state_clip_max,
        use_sequence_length.
    """
    if not 0 <= p < 1:
        raise OperatorError(f"RNN: p={p}; 0 <= p < 1 is needed")
    inputs = [data, parameters, state]
    inputs += [a for a in (state_cell, sequence_length) if a is not None]
    layers = int(attrs.get("num_layers", 1))
    if p and state_flags.training and layers > 1:
        units = attrs.get("projection_size") or attrs["state_size"]
        shape = (*data.shape[:2], units * (2 if attrs.get("bidirectional") else 1))
        attrs["masks"] = [random.mask_of(shape, p, data.dtype) for _ in range(layers - 1)]
    return call(find("_rnn"), tuple(inputs), {**attrs, "p": p, "out": out})


def LeakyReLU(data: NDArray, *args: Any, **kwargs: Any) -> Any:
    """leaky, prelu (slope learned: `gamma`), elu, selu, gelu, or rrelu.

    rrelu (Xu, Wang, Chen and Li, 2015): in training a slope from ``[lower_bound, upper_bound)``
    is drawn for each element, in prediction it is their mean.
    """
    op = find("LeakyReLU")
    if kwargs.get("act_type") != "rrelu" or not state_flags.training:
        return call(op, (data, *args), kwargs)
    low = kwargs.get("lower_bound", op.attrs["lower_bound"])
    high = kwargs.get("upper_bound", op.attrs["upper_bound"])
    slopes = random.uniform(low, high, data.shape, ctx=data._ctx)._read()
    raw = data._read()
    mask = np.where(raw > 0, 1, slopes).astype(raw.dtype)
    return call(find("_mask"), (data,), {"mask": mask, "out": kwargs.get("out")})


def histogram(a: NDArray, bins: Any = 10, range: Any = None) -> Any:
    """Counts of elements per bin (int64), and the edges of the bins.

    Parameters
    ----------
    bins : int or NDArray
        Number of bins of equal width in `range` (default: from the least to the largest
        element), or their edges.
    """
    if isinstance(bins, NDArray):
        return invoke(find("_histogram"), [a, bins], {"bin_cnt": None, "range": None})
    if not isinstance(bins, int):
        raise ValueError("bins argument should be either an integer or an NDArray")
    if range is None:
        # as in MXNet both results are then float32
        counts, edges = np.histogram(a._read(), bins=bins)
        return [NDArray(part.astype(np.float32), a._ctx) for part in (counts, edges)]
    return invoke(find("_histogram"), [a], {"bin_cnt": bins, "range": tuple(range)})


def log_sigmoid(data: NDArray) -> NDArray:
    """Logarithm of the sigmoid."""
    negative: NDArray = invoke(find("negative"), [data], {})
    soft: NDArray = invoke(find("Activation"), [negative], {"act_type": "softrelu"})
    result: NDArray = invoke(find("negative"), [soft], {})
    return result


@declared
def split_v2(
    ary: NDArray, indices_or_sections: Any, axis: int = 0, squeeze_axis: bool = False
) -> Any:
    """Parts along `axis`: a number of equal ones, or cut before the given positions."""
    size = ary.shape[axis]
    if isinstance(indices_or_sections, str):
        shown = f"indices_or_sections={indices_or_sections!r}"
        raise OperatorError(f"split_v2: {shown}; an integer or a tuple is needed")
    if isinstance(indices_or_sections, int):
        if size % indices_or_sections:
            raise OperatorError(f"split_v2: {size} is not a multiple of {indices_or_sections}")
        step = size // indices_or_sections
        cuts = [step * i for i in range(1, indices_or_sections)]
    else:
        cuts = [int(i) for i in indices_or_sections]
    parts = []
    for low, high in zip([0, *cuts], [*cuts, size], strict=True):
        part = invoke(find("slice_axis"), [ary], {"axis": axis, "begin": low, "end": high})
        if squeeze_axis:
            part = invoke(find("squeeze"), [part], {"axis": axis})
        parts.append(part)
    return parts

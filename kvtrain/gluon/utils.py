# SPDX-License-Identifier: Apache-2.0
"""Splitting batches over contexts, clipping gradients by their norm."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise
from typing import Any

import numpy as np

from kvtrain import ndarray as nd
from kvtrain.context import Context
from kvtrain.ndarray import NDArray


def split_data(
    data: NDArray, num_slice: int, batch_axis: int = 0, even_split: bool = True
) -> list[NDArray]:
    """Cut `data` into `num_slice` parts along `batch_axis`.

    Raises
    ------
    ValueError
        The size is no multiple of `num_slice` and `even_split` is set.
    """
    size = data.shape[batch_axis]
    if even_split and size % num_slice:
        raise ValueError(
            f"data with shape {data.shape} cannot be evenly split into {num_slice} slices along "
            f"axis {batch_axis}. Use a batch size that's multiple of {num_slice} or set "
            "even_split=False to allow uneven partitioning of data."
        )
    if num_slice > size:
        raise ValueError(f"Too many slices for data with shape {data.shape}: {num_slice}")
    each, longer = divmod(size, num_slice)
    cuts = [each * i + min(i, longer) for i in range(num_slice + 1)]
    if batch_axis == 0:
        return [data[a:b] for a, b in pairwise(cuts)]
    return [
        nd.slice_axis(data, axis=batch_axis, begin=a, end=b)  # type: ignore[attr-defined]
        for a, b in pairwise(cuts)
    ]


def split_and_load(
    data: Any, ctx_list: list[Context], batch_axis: int = 0, even_split: bool = True
) -> list[NDArray]:
    """Cut `data` into one part per context, each on its context."""
    array = data if isinstance(data, NDArray) else nd.array(data, ctx=ctx_list[0])
    if len(ctx_list) == 1:
        return [array.as_in_context(ctx_list[0])]
    parts = split_data(array, len(ctx_list), batch_axis, even_split)
    return [part.as_in_context(ctx) for part, ctx in zip(parts, ctx_list, strict=True)]


def clip_global_norm(
    arrays: list[NDArray], max_norm: float, check_isfinite: bool = True
) -> float | NDArray:
    """Scale the arrays in place so that their joint L2 norm is at most `max_norm`.

    Returns
    -------
    float
        The norm before; an NDArray if `check_isfinite` is False.
    """
    if not arrays:
        raise ValueError("clip_global_norm: no arrays were given")
    norm = math.sqrt(sum(float(np.square(a._read(), dtype=np.float64).sum()) for a in arrays))
    if check_isfinite and not math.isfinite(norm):
        warnings.warn("nan or inf is detected. Clipping results will be undefined.", stacklevel=2)
    scale = max_norm / (norm + 1e-8)
    if scale < 1.0:
        for array in arrays:
            raw = array._write()
            raw *= raw.dtype.type(scale)
    return norm if check_isfinite else nd.array([norm])

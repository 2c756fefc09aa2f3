# SPDX-License-Identifier: Apache-2.0
"""Operators on batches of sequences of different lengths; time along axis 0 (or 1)."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.derive import derived, run, values
from kvtrain.ops.registry import op


def _lengths(data: Any, given: tuple[Any, ...], use: bool, axis: int) -> Any:
    """The length of each sequence, as int64."""
    if axis not in (0, 1) or len(data.shape) < 2:
        raise ValueError(f"axis={axis}, data {tuple(data.shape)}: time is along axis 0 or 1")
    steps, batch = data.shape[axis], data.shape[1 - axis]
    if not use:
        return np.full(batch, steps, np.int64)
    if not given:
        raise ValueError("sequence_length is missing")
    lengths = values(given[0]).astype(np.int64)
    if lengths.shape != (batch,):
        raise ValueError(f"sequence_length has shape {lengths.shape}; ({batch},) is needed")
    if lengths.size and (lengths.min() < 0 or lengths.max() > steps):
        raise ValueError(f"sequence_length {lengths.tolist()} outside 0 to {steps}")
    return lengths


def _clipped(data: Any, given: tuple[Any, ...], axis: int) -> Any:
    """Lengths of sequences; longer than the data means all of it."""
    whole = _lengths(data, given, False, axis)
    if not given:
        raise ValueError("sequence_length is missing")
    lengths = values(given[0]).astype(np.int64)
    if lengths.shape != whole.shape:
        raise ValueError(f"sequence_length has shape {lengths.shape}; {whole.shape} is needed")
    return np.clip(lengths, 0, whole)


def _inside(data: Any, lengths: Any, axis: int) -> Any:
    """1 where the position along `axis` is below the length of its sequence."""
    steps = np.arange(data.shape[axis])
    mask = steps[:, None] < lengths[None, :] if axis == 0 else steps[None, :] < lengths[:, None]
    return mask.reshape(mask.shape + (1,) * (len(data.shape) - 2))


def _mask_formula(
    xp: Any, data: Any, *given: Any, use_sequence_length: bool, value: float, axis: int
) -> Any:
    if not use_sequence_length:
        return xp.array(data)
    mask = _inside(data, _clipped(data, given, axis), axis)
    dtype = np.dtype(data.dtype).name
    # chosen rather than multiplied, so that what is masked may be infinite
    fill = np.broadcast_to(np.asarray(value, dtype), tuple(data.shape))
    chosen = np.ascontiguousarray(np.broadcast_to(mask, tuple(data.shape))).astype(dtype)
    return run(xp, "where", chosen, data, np.ascontiguousarray(fill))


@op(
    "SequenceMask",
    vjp=derived(_mask_formula, 0),
    aliases=("sequence_mask",),
    optional=("sequence_length",),
)
def _sequence_mask(
    xp: Any,
    data: Any,
    /,
    *sequence_length: Any,
    use_sequence_length: bool = False,
    value: float = 0.0,
    axis: int = 0,
) -> Any:
    """Elements past each sequence's length set to `value`."""
    return _mask_formula(
        xp,
        data,
        *sequence_length,
        use_sequence_length=use_sequence_length,
        value=value,
        axis=axis,
    )


def _last_formula(xp: Any, data: Any, *given: Any, use_sequence_length: bool, axis: int) -> Any:
    last = np.maximum(_lengths(data, given, use_sequence_length, axis) - 1, 0)
    rows = np.arange(data.shape[1 - axis])
    return run(xp, "_index", data, key=(last, rows) if axis == 0 else (rows, last))


@op("SequenceLast", vjp=derived(_last_formula, 0), optional=("sequence_length",))
def _sequence_last(
    xp: Any,
    data: Any,
    /,
    *sequence_length: Any,
    use_sequence_length: bool = False,
    axis: int = 0,
) -> Any:
    """The last element of each sequence."""
    return _last_formula(
        xp, data, *sequence_length, use_sequence_length=use_sequence_length, axis=axis
    )


def _reverse_formula(xp: Any, data: Any, *given: Any, use_sequence_length: bool, axis: int) -> Any:
    if axis != 0:
        raise ValueError(f"axis={axis}; only 0 is supported")
    lengths = _lengths(data, given, use_sequence_length, axis)
    steps = np.arange(data.shape[0])[:, None]
    places = np.where(steps < lengths, lengths - 1 - steps, steps)
    return run(xp, "_index", data, key=(places, np.arange(data.shape[1])[None, :]))


@op("SequenceReverse", vjp=derived(_reverse_formula, 0), optional=("sequence_length",))
def _sequence_reverse(
    xp: Any,
    data: Any,
    /,
    *sequence_length: Any,
    use_sequence_length: bool = False,
    axis: int = 0,
) -> Any:
    """Each sequence in reverse order; what is past its length stays."""
    return _reverse_formula(
        xp, data, *sequence_length, use_sequence_length=use_sequence_length, axis=axis
    )

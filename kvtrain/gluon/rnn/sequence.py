# SPDX-License-Identifier: Apache-2.0
"""Sequences in both forms that ``unroll`` knows: one array, or a list with one per step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvtrain import ndarray as nd
from kvtrain.errors import ConfigError
from kvtrain.ndarray import NDArray

F: Any = nd


def time_axis(layout: str) -> int:
    """Position of the steps in `layout`."""
    if "T" not in layout or "N" not in layout:
        raise ConfigError(f"layout={layout!r}: T (steps) and N (samples) are needed")
    return layout.index("T")


def _drop(axis: int, layout: str) -> int:
    """Position of the samples in the array of one step."""
    batch = layout.index("N")
    return batch - 1 if batch > axis else batch


def split_steps(length: int | None, inputs: Any, layout: str) -> list[NDArray]:
    """One array per step."""
    axis = time_axis(layout)
    if isinstance(inputs, NDArray):
        if length is not None and inputs.shape[axis] != length:
            raise ConfigError(
                f"unroll: length={length}, but the inputs of shape {inputs.shape} have "
                f"{inputs.shape[axis]} steps along axis {axis} ({layout})"
            )
        parts = F.split(inputs, axis=axis, num_outputs=inputs.shape[axis], squeeze_axis=True)
        return list(parts) if isinstance(parts, list | tuple) else [parts]
    steps = list(inputs)
    if not steps or (length is not None and len(steps) != length):
        raise ConfigError(f"unroll: length={length}, but {len(steps)} inputs were given")
    return steps


def merge_steps(inputs: NDArray | Sequence[NDArray], layout: str) -> NDArray:
    """One array of all steps."""
    if isinstance(inputs, NDArray):
        return inputs
    merged: NDArray = F.stack(*inputs, axis=time_axis(layout))
    return merged


def format_outputs(
    outputs: Any, length: int | None, layout: str, merge: bool | None
) -> NDArray | list[NDArray]:
    """`outputs` merged, split, or as they are (None)."""
    if merge is None:
        return outputs
    return merge_steps(outputs, layout) if merge else split_steps(length, outputs, layout)


def batch_of(inputs: NDArray | Sequence[NDArray], layout: str) -> tuple[int, NDArray]:
    """Number of samples, and any of the arrays."""
    axis = time_axis(layout)
    if isinstance(inputs, NDArray):
        return inputs.shape[layout.index("N")], inputs
    first = inputs[0]
    return first.shape[_drop(axis, layout)], first


def mask(
    outputs: Any, valid_length: NDArray, length: int | None, layout: str, merge: bool | None
) -> NDArray | list[NDArray]:
    """Zeros after the end of each sample; merged unless `merge` is False."""
    merged = F.SequenceMask(
        merge_steps(outputs, layout),
        valid_length,
        use_sequence_length=True,
        axis=time_axis(layout),
    )
    return split_steps(length, merged, layout) if merge is False else merged


def last_states(states: Sequence[Sequence[NDArray]], valid_length: NDArray) -> list[NDArray]:
    """Of the states after every step, those at the end of each sample."""
    chosen = []
    for each in zip(*states, strict=True):
        steps = F.stack(*each, axis=0)
        chosen.append(F.SequenceLast(steps, valid_length, use_sequence_length=True, axis=0))
    return chosen


def reverse(steps: Sequence[NDArray], valid_length: NDArray | None) -> list[NDArray]:
    """Steps in reverse; with `valid_length` each sample turns round within its own length."""
    if valid_length is None:
        return list(reversed(steps))
    merged = F.SequenceReverse(F.stack(*steps, axis=0), valid_length, use_sequence_length=True)
    return split_steps(len(steps), merged, "TN")

# SPDX-License-Identifier: Apache-2.0
"""Where parameters and their gradients live: views of flat, aligned buffers.

One flat buffer per dtype lets an update or a push run over many parameters at once, and lets
the buffer be shared memory. Views are 64-byte aligned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
ALIGN = 64
#: bytes of one buffer, unless a single array is larger
BLOCK = 4 << 20


def aligned(nbytes: int) -> Array:
    """`nbytes` of zeros that begin at a multiple of 64."""
    raw = np.zeros(nbytes + ALIGN, np.uint8)
    start = -raw.ctypes.data % ALIGN
    return raw[start : start + nbytes]


class ParameterArena:
    """Hands out zeroed views of flat buffers, one row of buffers per dtype.

    Parameters
    ----------
    allocate : callable
        ``allocate(nbytes)`` gives a zeroed, aligned uint8 buffer; shared memory later.
    """

    def __init__(self, allocate: Callable[[int], Array] = aligned, block: int = BLOCK) -> None:
        self._allocate = allocate
        self._block = block
        self._open: dict[np.dtype[Any], tuple[Array, int]] = {}

    def take(self, shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
        """A zeroed, contiguous array of its own part of a buffer."""
        kind = np.dtype(dtype)
        size = 1
        for n in shape:
            size *= n
        nbytes = size * kind.itemsize
        padded = -(-nbytes // ALIGN) * ALIGN
        buffer, at = self._open.get(kind, (None, 0))
        if buffer is None or at + padded > buffer.nbytes:
            buffer, at = self._allocate(max(padded, self._block if padded < self._block else 0)), 0
        if padded < self._block:
            self._open[kind] = (buffer, at + padded)
        return buffer[at : at + nbytes].view(kind).reshape(shape)

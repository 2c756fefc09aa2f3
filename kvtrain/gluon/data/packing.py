# SPDX-License-Identifier: Apache-2.0
"""A batch as one block of bytes and a description, for the way between two processes."""

from __future__ import annotations

import mmap
import os
from multiprocessing import reduction
from typing import Any

import numpy as np

from kvtrain import platform
from kvtrain.context import Context
from kvtrain.ndarray import NDArray

Array = np.ndarray[Any, Any]
ALIGN = 64
#: smaller batches travel in the message
INLINE = 1 << 16


def describe(value: Any, arrays: list[Array]) -> tuple[Any, ...]:
    """The structure of `value`; its arrays are appended to `arrays`."""
    kind = type(value)
    if kind is NDArray:
        arrays.append(np.ascontiguousarray(value._read()))
        ctx = value.context
        return ("nd", len(arrays) - 1, ctx.device_type, ctx.device_id)
    if kind is np.ndarray and value.dtype != object:
        arrays.append(np.ascontiguousarray(value).reshape(value.shape))
        return ("np", len(arrays) - 1)
    if kind in (list, tuple):
        return (kind.__name__, [describe(v, arrays) for v in value])
    if kind is dict:
        return ("dict", {k: describe(v, arrays) for k, v in value.items()})
    return ("object", value)


def rebuild(spec: tuple[Any, ...], arrays: list[Array]) -> Any:
    """The value that :func:`describe` took apart."""
    kind, held = spec[0], spec[1]
    if kind == "nd":
        return NDArray(arrays[held], Context(spec[2], spec[3]))
    if kind == "np":
        return arrays[held]
    if kind in ("list", "tuple"):
        parts = [rebuild(s, arrays) for s in held]
        return parts if kind == "list" else tuple(parts)
    if kind == "dict":
        return {k: rebuild(s, arrays) for k, s in held.items()}
    return held


def send(conn: Any, tag: Any, value: Any) -> None:
    """Send ``(tag, value)``; large arrays go through memory that both processes map."""
    arrays: list[Array] = []
    spec = describe(value, arrays)
    places = []
    size = 0
    for array in arrays:
        places.append((size, array.shape, array.dtype.str))
        size += -(-array.nbytes // ALIGN) * ALIGN
    segment = _segment(size) if size > INLINE else None
    if segment is None:
        conn.send((tag, spec, arrays, 0))
        return
    descriptor, memory = segment
    try:
        with memory:
            for (at, _, _), array in zip(places, arrays, strict=True):
                memory[at : at + array.nbytes] = array.data.cast("B") if array.size else b""
        conn.send((tag, spec, places, size))
        reduction.send_handle(conn, descriptor, 0)
    finally:
        os.close(descriptor)


def _segment(size: int) -> tuple[int, mmap.mmap] | None:
    if platform.shared_memory_reason() is not None:
        return None
    try:
        return platform.create_segment("kvtrain-batch", size)
    except OSError:  # not enough memory for one: the message carries the arrays
        return None


def receive(conn: Any) -> tuple[Any, Any]:
    """What :func:`send` sent; raises EOFError when the other side is gone."""
    tag, spec, places, size = conn.recv()
    if not size:
        return tag, rebuild(spec, places)
    descriptor = reduction.recv_handle(conn)
    try:
        memory = mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)
    arrays = []
    for at, shape, dtype in places:
        kind = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        arrays.append(np.frombuffer(memory, kind, count, at).reshape(shape))
    return tag, rebuild(spec, arrays)

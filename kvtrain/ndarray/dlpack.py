# SPDX-License-Identifier: Apache-2.0
"""Exchange with other libraries without a copy (DLPack).

Any object with ``__dlpack__`` can be taken, also a capsule that a ``to_dlpack`` made; an
NDArray has ``__dlpack__`` itself, so that ``torch.from_dlpack(array)`` shares its memory.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from kvtrain.context import current_context
from kvtrain.errors import OperatorError
from kvtrain.ndarray.array import NDArray


class _Capsule:
    """A bare capsule as an object that NumPy takes."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def to_dlpack_for_read(data: NDArray) -> Any:
    """A DLPack capsule that shares the array's memory, after all writes to it."""
    # through the write door: memory that is somebody else's cannot be given away
    return data._write().__dlpack__()


def to_dlpack_for_write(data: NDArray) -> Any:
    """A DLPack capsule that shares the array's memory, for writing."""
    return data._write_in_graph().__dlpack__()


def _writable(raw: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same memory, writable: NumPy marks what comes in an old capsule read-only."""
    if raw.flags.writeable or not raw.size or not raw.flags.c_contiguous:
        return raw if raw.flags.c_contiguous else np.array(raw, order="C")
    memory = (ctypes.c_byte * raw.nbytes).from_address(raw.ctypes.data)
    memory._owner = raw  # type: ignore[attr-defined]
    return np.frombuffer(memoryview(memory), raw.dtype).reshape(raw.shape)


def from_dlpack(dlpack: Any) -> NDArray:
    """An NDArray over the memory of a capsule, or of an object with ``__dlpack__``.

    Raises
    ------
    OperatorError
        It is neither, its capsule was used already, or its memory is not the host's.
    """
    known = type(dlpack).__name__ == "PyCapsule"
    if not known and not hasattr(dlpack, "__dlpack__"):
        raise OperatorError(f"from_dlpack: {type(dlpack).__name__} has no __dlpack__")
    try:
        raw = np.from_dlpack(_Capsule(dlpack) if known else dlpack)
    except (BufferError, RuntimeError, ValueError, TypeError) as error:
        raise OperatorError(f"from_dlpack: {error}") from None
    return NDArray(_writable(raw), current_context())


def _dlpack(self: NDArray, **kwargs: Any) -> Any:
    """A capsule for other libraries; see the array API standard."""
    return self._write_in_graph().__dlpack__(**kwargs)


def _dlpack_device(self: NDArray) -> tuple[int, int]:
    """The host."""
    return (1, 0)


def install() -> None:
    """Give NDArray its methods."""
    for name, function in (
        ("__dlpack__", _dlpack),
        ("__dlpack_device__", _dlpack_device),
        ("to_dlpack_for_read", to_dlpack_for_read),
        ("to_dlpack_for_write", to_dlpack_for_write),
    ):
        setattr(NDArray, name, function)

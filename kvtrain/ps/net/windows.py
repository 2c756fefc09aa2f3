# SPDX-License-Identifier: Apache-2.0
"""A key's chunks in the servers' memory, seen as one array.

The chunks may lie in different segments of different servers; their pages are mapped one
behind the other. What the servers write is seen in the window, which is why it is looked
through only while they do not write (PROTOCOL R36), and why whoever keeps an array of it longer
makes it private first: then the bytes stay, at the same address.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from kvtrain import platform
from kvtrain.ps.core.memory import LentArray
from kvtrain.ps.net.segments import PeerSegment

Array = np.ndarray[Any, Any]
#: pieces of all windows of a process: the system has a limit (65,530 by default)
MOST_PIECES = 16384
_pieces = 0


class Window:
    """Lent arrays side by side, as long as somebody has the window or an array of it.

    Raises
    ------
    OSError
        They cannot be mapped like that; copy them.
    """

    def __init__(self, arrays: Sequence[LentArray]) -> None:
        global _pieces
        self._where = _where(arrays)
        #: keeps their descriptors open
        self._segments = [segment for segment, _, _ in self._where]
        if _pieces + len(arrays) > MOST_PIECES:
            raise OSError(12, f"more than {MOST_PIECES} pieces of mapped memory")
        pieces = [(segment.descriptor, at, size) for segment, at, size in self._where]
        self.nbytes = sum(size for _, _, size in pieces)
        self.address = platform.map_window(pieces)
        _pieces += len(pieces)
        self._memory: Any = (ctypes.c_byte * self.nbytes).from_address(self.address)
        # arrays refer to this object, so it goes last
        end = weakref.finalize(self._memory, _unmap, self.address, self.nbytes, len(pieces))
        end.atexit = False  # arrays may outlive whoever asks at the interpreter's end

    def shows(self, arrays: Sequence[LentArray]) -> bool:
        """Whether these are the arrays that the window shows."""
        return self._where == _where(arrays)

    def view(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """The window as an array that nobody else has; read-only."""
        made: Array = np.ndarray(shape, dtype, self._memory)
        made.flags.writeable = False
        return made

    def keep(self) -> None:
        """Cut it off from the servers: its bytes stay, and may be written."""
        platform.keep_window(self.address, self.nbytes)


def _where(arrays: Sequence[LentArray]) -> list[tuple[PeerSegment, int, int]]:
    return [(*a.source, a.nbytes) for a in arrays]


def _unmap(address: int, nbytes: int, pieces: int) -> None:
    global _pieces
    _pieces -= pieces
    platform.unmap_window(address, nbytes)

# SPDX-License-Identifier: Apache-2.0
"""Slots as other processes see them: a slot that is given back is written at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ps.core.memory import LentArray, lend

Array = np.ndarray[Any, Any]


class ScribbledSlot:
    """A slot whose generation is a word that readers see."""

    def __init__(self, nbytes: int) -> None:
        self.data: Array = np.empty(nbytes, np.uint8)
        self.words = [1]

    def rewrite(self) -> None:
        """References to the old bytes are void."""
        self.words[0] += 1


class ScribblingMemory:
    """Slots in which old bytes do not survive: whoever reads one too late reads 0xFF.

    Parameters
    ----------
    tell : bool
        Whether the generation changes with the bytes. Without it only a protocol that never
        reads a slot too late gets right values.
    """

    message_bytes = 512
    small = 0

    def __init__(self, tell: bool = False) -> None:
        self._tell = tell
        self._slots: list[ScribbledSlot] = []

    def take(self, nbytes: int) -> ScribbledSlot:
        """A new slot."""
        slot = ScribbledSlot(nbytes)
        self._slots.append(slot)
        return slot

    def give(self, slot: Any) -> None:
        """Nobody needs its bytes any more."""
        self._slots.remove(slot)
        if self._tell:
            slot.rewrite()
        slot.data[:] = 0xFF

    def lent(self, array: Array) -> Array | LentArray:
        """`array` as a peer gets it: with its slot's generation, if it lies in a slot."""
        for slot in self._slots:
            if np.shares_memory(array, slot.data):
                return lend(array, slot.words, 0, slot.words[0])
        return array

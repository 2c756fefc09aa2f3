# SPDX-License-Identifier: Apache-2.0
"""Memory for what travels: slots with a generation, in this process or shared with others.

A slot is written, sent by reference, and may be written again only when nobody needs the old
bytes (PROTOCOL R31-R34). Whoever reads through a reference compares the slot's generation
before and after, so that a slot that was written too early is noticed and never counted.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]
#: slots from this size on begin at a page, so that others can map them one by one
PAGED = 64 << 10


class Slot(Protocol):
    """A piece of memory that is written again and again."""

    @property
    def data(self) -> Array:
        """Its bytes, as uint8."""

    def rewrite(self) -> None:
        """What references saw so far is over: the bytes are about to change."""


class Memory(Protocol):
    """Hands out slots."""

    #: how much of it one message may describe: more where descriptors travel, not bytes
    message_bytes: int
    #: bytes below which an array needs no slot: it travels itself where a reference could
    small: int

    def take(self, nbytes: int) -> Slot:
        """A slot of `nbytes`, aligned at 64, for the taker to write."""

    def give(self, slot: Slot) -> None:
        """The slot may be handed out, and written, again."""


class LentArray(np.ndarray[Any, Any]):
    """An array in memory that somebody else writes: valid while its slot's generation stays.

    Made by :func:`lend`; slices of it know the same slot.
    """

    _words: Any = None
    _slot: int = 0
    _generation: int = 0
    #: what it lies in, and where, for whoever goes on reading it in place; slices do not know
    source: Any = None

    def __array_finalize__(self, source: Any) -> None:
        if isinstance(source, LentArray):
            self._words, self._slot = source._words, source._slot
            self._generation = source._generation

    def intact(self) -> bool:
        """Whether its bytes are still those that were sent."""
        words = self._words
        return words is None or bool(words[self._slot] == self._generation)


def lend(array: Array, words: Any, slot: int, generation: int) -> LentArray:
    """`array` as a reference that is good while ``words[slot] == generation``."""
    lent = array.view(LentArray)
    lent._words, lent._slot, lent._generation = words, slot, generation
    return lent


def intact(array: Array | None) -> bool:
    """Whether an array that may be lent still holds what was sent."""
    return not isinstance(array, LentArray) or array.intact()


class HeapSlot:
    """A slot in private memory."""

    __slots__ = ("data",)

    def __init__(self, data: Array) -> None:
        self.data = data

    def rewrite(self) -> None:
        """Nobody has references to private memory: frames were copied out of it."""


class HeapMemory:
    """Private memory: a fresh block for each slot."""

    message_bytes = 1 << 20
    small = 2048

    def take(self, nbytes: int) -> HeapSlot:
        """A slot of its own."""
        return HeapSlot(np.empty(nbytes, np.uint8))

    def give(self, slot: Slot) -> None:
        """Left to the garbage collector, which waits for whoever still has a view."""

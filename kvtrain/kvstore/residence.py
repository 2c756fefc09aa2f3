# SPDX-License-Identifier: Apache-2.0
"""Gradients that live in the transport's memory, so that sending them copies nothing.

A gradient has at most two slots. While one is read by servers, the next backward writes the
other; with both lent it goes on in private memory and comes home at the next push (PROTOCOL
R31-R33).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.ndarray import NDArray
from kvtrain.ps.core.memory import Memory, Slot

Array = np.ndarray[Any, Any]
SLOTS = 2


class _Place:
    """One slot of a gradient."""

    __slots__ = ("lent", "slot", "view")

    def __init__(self, slot: Slot, like: Array) -> None:
        self.slot = slot
        self.view: Array = slot.data.view(like.dtype).reshape(like.shape)
        #: servers may still read it; stays so after a failure (R33)
        self.lent = False


class Residence:
    """The home of one gradient; see :class:`kvtrain.ndarray.storage.Home`."""

    def __init__(self, memory: Memory, array: NDArray) -> None:
        self._memory = memory
        self._storage = array._shared()
        self._places: list[_Place] = []
        first = self.free()
        assert first is not None
        array._move_to(first)
        self._storage.home = self

    def free(self) -> Array | None:
        """A slot that is not lent; None if there is none."""
        for place in self._places:
            if not place.lent and place.view is not self._storage.buffer:
                return place.view
        if len(self._places) == SLOTS:
            return None
        like = self._storage.buffer
        place = _Place(self._memory.take(like.nbytes), like)
        self._places.append(place)
        return place.view

    def lend(self, array: NDArray) -> tuple[Array, Callable[[], None]] | None:
        """The values for servers to read, and what ends that; None: they must be copied."""
        raw = array._read()
        place = self._at(raw)
        if place is None:
            home = self.free()
            if home is None:
                return None
            array._move_to(home)
            place = self._at(home)
        if place is None or place.lent:
            return None
        loan = array._lend()
        place.lent = True

        def release() -> None:
            # whoever still has a reference sees by the generation that it is void
            place.slot.rewrite()
            place.lent = False
            loan.release()

        return place.view.reshape(-1), release

    def _at(self, raw: Array) -> _Place | None:
        return next((place for place in self._places if place.view is raw), None)


def lend(array: NDArray) -> tuple[Array, Callable[[], None]] | None:
    """Lend an array that has a home; None for any other."""
    storage = array._storage
    home = None if storage is None else storage.home
    if not isinstance(home, Residence) or array._path:
        return None
    return home.lend(array)

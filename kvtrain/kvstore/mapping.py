# SPDX-License-Identifier: Apache-2.0
"""Weights read where the servers keep them, so that receiving them copies nothing.

A Trainer's weight is pending from the moment its gradient is posted until the answer is there;
between the two the servers may write it, and nobody here may see that (PROTOCOL R36, R38). So
before a post the array lets go of the window on the servers' memory. Whoever else still holds
the raw array (a tape, an export) gets it made private, at its address, and the weight is copied
from then on. A write by the program moves the weight to private memory first, by the write door.
"""

from __future__ import annotations

import contextlib
import math
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from kvtrain import platform
from kvtrain.errors import KVTrainError
from kvtrain.ndarray import NDArray
from kvtrain.ps.core.memory import PAGED, LentArray, intact
from kvtrain.ps.net.windows import Window

Array = np.ndarray[Any, Any]
#: a weight that somebody else held at a post is copied for so many rounds; then for so many
#: times more, and so on
REST = 8


class MappedWeight:
    """One weight; a :class:`kvtrain.ps.core.requests.Landing` while it is awaited."""

    def __init__(self, array: NDArray) -> None:
        self._array = weakref.ref(array)
        raw = array._read()
        self.shape, self.dtype, self.size = raw.shape, raw.dtype, raw.size
        #: what the array shows while it is pending: nothing of anybody's memory
        nothing = np.nan if raw.dtype.kind == "f" else 0
        self._nothing: Array = np.broadcast_to(np.full((), nothing, raw.dtype), raw.shape)
        self._window: Window | None = None
        #: the array of the window that was given out last
        self._view: weakref.ref[Array] | None = None
        #: how often somebody else held it at a post
        self._held = 0
        #: rounds in which it is copied
        self._rest: float = 0
        #: what has come: in the servers' memory, by first element, and elsewhere
        self._lent: dict[int, LentArray] = {}
        self._own: Array | None = None
        self._copied = 0

    @staticmethod
    def suits(array: NDArray) -> bool:
        """Whether it is worth the pages."""
        raw = array._read()
        array._shared()
        return raw.nbytes >= PAGED and raw.flags.c_contiguous and not array._path

    def is_of(self, arrays: list[NDArray]) -> bool:
        """Whether these targets are just the weight itself."""
        return len(arrays) == 1 and self._array() is arrays[0]

    @property
    def mapped(self) -> bool:
        """Whether the weight is in the servers' memory now."""
        array = self._array()
        return array is not None and self._shows(array)

    def _shows(self, array: NDArray) -> bool:
        view = None if self._view is None else self._view()
        return view is not None and array._shared().buffer is view

    # ---- posting ---------------------------------------------------------------------------

    def post(self, array: NDArray) -> Array | MappedWeight:
        """Get the settled weight out of the way of the servers; what its values go to."""
        shown = self._shows(array)
        if shown:
            _move(array, self._nothing)
        kept = self._let_go()
        if kept is not None and shown:
            _move(array, kept)
        self._lent = {}
        self._own, self._copied = None, 0
        if self._rest:
            self._rest -= 1
            return array._write().reshape(-1)
        if not shown:
            self._own = array._write().reshape(-1)
        return self

    def _let_go(self) -> Array | None:
        """Nobody looks through the window after this; who did has what was there."""
        kept = None if self._view is None else self._view()
        self._view = None
        if kept is None:
            return None
        assert self._window is not None
        self._window.keep()
        self._window = None
        self._held += 1
        self._rest = REST**self._held
        kept.flags.writeable = True
        return kept

    def withdraw(self, array: NDArray) -> None:
        """The post failed: the weight is what it was, in private memory."""
        if self._window is not None and array._shared().buffer is self._nothing:
            _move(array, self._window.view(self.shape, self.dtype).copy())

    def vacate(self) -> None:
        """Move to private memory: the servers may write theirs without asking the weight."""
        array = self._array()
        if array is not None:
            raw = array._read()  # what is pending might be mapped when it comes
            if self._shows(array):
                _move(array, raw.copy())
            del raw
        self._let_go()

    def before_fork(self) -> None:
        """A child has the values of now, whatever comes here later."""
        view = None if self._view is None else self._view()
        if view is None or self._window is None:
            return
        self._window.keep()
        self._window = self._view = None
        view.flags.writeable = True
        array = self._array()
        if array is not None and array._shared().buffer is view:
            array._shared().loans = 0

    def leave(self) -> None:
        """As :meth:`vacate`, at the end: a weight that cannot be had any more is left alone."""
        with contextlib.suppress(KVTrainError):
            self.vacate()

    # ---- the answer ------------------------------------------------------------------------

    def land(self, low: int, array: Array) -> bool:
        """Take a chunk's values."""
        if isinstance(array, LentArray) and array.source is not None:
            self._lent[low] = array
        else:
            np.copyto(self._private()[low : low + array.size], array)
            self._copied += array.size
        return True

    def _private(self) -> Array:
        if self._own is None:
            self._own = np.empty(self.size, self.dtype)
        return self._own

    def settle(self, array: NDArray) -> Array | None:
        """All has come: show it. Returns private memory that a read must fill, if what came was
        written over meanwhile (R34); else None. May be called again if it was interrupted."""
        lent = self._lent
        if not self._map(array, lent):
            own = self._private()
            for low, part in lent.items():
                np.copyto(own[low : low + part.size], part)
            if not np.may_share_memory(own, array._shared().buffer):
                _move(array, own.reshape(self.shape))
            whole = self._copied + sum([part.size for part in lent.values()]) == self.size
            if not whole or not all(map(intact, lent.values())):
                return own
        self._lent, self._own, self._copied = {}, None, 0
        return None

    def _map(self, array: NDArray, lent: dict[int, LentArray]) -> bool:
        """Show the servers' memory, if everything lies there and nobody else has the array."""
        parts = [lent[low] for low in sorted(lent)]
        if sum([part.size for part in parts]) != self.size or not all(map(intact, parts)):
            return False
        self._own = None
        before = weakref.ref(array._shared().buffer)
        if before() is not self._nothing:
            _move(array, self._nothing)
            held = before()
            if held is not None:
                _move(array, held)
                self._own = held.reshape(-1)
                return False
        if self._window is None or not self._window.shows(parts):
            try:
                self._window = Window(parts)
            except OSError:
                self._window = None
                self._rest = math.inf
                return False
        view = self._window.view(self.shape, self.dtype)
        self._view = weakref.ref(view)
        _move(array, view)
        # the write door leaves it to its owner
        array._shared().loans = 1
        return True


def _move(array: NDArray, buffer: Array) -> None:
    """Go on with another buffer, and keep nothing of the one before."""
    array._shared().replace(buffer)
    array._relocate()


class MappedWeights:
    """The weights of a store that may be mapped, by key."""

    def __init__(self) -> None:
        self._weights: dict[str | int, MappedWeight] = {}
        platform.before_fork(self._before_fork)

    def _before_fork(self) -> None:
        for weight in self._weights.values():
            weight.before_fork()

    def adopt(self, key: str | int, array: NDArray) -> None:
        """Map a weight from its next answer on, if it is worth it."""
        if MappedWeight.suits(array):
            self._weights[key] = MappedWeight(array)

    def prepare(
        self, keys: Sequence[str | int], outs: Sequence[list[NDArray]] | None
    ) -> dict[int, MappedWeight]:
        """Before contributions to `keys`: settle what is mapped of them. Returns those that are
        awaited in the same trip, by place; all others are in private memory then."""
        found: dict[int, MappedWeight] = {}
        for i, key in enumerate(keys) if self._weights else ():
            weight = self._weights.get(key)
            if weight is None:
                continue
            if outs is not None and weight.is_of(outs[i]):
                outs[i][0]._read()
                found[i] = weight
            else:
                weight.vacate()
        return found

    def leave(self) -> None:
        """This worker leaves: rounds go on without it."""
        for weight in self._weights.values():
            weight.leave()

# SPDX-License-Identifier: Apache-2.0
"""What several NDArrays share: one buffer that can be pending, lent, and moved."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]
_pending: weakref.WeakSet[Storage] = weakref.WeakSet()
_lock = threading.Lock()


class Home(Protocol):
    """Memory of a transport in which an array lives, a slot at a time."""

    def free(self) -> Array | None:
        """A slot that nobody reads, of the array's shape; None: all are lent."""


class Storage:
    """A buffer behind two doors; see :class:`kvtrain.ndarray.NDArray`."""

    __slots__ = ("__weakref__", "buffer", "generation", "home", "loans", "wait")

    def __init__(self, buffer: Array) -> None:
        self.buffer = buffer
        #: grows whenever the buffer is another one, so that views look again
        self.generation = 0
        #: readers in the transport, whose bytes must not change
        self.loans = 0
        #: fills the buffer, or raises; None: nothing is awaited
        self.wait: Callable[[], None] | None = None
        #: where the buffer goes instead of private memory when it is lent and written
        self.home: Home | None = None

    def settle(self) -> None:
        """Await what is pending; a failure raises now and at every later read."""
        wait, self.wait = self.wait, None
        if wait is None:
            return
        try:
            wait()
        except BaseException:
            self.wait = wait
            raise
        with _lock:
            _pending.discard(self)

    def set_pending(self, wait: Callable[[], None]) -> None:
        """The buffer is filled by `wait`, called once before the next use."""
        self.wait = wait
        with _lock:
            _pending.add(self)

    def make_private(self, keep: bool = True) -> None:
        """Leave the lent buffer to its readers and go on with a copy, in another slot of its
        home if one is free; without `keep` the copy has no values yet."""
        fresh = None if self.home is None else self.home.free()
        if fresh is None:
            fresh = np.empty_like(self.buffer)
        if keep:
            np.copyto(fresh, self.buffer)
        self.replace(fresh)

    def replace(self, buffer: Array) -> None:
        """Go on with another buffer of the same shape and dtype."""
        self.buffer = buffer
        self.generation += 1
        self.loans = 0


class Loan:
    """A buffer on loan to the transport: its bytes stay until :meth:`release`."""

    __slots__ = ("_generation", "_storage", "array")

    def __init__(self, storage: Storage, array: Array) -> None:
        self._storage = storage
        self._generation = storage.generation
        self.array = array
        with _lock:
            storage.loans += 1

    def release(self) -> None:
        """The transport is done; writes may go to the buffer again."""
        with _lock:
            if self._storage.generation == self._generation and self._storage.loans:
                self._storage.loans -= 1
            self._generation = -1


def settle_all() -> None:
    """Await everything that is pending; the first failure raises after all were tried."""
    with _lock:
        storages = list(_pending)
    failure: BaseException | None = None
    for storage in storages:
        try:
            storage.settle()
        except Exception as error:
            failure = failure or error
    if failure is not None:
        raise failure

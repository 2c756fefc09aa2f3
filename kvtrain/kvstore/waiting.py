# SPDX-License-Identifier: Apache-2.0
"""A request that arrays wait for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kvtrain.kvstore.mapping import MappedWeight
from kvtrain.ndarray import NDArray
from kvtrain.ps.core import requests as r
from kvtrain.ps.net.client import WorkerNode

Array = np.ndarray[Any, Any]


class Waiting:
    """One request that several arrays wait for; waited for once."""

    def __init__(self, node: WorkerNode, number: int) -> None:
        self.node = node
        self._number = number
        self._done = False
        self._error: BaseException | None = None
        #: what the request completed with
        self.value: Any = None

    def wait(self) -> None:
        """Until the request is complete; its error raises, every time."""
        if self._error is not None:
            raise self._error
        if self._done:
            return
        try:
            self.value = self.node.wait(self._number)
        except Exception as error:
            self._error = error
            raise
        self._done = True


def buffer_of(target: NDArray) -> Array:
    """The target itself, flat, if it is contiguous, else an array aside."""
    raw = target._write()
    return raw.reshape(-1) if raw.flags.c_contiguous else np.empty(raw.size, raw.dtype)


def make_pending(
    waiting: Waiting,
    store: int,
    names: Sequence[str],
    outs: list[list[NDArray]],
    buffers: Sequence[Array | r.Landing],
) -> None:
    """Make the targets pending: the first use of any of them waits for the request."""
    for name, targets, buffer in zip(names, outs, buffers, strict=True):
        for target in targets:
            if isinstance(buffer, MappedWeight):
                target._set_pending(_mapper(waiting, target, buffer, store, name))
            else:
                assert isinstance(buffer, np.ndarray)
                target._set_pending(_filler(waiting, target, buffer))


def _filler(waiting: Waiting, target: NDArray, buffer: Array) -> Any:
    """What a pending array calls: wait, then copy unless the answer came to its own place."""

    def fill() -> None:
        waiting.wait()
        raw = target._fill()
        if not np.may_share_memory(raw, buffer):
            np.copyto(raw, buffer.reshape(raw.shape))

    return fill


def _mapper(waiting: Waiting, target: NDArray, weight: MappedWeight, store: int, name: str) -> Any:
    """As `_filler`, for a weight that may be mapped."""

    def fill() -> None:
        waiting.wait()
        void = weight.settle(target)
        if void is not None:
            waiting.node.call(r.PullRequest(store, (name,), (void,)))

    return fill

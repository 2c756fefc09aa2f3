# SPDX-License-Identifier: Apache-2.0
"""Workers of a simulation that read weights in the servers' memory (PROTOCOL R36).

A value that came in the trip of its contribution is kept by reference, as over shared memory.
From then until the worker's next contribution to the key it may not change: I7 of weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from kvtrain.ps.core import requests as r
from kvtrain.testing.plans import Plan

Array = np.ndarray[Any, Any]
Key = tuple[int, str]


class Reference:
    """A Landing that keeps what it is given, and a copy of it in `out`."""

    def __init__(self, out: Array) -> None:
        self.out = out
        self.size, self.dtype = out.size, out.dtype
        self.parts: dict[int, Array] = {}

    def land(self, low: int, array: Array) -> bool:
        """Take a chunk's values."""
        self.parts[low] = array
        np.copyto(self.out[low : low + array.size], array)
        return True

    def holds(self) -> bool:
        """Whether what is referred to is what came."""
        return all(
            np.array_equal(part, self.out[low : low + part.size], equal_nan=True)
            for low, part in self.parts.items()
        )


def may_map(plan: Plan) -> bool:
    """Whether the plan's workers read in place: R36, and no round closes without one of them."""
    mixed = plan.modes or plan.rows or plan.compression or plan.backups
    return plan.sync and plan.one_trip and plan.on_worker_loss == "abort" and not mixed


class MappedReads:
    """What one worker reads in place; keys of which something is under way are not in it."""

    def __init__(self) -> None:
        self._shown: dict[Key, Reference] = {}
        #: requests under way of each key
        self._pending: dict[Key, int] = {}
        self._asked: dict[int, r.PushRequest] = {}

    def asked(self, number: int, request: r.Request) -> None:
        """The core has taken `request`."""
        if isinstance(request, r.PushRequest) and request.outs is not None:
            self._asked[number] = request

    def before(self, request: r.Request) -> r.Request:
        """The request as it is asked: values in the trip of their contribution are not copied,
        and from now on nobody looks at the weight."""
        if isinstance(request, r.LeaveRequest):
            self._shown.clear()  # rounds close without this worker
        if not isinstance(request, r.PushRequest) or request.outs is None:
            return request
        for name in request.names:
            self.hide((request.store, name))
        outs = [Reference(out) for out in request.outs if isinstance(out, np.ndarray)]
        return replace(request, outs=tuple(outs))

    def hide(self, key: Key) -> None:
        """The weight is pending: nobody looks."""
        self._shown.pop(key, None)
        self._pending[key] = self._pending.get(key, 0) + 1

    def show(self, number: int) -> None:
        """The answer to a request is there."""
        request = self._asked.pop(number, None)
        if request is None:
            return
        for name, out in zip(request.names, request.outs or (), strict=True):
            key = (request.store, name)
            self._pending[key] -= 1
            if not self._pending[key] and isinstance(out, Reference):
                out.out = out.out.copy()  # the program does with its own as it likes
                self._shown[key] = out

    def check(self, name: str) -> None:
        """Nothing that is shown has changed."""
        for key, reference in self._shown.items():
            assert reference.holds(), f"R36: weight {key} changed under {name}, which reads it"

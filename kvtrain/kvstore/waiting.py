# SPDX-License-Identifier: Apache-2.0
"""A request that arrays wait for."""

from __future__ import annotations

from typing import Any

from kvtrain.ps.net.client import WorkerNode


class Waiting:
    """One request that several arrays wait for; waited for once."""

    def __init__(self, node: WorkerNode, number: int) -> None:
        self._node = node
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
            self.value = self._node.wait(self._number)
        except Exception as error:
            self._error = error
            raise
        self._done = True

# SPDX-License-Identifier: Apache-2.0
"""What waits to be sent over a network: the most urgent goes first.

A socket sends in the order it was given things, so a gradient of a first layer would wait
behind everything that was posted before it. A lane gives the socket only what it will send
within a moment, and keeps the rest in order of priority. Small messages are not kept back.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections import deque
from typing import Any

import zmq

#: messages from this size on wait in the lane
BULK = 64 * 1024
#: seconds of sending that the socket is given ahead, and bounds of that in bytes
AHEAD = 0.02
LEAST, MOST = 256 * 1024, 16 << 20
#: seconds between two looks at what has been sent
LOOK = 0.001


class Lane:
    """The bulk messages of one connection."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._waiting: list[tuple[float, int, list[Any], int]] = []
        self._order = itertools.count()
        #: given to the socket and not sent: (tracker, bytes)
        self._given: deque[tuple[Any, int]] = deque()
        self._given_bytes = 0
        self._window = float(4 << 20)
        #: since when, and how much, it has been sending without a pause
        self._since = 0.0
        self._sent = 0

    @property
    def waiting(self) -> bool:
        """Whether something is kept back."""
        return bool(self._waiting)

    def send(self, frames: list[Any], size: int, priority: float) -> None:
        """Send a message when its turn comes; of equal priority the first one first."""
        heapq.heappush(self._waiting, (-priority, next(self._order), frames, size))
        self.look()

    def look(self) -> None:
        """Take note of what has been sent, and give the socket more."""
        now = time.monotonic()
        while self._given and self._given[0][0].done:
            size = self._given.popleft()[1]
            self._given_bytes -= size
            self._sent += size
        if self._sent and now - self._since >= AHEAD:
            rate = self._sent / (now - self._since)
            self._window = min(max(rate * AHEAD, LEAST), MOST)
            self._since, self._sent = now, 0
        while self._waiting and (
            not self._given or self._given_bytes + self._waiting[0][3] <= self._window
        ):
            _, _, frames, size = heapq.heappop(self._waiting)
            if not self._given:
                self._since, self._sent = now, 0
            try:
                tracker = self._socket.send_multipart(frames, zmq.NOBLOCK, copy=False, track=True)
            except zmq.ZMQError as error:
                if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                    raise
                continue  # as lost on the way: it is asked for again
            self._given.append((tracker, size))
            self._given_bytes += size

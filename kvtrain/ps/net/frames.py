# SPDX-License-Identifier: Apache-2.0
"""Multipart messages frame by frame.

pyzmq's ``send_multipart`` and ``recv_multipart`` join flags that are enum members and ask the
socket after every frame whether more follow, which costs several times what the calls of ZeroMQ
themselves do. A message of 10 elements feels that.
"""

from __future__ import annotations

from typing import Any

import zmq

#: bytes above which a frame is handed over without a copy
NO_COPY = 32 * 1024
_LAST = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)


def send_frames(socket: Any, frames: list[Any]) -> None:
    """Send one message without waiting; raises ZMQError (EAGAIN, EHOSTUNREACH) as a socket does.

    Only the first frame can be refused: a message whose first frame was taken is taken whole.
    """
    for frame in frames[:-1]:
        socket.send(frame, _MORE, len(frame) <= NO_COPY)
    last = frames[-1]
    socket.send(last, _LAST, len(last) <= NO_COPY)


def receive_frames(socket: Any) -> list[Any]:
    """The frames of the next message, as zmq.Frame; raises ZMQError (EAGAIN) if none is here."""
    frame = socket.recv(_LAST, copy=False)
    frames = [frame]
    while frame.more:
        frame = socket.recv(_LAST, copy=False)
        frames.append(frame)
    return frames

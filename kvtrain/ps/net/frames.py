# SPDX-License-Identifier: Apache-2.0
"""Multipart messages frame by frame.

pyzmq's ``send_multipart`` and ``recv_multipart`` join flags that are enum members and ask the
socket after every frame whether more follow, which costs several times what the calls of ZeroMQ
themselves do. A message of 10 elements feels that.
"""

from __future__ import annotations

from typing import Any

import zmq

_LAST = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)


def send_frames(socket: Any, frames: list[Any], copy: bool) -> None:
    """Send one message without waiting; raises ZMQError (EAGAIN, EHOSTUNREACH) as a socket does.

    Only the first frame can be refused: a message whose first frame was taken is taken whole.
    """
    for frame in frames[:-1]:
        socket.send(frame, _MORE, copy)
    socket.send(frames[-1], _LAST, copy)


def receive_frames(socket: Any) -> list[Any]:
    """The frames of the next message, as zmq.Frame; raises ZMQError (EAGAIN) if none is here."""
    frame = socket.recv(_LAST, copy=False)
    frames = [frame]
    while frame.more:
        frame = socket.recv(_LAST, copy=False)
        frames.append(frame)
    return frames

# SPDX-License-Identifier: Apache-2.0
"""Small messages between processes of one host, past ZeroMQ's threads.

A message through ZeroMQ wakes a thread of its own on each side before it wakes the program;
waking takes longer than everything else that a small message needs. A server that listens on a
Unix socket listens on a second one too, to which workers send what is small in one record, and
which it answers by. Everything else goes by ZeroMQ, also what does not fit into the record
socket at the moment: messages may overtake one another anyhow.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import zmq

from kvtrain.ps.core.membership import NodeId

T = TypeVar("T")
#: bytes of the largest record
LIMIT = 48 * 1024
#: most frames of a message that goes this way
FRAMES = 8
#: added to the path of the ZeroMQ socket
SUFFIX = ".d"
_COUNT = struct.Struct("<I")
_HEADS = [struct.Struct(f"<{1 + n}I") for n in range(FRAMES + 1)]
_FLAGS = getattr(socket, "MSG_DONTWAIT", 0) | getattr(socket, "MSG_NOSIGNAL", 0)


class Gone(Exception):
    """The other end has closed the connection, or does not speak this way."""


class Direct:
    """One connection."""

    __slots__ = ("_socket", "descriptor", "peer")

    def __init__(self, connection: socket.socket, peer: NodeId | None = None) -> None:
        connection.setblocking(False)
        self._socket = connection
        self.descriptor = connection.fileno()
        #: who is at the other end; None: it has not said so yet
        self.peer = peer

    def send(self, frames: list[Any]) -> bool:
        """Send one message; False if it must go another way."""
        count = len(frames)
        if count > FRAMES:
            return False
        sizes = list(map(len, frames))
        if sum(sizes) > LIMIT:
            return False
        try:
            self._socket.sendmsg([_HEADS[count].pack(count, *sizes), *frames], (), _FLAGS)
        except OSError:
            return False  # full, or gone: reading finds out which
        return True

    def receive(self) -> list[memoryview] | None:
        """The frames of the next message; None if none is here; raises Gone."""
        try:
            record = memoryview(self._socket.recv(LIMIT + 4 * FRAMES + 8))
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise Gone(error.strerror) from None
        if not record:
            raise Gone("closed")
        count = _COUNT.unpack_from(record)[0] if len(record) >= 4 else 0
        head = _HEADS[count].size if 0 < count <= FRAMES else 0
        if not head or len(record) < head:
            raise Gone("no record of this protocol")
        frames, at = [], head
        for size in _HEADS[count].unpack_from(record)[1:]:
            frames.append(record[at : at + size])
            at += size
        if at != len(record):
            raise Gone("a record of another length than announced")
        return frames

    def close(self) -> None:
        """Close it."""
        self._socket.close()


class Door:
    """Where connections are taken."""

    def __init__(self, listener: socket.socket, path: str) -> None:
        self._listener = listener
        self._path = Path(path)
        self.descriptor = listener.fileno()

    def accept(self) -> Direct | None:
        """The next connection; None if nobody waits; raises OSError when there can be no more."""
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return None
        return Direct(connection)

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()
        self._path.unlink(missing_ok=True)


def listen(address: str) -> Door | None:
    """Listen beside the ``ipc://`` address of a ZeroMQ socket; None where that cannot be."""
    return _made(address, _listening)


def connect(address: str, peer: NodeId) -> Direct | None:
    """Go to who listens beside an ``ipc://`` address; None: everything goes by ZeroMQ."""

    def go(made: socket.socket, path: str) -> Direct:
        made.setblocking(False)
        made.connect(path)
        return Direct(made, peer)

    return _made(address, go)


def _listening(made: socket.socket, path: str) -> Door:
    made.setblocking(False)
    made.bind(path)
    made.listen(512)
    return Door(made, path)


def _made(address: str, use: Callable[[socket.socket, str], T]) -> T | None:
    if not address.startswith("ipc://") or not hasattr(socket, "AF_UNIX"):
        return None
    made = None
    with contextlib.suppress(OSError, AttributeError):
        made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return use(made, address[len("ipc://") :] + SUFFIX)
    if made is not None:
        made.close()
    return None


class Directs:
    """The record sockets of one process, watched by the poller of its ZeroMQ sockets."""

    def __init__(self, poller: zmq.Poller) -> None:
        self._poller = poller
        self._door: Door | None = None
        self._open: dict[int, Direct] = {}
        self._by_peer: dict[NodeId, Direct] = {}
        #: connections that wait until their peer was heard by ZeroMQ: it knows the way back then
        self._silent: dict[NodeId, Direct] = {}

    def listen(self, address: str) -> None:
        """Take connections beside `address`."""
        self._door = listen(address)
        if self._door is not None:
            self._poller.register(self._door.descriptor, zmq.POLLIN)

    def go(self, peer: NodeId, address: str) -> None:
        """Connect to `peer`, whom it concerns once it was heard by ZeroMQ."""
        made = connect(address, peer)
        if made is not None:
            self._silent[peer] = made

    def heard(self, peer: NodeId) -> None:
        """A message of `peer` came by ZeroMQ."""
        made = self._silent.pop(peer, None)
        if made is not None:
            self._add(made)
            self._by_peer[peer] = made

    def came_from(self, connection: Direct, peer: NodeId) -> None:
        """A message came by a connection: answers go there."""
        if connection.peer != peer:
            connection.peer = peer
            self._by_peer[peer] = connection

    def send(self, to: NodeId, frames: list[Any]) -> bool:
        """Send a message; False if it must go by ZeroMQ."""
        connection = self._by_peer.get(to)
        return connection is not None and connection.send(frames)

    def readable(self, descriptor: int) -> Direct | None:
        """The connection that has something to read; new ones are taken here."""
        if self._door is not None and descriptor == self._door.descriptor:
            self._accept()
            return None
        return self._open.get(descriptor)

    def receive(self, connection: Direct) -> list[memoryview] | None:
        """Frames of the next message; None if none is here or the connection has ended."""
        if self._open.get(connection.descriptor) is not connection:
            return None
        try:
            return connection.receive()
        except Gone:
            self.drop(connection)
            return None

    def _accept(self) -> None:
        assert self._door is not None
        try:
            connection = self._door.accept()
        except OSError:
            # no descriptors left, say: those who come later use ZeroMQ
            self._poller.unregister(self._door.descriptor)
            self._door.close()
            self._door = None
            return
        if connection is not None:
            self._add(connection)

    def _add(self, connection: Direct) -> None:
        self._open[connection.descriptor] = connection
        self._poller.register(connection.descriptor, zmq.POLLIN)

    def drop(self, connection: Direct) -> None:
        """Close a connection; what goes to its peer goes by ZeroMQ from now on."""
        if self._open.pop(connection.descriptor, None) is not None:
            self._poller.unregister(connection.descriptor)
        if connection.peer is not None and self._by_peer.get(connection.peer) is connection:
            del self._by_peer[connection.peer]
        connection.close()

    def forget(self, peer: NodeId) -> None:
        """`peer` is gone."""
        for connection in (self._silent.pop(peer, None), self._by_peer.get(peer)):
            if connection is not None:
                self.drop(connection)

    def close(self) -> None:
        """Close everything."""
        for connection in (*self._open.values(), *self._silent.values()):
            connection.close()
        self._open.clear()
        self._silent.clear()
        self._by_peer.clear()
        if self._door is not None:
            self._door.close()
            self._door = None

# SPDX-License-Identifier: Apache-2.0
"""ZeroMQ sockets of one process: one bound for those who come, one per peer that we go to.

All sockets are used by one thread at a time; whoever owns a Links sees to that.
"""

from __future__ import annotations

import errno
import os
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from kvtrain.errors import ConfigError, RemoteProtocolError
from kvtrain.ps.core.membership import NodeId, Role
from kvtrain.ps.core.messages import Hello, Message, Offer, OfferAnswer, PushQuery, Refused
from kvtrain.ps.net import codec
from kvtrain.ps.net.direct import Direct, Directs
from kvtrain.ps.net.frames import receive_frames, send_frames
from kvtrain.ps.net.lanes import BULK, LOOK, Lane
from kvtrain.ps.net.sharing import Sharing

#: routes kept; the longest unused goes first
MAX_ROUTES = 65536
#: messages taken before time is looked at again
BATCH = 256
#: roles whose messages carry arrays
_SHARING = (Role.SERVER, Role.WORKER)
_BROKEN = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
Notice = Callable[[str], None]


class Links:
    """The sockets of one process.

    Parameters
    ----------
    token : bytes
        The job's token; it is in every message, and a message without it is not believed.
    notice : callable
        Told about what was not believed.
    sharing : Sharing, optional
        Memory that peers of the same host may map.
    """

    def __init__(
        self,
        token: bytes,
        notice: Notice,
        max_message: int = 1 << 30,
        sharing: Sharing | None = None,
    ) -> None:
        self._context = zmq.Context()
        self._token = token
        self._notice = notice
        self._max_message = max_message
        self._sharing = sharing
        #: peers that we go to and offer our memory to
        self._offered: set[NodeId] = set()
        self._router: Any = None
        self._monitor: Any = None
        self._routes: OrderedDict[NodeId, bytes] = OrderedDict()
        self._peers: dict[NodeId, Any] = {}
        #: connections over a network, on which bulk waits in order of priority
        self._lanes: dict[NodeId, Lane] = {}
        self._sockets: dict[Any, NodeId | None] = {}
        self._poller = zmq.Poller()
        self._directs = Directs(self._poller)
        #: what the last poll has seen to be readable
        self._ready: list[Any] = []
        self._resolve = None if sharing is None else sharing.resolve
        self._path: Path | None = None
        #: things in our own process to poll, and what to do when they are readable
        self._watched: dict[int, Callable[[], None]] = {}
        #: bad messages by kind, so that one kind does not silence another
        self._doubts: Counter[str] = Counter()
        #: why the last message that was not believed was not
        self._said = ""
        self.address = ""

    # ---- opening --------------------------------------------------------------------------

    def bind(self, address: str, direct: bool = False) -> str:
        """Listen at `address` (``tcp://host:0`` lets the system choose); returns where.

        With `direct` small messages of processes of this host may come past ZeroMQ.

        Raises
        ------
        ConfigError
            It is in use or cannot be bound; names it.
        """
        router = self._new(zmq.ROUTER)
        monitor = router.get_monitor_socket(_BROKEN)
        try:
            router.bind(address)
        except zmq.ZMQError as error:
            router.disable_monitor()
            monitor.close(0)
            router.close(0)
            if error.errno == errno.EADDRINUSE:
                raise ConfigError(
                    f"cannot listen at {address}: the port is already in use; "
                    "choose another --port, or 0 for any free one"
                ) from None
            raise ConfigError(f"cannot listen at {address}: {error.strerror}") from None
        self._router, self._monitor = router, monitor
        self._add(router, None)
        self._poller.register(monitor, zmq.POLLIN)
        self.address = router.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
        if self.address.startswith("ipc://"):
            self._path = Path(self.address[len("ipc://") :])
        if direct:
            self._directs.listen(self.address)
        return self.address

    def connect(self, peer: NodeId, address: str, share: bool = False) -> None:
        """Open the way to `peer`; `share`: memory and a direct way too, if it is on this host."""
        socket = self._new(zmq.DEALER)
        socket.setsockopt(zmq.RECONNECT_IVL, 50)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        if address.startswith("tcp://"):
            # what the kernel holds cannot be overtaken
            socket.setsockopt(zmq.SNDBUF, 1 << 18)
        try:
            socket.connect(address)
        except zmq.ZMQError as error:
            socket.close(0)
            raise ConfigError(f"cannot connect to {address!r}: {error.strerror}") from None
        self._peers[peer] = socket
        if address.startswith("tcp://"):
            self._lanes[peer] = Lane(socket)
        if share:
            self._offered.add(peer)
            self._directs.go(peer, address)
        self._add(socket, peer)

    def _new(self, kind: int) -> Any:
        socket = self._context.socket(kind)
        # what is under way is bounded by the protocol: one contribution per chunk and worker
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, self._max_message)
        return socket

    def _add(self, socket: Any, peer: NodeId | None) -> None:
        self._sockets[socket] = peer
        self._poller.register(socket, zmq.POLLIN)

    def has_peer(self, peer: NodeId) -> bool:
        """Whether the way to `peer` is open."""
        return peer in self._peers

    def peers(self) -> list[NodeId]:
        """Those that we have gone to."""
        return list(self._peers)

    def disconnect(self, peer: NodeId) -> None:
        """Close the way to `peer`; it is gone."""
        socket = self._peers.pop(peer, None)
        if socket is not None:
            self._offered.discard(peer)
            self._lanes.pop(peer, None)
            self._directs.forget(peer)
            self._sockets.pop(socket, None)
            self._poller.unregister(socket)
            socket.close(0)

    def watch(self, descriptor: int, readable: Callable[[], None]) -> None:
        """Call `readable` when the file descriptor has something to read, or is closed."""
        self._watched[descriptor] = readable
        self._poller.register(descriptor, zmq.POLLIN)

    def unwatch(self, descriptor: int) -> None:
        """Watch it no more."""
        if self._watched.pop(descriptor, None) is not None:
            self._poller.unregister(descriptor)

    # ---- messages -------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether a message waits for its turn on a network."""
        return any(lane.waiting for lane in list(self._lanes.values()))

    def send(self, to: NodeId, message: Message, sender: NodeId, priority: float = 0) -> bool:
        """Send; False if there is no way to `to`, who will ask again.

        Over a network bulk waits for its turn, higher `priority` first.
        """
        locate = None
        if self._sharing is not None and to.role in _SHARING:
            offer = self._sharing.offer(to, to in self._offered)
            if offer is not None:
                self._post(to, codec.encode(offer, sender, self._token))
            locate = self._sharing.locator(to)
        frames = codec.encode(message, sender, self._token, locate)
        if self._directs.send(to, frames):
            return True
        lane = self._lanes.get(to)
        if lane is not None:
            size = sum(len(f) for f in frames)
            # a question about what is still here must not arrive before it
            last = isinstance(message, PushQuery) and lane.waiting
            if size >= BULK or last:
                lane.send(frames, size, float("-inf") if last else priority)
                return True
        return self._post(to, frames)

    def _post(self, to: NodeId, frames: list[Any]) -> bool:
        socket = self._peers.get(to)
        if socket is None:
            route = self._routes.get(to)
            if route is None or self._router is None:
                return False
            socket = self._router
            frames.insert(0, route)
        try:
            send_frames(socket, frames)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
            return False
        return True

    def poll(self, timeout: float | None) -> bool:
        """Wait up to `timeout` seconds until something can be received."""
        events = self._poll(timeout)
        self._ready = []
        for socket, _ in events:
            if isinstance(socket, int):
                if socket in self._watched:
                    self._watched[socket]()
                    continue
                direct = self._directs.readable(socket)
                if direct is not None:
                    self._ready.append(direct)
            elif socket is self._monitor:
                self._drain_monitor()
            else:
                self._ready.append(socket)
        return bool(events)

    def _poll(self, timeout: float | None) -> list[tuple[Any, int]]:
        if not self._lanes:
            return self._poller.poll(_milliseconds(timeout))
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            for lane in list(self._lanes.values()):
                lane.look()
            left = None if end is None else end - time.monotonic()
            if not self.waiting:
                return self._poller.poll(_milliseconds(left))
            events = self._poller.poll(_milliseconds(LOOK if left is None else min(left, LOOK)))
            if events or (left is not None and left <= LOOK):
                return events

    def receive(self, sender: NodeId) -> Iterator[tuple[NodeId, Message]]:
        """Messages that the last poll has seen, at most BATCH; `sender` signs refusals."""
        ready, self._ready = self._ready, []
        for _ in range(BATCH):
            more = []
            for socket in ready:
                if type(socket) is Direct:
                    decoded = self._receive_directly(socket, sender)
                    if decoded is None:
                        continue
                    more.append(socket)
                    yield decoded
                    continue
                if socket not in self._sockets:
                    continue  # closed by what was asked for by the message before
                peer = self._sockets[socket]
                try:
                    frames = receive_frames(socket)
                except zmq.ZMQError as error:
                    if error.errno in (zmq.EAGAIN, zmq.ETERM):
                        continue
                    raise
                more.append(socket)
                decoded = self._decode(frames, peer, sender)
                if decoded is None:
                    continue
                if peer is not None:
                    self._directs.heard(peer)
                if isinstance(decoded[1], Offer | OfferAnswer):
                    self._settle(*decoded, sender)
                else:
                    yield decoded
            if not more:
                return
            ready = more

    def _receive_directly(self, connection: Direct, me: NodeId) -> tuple[NodeId, Message] | None:
        """A message that came past ZeroMQ; a connection that brings a bad one is closed."""
        frames = self._directs.receive(connection)
        if frames is None:
            return None
        known = connection.peer
        decoded = self._believed(frames, known)
        changed = decoded is not None and known is not None and decoded[0] != known
        if decoded is None or changed or isinstance(decoded[1], Offer | OfferAnswer | Hello):
            self._directs.drop(connection)
            return None
        if known is None:
            self._directs.came_from(connection, decoded[0])
        return decoded

    def _believed(self, raw: list[Any], peer: NodeId | None) -> tuple[NodeId, Message] | None:
        """Sender and message; None, and a word about it, if it is not believed."""
        try:
            node, message = codec.decode(raw, self._token, self._resolve)
            wrong = node.role == Role.SCHEDULER if peer is None else node.role != peer.role
            if wrong:
                # everybody goes to the scheduler; it comes to nobody
                raise RemoteProtocolError(f"{node} is not who is at the other end")
        except RemoteProtocolError as error:
            self._said = str(error)
            self._doubt(type(error).__name__, f"{error} ({len(raw)} frames); it was dropped")
            return None
        return node, message

    def _decode(
        self, frames: list[Any], peer: NodeId | None, me: NodeId
    ) -> tuple[NodeId, Message] | None:
        """What came from `peer`, or (None) through our own port; None if it is not believed."""
        routed = peer is None
        route = bytes(frames.pop(0).buffer) if routed and frames else b""
        raw = [frame.buffer for frame in frames]
        believed = self._believed(raw, peer)
        if believed is None:
            if routed and codec.is_hello(raw):
                self._refuse(route, raw, self._said, me)
            return None
        node, message = believed
        if routed:
            if isinstance(message, Hello) or self._routes.get(node) != route:
                self._routes[node] = route
                if len(self._routes) > MAX_ROUTES:
                    self._routes.popitem(last=False)
            self._routes.move_to_end(node)
        return node, message

    def _settle(self, peer: NodeId, message: Message, me: NodeId) -> None:
        """An offer of memory, or the answer to one of ours."""
        if self._sharing is None:
            answer: Message | None = None
            if isinstance(message, Offer):
                answer = OfferAnswer(
                    offered=len(message.segments), mapped=(), reason="it shares no memory"
                )
        else:
            answer = self._sharing.on_message(peer, message)
        if answer is not None:
            self._post(peer, codec.encode(answer, me, self._token))

    def _refuse(self, route: bytes, raw: list[Any], reason: str, me: NodeId) -> None:
        """Tell a process that said Hello why it is not believed; nothing secret is in it."""
        refused = codec.encode(Refused(reason=reason), me, codec.claimed_token(raw))
        try:
            self._router.send_multipart([route, *refused], zmq.NOBLOCK)
        except zmq.ZMQError:
            return

    def _doubt(self, kind: str, text: str) -> None:
        """Tell about bad messages, the first ones of a kind and then ever fewer."""
        self._doubts[kind] += 1
        count = self._doubts[kind]
        if count <= 5 or count & (count - 1) == 0:
            self._notice(f"{self.address or 'a socket'} got a message it does not take: {text}")

    def _drain_monitor(self) -> None:
        while True:
            try:
                frames = self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.ZMQError:
                return
            event = parse_monitor_message(frames)
            if event["event"] & _BROKEN:
                self._doubt(
                    "greeting", "bytes that are no ZeroMQ greeting; the connection was closed"
                )

    # ---- the end --------------------------------------------------------------------------

    def close(self, linger: float = 0.0) -> None:
        """Close everything; what was sent last has `linger` seconds to get out."""
        if self._router is not None:
            self._router.disable_monitor()
            self._monitor.close(0)
        for socket in self._sockets:
            socket.close(int(linger * 1000))
        self._sockets.clear()
        self._peers.clear()
        self._lanes.clear()
        self._directs.close()
        self._context.term()
        if self._sharing is not None:
            self._sharing.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else max(0, int(seconds * 1000 + 0.999))


def ipc_address(directory: str, name: str) -> str:
    """``ipc://`` address of a socket file; raises ConfigError if the path is too long."""
    path = os.path.join(directory, name)
    if len(path) > 100:
        raise ConfigError(f"the socket path {path} is longer than 100 characters; set TMPDIR")
    return f"ipc://{path}"

# SPDX-License-Identifier: Apache-2.0
"""What the machine itself can do: memory, and sockets of the loopback."""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import Callable

import numpy as np

#: figure -> what it is called in the table
NAMES = {
    "memcpy_64KB_Bps": "memcpy of 64 KB",
    "memcpy_64MB_Bps": "memcpy of 64 MB",
    "add_64MB_Bps": "a += b of 64 MB",
    "tcp_stream_Bps": "loopback tcp, stream of 1 MB",
    "unix_stream_Bps": "unix socket, stream of 1 MB",
    "tcp_trips_per_s": "loopback tcp, round trips of 40 bytes",
    "unix_trips_per_s": "unix socket, round trips of 40 bytes",
}
_STREAM, _PIECE, _TRIPS = 64 << 20, 1 << 20, 2000


def measure() -> dict[str, float]:
    """All figures; takes about a second."""
    found = {
        "memcpy_64KB_Bps": _copying(64 << 10),
        "memcpy_64MB_Bps": _copying(64 << 20),
        "add_64MB_Bps": _adding(64 << 20),
    }
    for name, make in (("tcp", _tcp_pair), ("unix", socket.socketpair)):
        found[f"{name}_stream_Bps"] = _streaming(make)
        found[f"{name}_trips_per_s"] = _trips(make)
    return found


def _best(run: Callable[[], object], least: float = 0.05) -> float:
    """Median seconds of a call, from calls that together take about `least` seconds."""
    run()
    times: list[float] = []
    while sum(times) < least or len(times) < 3:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def _copying(nbytes: int) -> float:
    source, target = np.ones(nbytes, np.uint8), np.zeros(nbytes, np.uint8)
    return nbytes / _best(lambda: np.copyto(target, source))


def _adding(nbytes: int) -> float:
    a, b = np.ones(nbytes // 4, np.float32), np.ones(nbytes // 4, np.float32)
    return nbytes / _best(lambda: np.add(a, b, out=a))


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = socket.create_connection(server.getsockname())
        there, _ = server.accept()
    for one in (here, there):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return here, there


def _with_peer(
    make: Callable[[], tuple[socket.socket, socket.socket]],
    peer: Callable[[socket.socket], None],
    run: Callable[[socket.socket], None],
) -> float:
    """Seconds that `run` takes on one end while `peer` serves the other in a thread."""
    here, there = make()
    with here, there:
        thread = threading.Thread(target=peer, args=(there,))
        thread.start()
        begin = time.perf_counter()
        run(here)
        took = time.perf_counter() - begin
        thread.join()
    return took


def _read(end: socket.socket, buffer: memoryview) -> None:
    got = 0
    while got < len(buffer):
        got += end.recv_into(buffer[got:])


def _streaming(make: Callable[[], tuple[socket.socket, socket.socket]]) -> float:
    data = bytes(_PIECE)

    def send(end: socket.socket) -> None:
        for _ in range(_STREAM // _PIECE):
            end.sendall(data)

    def receive(end: socket.socket) -> None:
        buffer = memoryview(bytearray(_PIECE))
        for _ in range(_STREAM // _PIECE):
            _read(end, buffer)

    return _STREAM / statistics.median(_with_peer(make, send, receive) for _ in range(3))


def _trips(make: Callable[[], tuple[socket.socket, socket.socket]]) -> float:
    data = bytes(40)

    def answer(end: socket.socket) -> None:
        buffer = memoryview(bytearray(40))
        for _ in range(_TRIPS):
            _read(end, buffer)
            end.sendall(buffer)

    def ask(end: socket.socket) -> None:
        buffer = memoryview(bytearray(40))
        for _ in range(_TRIPS):
            end.sendall(data)
            _read(end, buffer)

    return _TRIPS / _with_peer(make, answer, ask)

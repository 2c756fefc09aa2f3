# SPDX-License-Identifier: Apache-2.0
"""The relay process of :func:`kvtrain.testing.slow_network`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import sys
import time
from typing import Any

from kvtrain.testing.network import BUFFER, TokenBucket

#: bytes that pass at a time
PIECE = 64 * 1024


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bucket: TokenBucket, delay: float
) -> None:
    """One direction of one connection. `delay` holds back what has passed the bucket."""
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1024)

    async def write() -> None:
        while (item := await waiting.get())[1]:
            await asyncio.sleep(item[0] - time.monotonic())
            writer.write(item[1])
            await writer.drain()
        writer.close()

    writing = asyncio.ensure_future(write())
    with contextlib.suppress(OSError):
        while piece := await reader.read(PIECE):
            wait = bucket.take(len(piece), time.monotonic())
            if wait > 0.001:  # shorter ones are made up for by the next
                await asyncio.sleep(wait)
            await waiting.put((time.monotonic() + delay, piece))
    await waiting.put((0.0, b""))
    with contextlib.suppress(OSError):
        await writing


def _small(made: socket.socket) -> socket.socket:
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    if made.family == socket.AF_INET:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


class _Relay:
    """The relay process: a listening port for each address it is asked for."""

    def __init__(self, up: float, down: float, burst: int, delay: float) -> None:
        self._up, self._down = TokenBucket(up, burst), TokenBucket(down, burst)
        self._delay = delay
        self._listening: list[Any] = []

    async def listen(self, host: str, port: int) -> int:
        """Forward a new port to `host`:`port`; returns it."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            loop = asyncio.get_running_loop()
            out = _small(socket.socket())
            out.setblocking(False)
            try:
                await loop.sock_connect(out, (host, port))
            except OSError:
                writer.close()
                return
            there = await asyncio.open_connection(sock=out, limit=PIECE)
            await asyncio.gather(
                _pump(reader, there[1], self._up, self._delay),
                _pump(there[0], writer, self._down, self._delay),
            )

        listener = _small(socket.socket())
        listener.bind(("127.0.0.1", 0))
        self._listening.append(await asyncio.start_server(accept, sock=listener, limit=PIECE))
        number: int = listener.getsockname()[1]
        return number

    async def serve(self) -> None:
        """Answer ``host:port`` lines with ports until standard input ends."""
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            host, port = line.strip().rsplit(":", 1)
            sys.stdout.write(f"{await self.listen(host, int(port))}\n")
            sys.stdout.flush()


def main(arguments: list[str] | None = None) -> None:
    """The relay process."""
    parser = argparse.ArgumentParser(prog="python -m kvtrain.testing.relay")
    for name, kind in (("up", float), ("down", float), ("burst", int), ("delay", float)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    given: Any = parser.parse_args(arguments)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_Relay(given.up, given.down, given.burst, given.delay).serve())


if __name__ == "__main__":
    main()

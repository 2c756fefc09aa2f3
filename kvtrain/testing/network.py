# SPDX-License-Identifier: Apache-2.0
"""A slow network, simulated: a token bucket, and a relay that shapes a worker's connections.

In a worker's script, before ``kv.create``::

    from kvtrain.testing import slow_network
    slow_network(rate=12.5e6, delay=0.001)

Everything between this process and the servers then passes through a relay process that lets
`rate` bytes a second through in each direction, as one network card would. Buffers on the way
are small, so that what is sent waits in the sender. The job must run over tcp
(``kvtrain launch --transport tcp``); figures measured this way are of a *simulated* network.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from typing import Any

from kvtrain.errors import ConfigError
from kvtrain.ps.core.membership import NodeId, Role
from kvtrain.ps.net.transport import Links

#: bytes of each kernel buffer in the relay, and that pass at once after a pause
BUFFER = 64 * 1024


class TokenBucket:
    """Lets `rate` bytes a second through, and up to `burst` at once after a pause.

    Parameters
    ----------
    rate : float
        Bytes a second.
    burst : int
        Most tokens that are saved up.
    """

    def __init__(self, rate: float, burst: int = BUFFER) -> None:
        if not rate > 0 or not burst > 0:
            raise ConfigError(f"token bucket: rate={rate} and burst={burst} must be positive")
        self.rate = float(rate)
        self.burst = float(burst)
        self._tokens = float(burst)
        self._at: float | None = None
        #: bytes let through so far
        self.passed = 0

    def take(self, count: int, now: float) -> float:
        """Seconds to wait before `count` bytes may go; they are taken as gone."""
        if self._at is not None:
            self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now if self._at is None else max(now, self._at)
        self._tokens -= count
        self.passed += count
        return max(0.0, -self._tokens / self.rate)


class SlowNetwork:
    """A running relay process, used by this process's connections until :meth:`close`."""

    def __init__(self, up: float, down: float, burst: int, delay: float) -> None:
        command = [sys.executable, "-m", "kvtrain.testing.relay"]
        options = f"--up={up} --down={down} --burst={burst} --delay={delay}".split()
        self._process = subprocess.Popen(
            [*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._connect: Any = Links.connect
        slow = self

        def connect(links: Links, peer: NodeId, address: str, share: bool = False) -> None:
            far = peer.role == Role.SERVER
            slow._connect(links, peer, slow.through(address) if far else address, share and not far)

        setattr(Links, "connect", connect)  # noqa: B010

    def through(self, address: str) -> str:
        """The address that leads to ``tcp://host:port`` through the relay."""
        if not address.startswith("tcp://"):
            raise ConfigError(
                f"slow_network: the server listens at {address}; start the job with --transport tcp"
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(address.removeprefix("tcp://") + "\n")
        self._process.stdin.flush()
        port = self._process.stdout.readline().strip()
        if not port:
            raise ConfigError("slow_network: the relay process has ended")
        return f"tcp://127.0.0.1:{port}"

    def close(self) -> None:
        """End the relay; connections through it break."""
        setattr(Links, "connect", self._connect)  # noqa: B010
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.terminate()
        self._process.wait()


def slow_network(
    rate: float, down: float | None = None, burst: int = BUFFER, delay: float = 0.0
) -> SlowNetwork:
    """Shape all of this process's connections to servers from now on; simulated.

    Parameters
    ----------
    rate : float
        Bytes a second that leave this process, over all servers together.
    down : float, optional
        Bytes a second that arrive; as `rate` by default.
    burst : int
        Bytes that pass at once after a pause.
    delay : float
        Seconds that each byte takes on its way, in each direction.

    Raises
    ------
    ConfigError
        A rate that is not positive; a server that is not reached by tcp.
    """
    down = rate if down is None else down
    for direction in (rate, down):
        TokenBucket(direction, burst)
    made = SlowNetwork(rate, down, burst, delay)
    sys.stderr.write(
        f"kvtrain: simulated network of process {os.getpid()}: {rate / 1e6:g} MB/s up, "
        f"{down / 1e6:g} MB/s down, {delay * 1e3:g} ms\n"
    )
    # before the worker's own handler is registered, so after it is run
    atexit.register(made.close)
    return made

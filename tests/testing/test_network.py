# SPDX-License-Identifier: Apache-2.0
"""The simulated slow network."""

import socket
import threading
import time

import pytest

from kvtrain.errors import ConfigError
from kvtrain.ps.net.transport import Links
from kvtrain.testing import TokenBucket, slow_network


def test_a_bucket_lets_its_rate_through_and_bursts_after_a_pause() -> None:
    bucket = TokenBucket(rate=1000, burst=100)
    assert bucket.take(100, now=5.0) == 0
    assert bucket.take(50, now=5.0) == pytest.approx(0.05)
    assert bucket.take(50, now=5.05) == pytest.approx(0.05)
    assert bucket.take(0, now=5.1) == pytest.approx(0)
    assert bucket.take(100, now=99.0) == 0, "saved up, but not more than the burst"
    assert bucket.take(1000, now=99.0) == pytest.approx(1.0)
    assert bucket.passed == 1300
    # over a long time: the rate
    now = start = 200.0
    bucket = TokenBucket(rate=1e6, burst=1 << 16)
    for _ in range(100):
        now += bucket.take(1 << 16, now)
    assert (100 << 16) / (now - start) == pytest.approx(1e6, rel=0.02)


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, 0), (float("nan"), 1)])
def test_a_bucket_needs_positive_numbers(rate: float, burst: int) -> None:
    with pytest.raises(ConfigError, match="must be positive"):
        TokenBucket(rate, burst)


def test_a_relay_passes_every_byte_and_no_faster(capfd: pytest.CaptureFixture[str]) -> None:
    sent = bytes(range(256)) * 1200
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo() -> None:
            with server.accept()[0] as there:
                while piece := there.recv(65536):
                    there.sendall(piece)

        thread = threading.Thread(target=echo)
        thread.start()
        before = Links.connect
        slow = slow_network(rate=2e6, down=1e6, delay=0.01)
        try:
            with pytest.raises(ConfigError, match="--transport tcp"):
                slow.through("ipc:///tmp/x")
            address = slow.through(f"tcp://127.0.0.1:{server.getsockname()[1]}")
            port = int(address.rsplit(":", 1)[1])
            start = time.monotonic()
            with socket.create_connection(("127.0.0.1", port)) as here:
                got = b""
                writer = threading.Thread(target=here.sendall, args=(sent,))
                writer.start()
                while len(got) < len(sent):
                    got += here.recv(65536)
                writer.join()
            seconds = time.monotonic() - start
        finally:
            slow.close()
        thread.join()
    assert got == sent
    assert seconds >= (len(sent) - 65536) / 1e6 + 0.02
    assert Links.connect is before
    assert "simulated network" in capfd.readouterr().err

# SPDX-License-Identifier: Apache-2.0
"""Over a network the most urgent bulk goes first."""

from typing import Any

import pytest
import zmq

from kvtrain.ps.net import lanes
from kvtrain.ps.net.lanes import Lane


class Tracker:
    done = False


class Socket:
    """Takes what it is given and says that it is sent when told."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.trackers: list[Tracker] = []

    def send_multipart(self, frames: list[Any], flags: int, copy: bool, track: bool) -> Tracker:
        assert flags == zmq.NOBLOCK and track and not copy
        self.taken.append(frames[0])
        self.trackers.append(Tracker())
        return self.trackers[-1]


def test_a_lane_gives_a_little_ahead_and_the_rest_by_priority(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr(lanes.time, "monotonic", lambda: clock[0])
    socket = Socket()
    lane = Lane(socket)
    mib = 1 << 20
    for i in range(8):
        lane.send([b"low%d" % i], mib, -5)
    assert socket.taken == [b"low0", b"low1", b"low2", b"low3"] and lane.waiting
    lane.send([b"query"], 100, float("-inf"))
    lane.send([b"high"], mib, 7)
    lane.send([b"middle"], mib, -1)
    clock[0] = 0.1  # 10 MiB/s: 20 ms are less than the least window
    socket.trackers[0].done = True
    lane.look()
    assert socket.taken[4:] == [], "the socket has more ahead than it will send in a moment"
    for tracker in list(socket.trackers):
        tracker.done = True
    while lane.waiting:
        lane.look()
        socket.trackers[-1].done = True
    assert socket.taken[4:] == [b"high", b"middle", b"low4", b"low5", b"low6", b"low7", b"query"]


def test_a_fast_connection_is_given_more(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(lanes.time, "monotonic", lambda: clock[0])
    socket = Socket()
    lane = Lane(socket)
    for i in range(200):
        lane.send([b"%d" % i], 1 << 20, 0)
    for _ in range(100):
        clock[0] += 0.001  # a GiB/s
        socket.trackers[sum(t.done for t in socket.trackers)].done = True
        lane.look()
    assert 15 <= sum(not t.done for t in socket.trackers) <= 21
    assert socket.taken == [b"%d" % i for i in range(len(socket.taken))]


def test_a_message_larger_than_the_window_goes_alone() -> None:
    socket = Socket()
    lane = Lane(socket)
    lane.send([b"a"], 100 << 20, 0)
    lane.send([b"b"], 100 << 20, 0)
    assert socket.taken == [b"a"]
    socket.trackers[0].done = True
    lane.look()
    assert socket.taken == [b"a", b"b"] and not lane.waiting

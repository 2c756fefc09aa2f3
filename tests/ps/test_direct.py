# SPDX-License-Identifier: Apache-2.0
"""Small messages past ZeroMQ: which go that way, what comes back, what a bad peer can do."""

import socket
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvtrain.ps.core import messages as m
from kvtrain.ps.core.membership import Epoch, NodeId, Role, Round
from kvtrain.ps.core.shards import ChunkId
from kvtrain.ps.net import codec
from kvtrain.ps.net.direct import FRAMES, LIMIT, SUFFIX, Direct, Gone
from kvtrain.ps.net.transport import Links

TOKEN = b"t" * 32
WORKER, SERVER = NodeId(Role.WORKER, 0, 1), NodeId(Role.SERVER, 0, 1)
EPOCH = Epoch(1, 1)


def pair() -> tuple[Direct, Direct]:
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Direct(one), Direct(two)


@pytest.mark.parametrize(
    "frames", [[b"a"], [b"head", b"x" * 40], [b"", b"b", b""], [b"h", bytes(LIMIT - 1)]]
)
def test_a_record_is_a_message(frames: list[bytes]) -> None:
    one, two = pair()
    assert one.send([memoryview(frame) for frame in frames]) and one.send([b"next"])
    assert [bytes(f) for f in two.receive() or ()] == frames
    assert [bytes(f) for f in two.receive() or ()] == [b"next"]
    assert two.receive() is None
    one.close()
    with pytest.raises(Gone):
        two.receive()
    assert not two.send([b"to nobody"])
    two.close()


def test_what_does_not_fit_goes_another_way() -> None:
    one, two = pair()
    assert not one.send([b"h", bytes(LIMIT)])
    assert not one.send([b"h"] * (FRAMES + 1))
    sent = 0
    while one.send([bytes(LIMIT)]):
        sent += 1
        assert sent < 10_000
    assert sent
    one.close()
    two.close()


@pytest.mark.parametrize(
    "record",
    [
        b"abc",
        struct.pack("<I", 0),
        struct.pack("<I", 1 << 31),
        struct.pack("<2I", FRAMES, 1),
        struct.pack("<2I", 1, 5) + b"1234",
        struct.pack("<2I", 1, 1 << 31) + b"1234",
        struct.pack("<2I", 1, 3) + b"1234",
    ],
    ids=range(7),
)
def test_a_record_of_another_form_ends_the_connection(record: bytes) -> None:
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection = Direct(two)
    one.send(record)
    with pytest.raises(Gone):
        connection.receive()
    one.close()
    connection.close()


def push(size: int) -> m.Push:
    arrays = [np.arange(min(6000, size - low), dtype=np.float32) for low in range(0, size, 6000)]
    return m.Push(
        epoch=EPOCH,
        want=True,
        chunks=tuple(m.Contribution(ChunkId(1, i), EPOCH, Round(0, 0)) for i in range(len(arrays))),
        arrays=tuple(arrays),
    )


def received(links: Links, me: NodeId, count: int = 1) -> list[tuple[NodeId, m.Message]]:
    found: list[tuple[NodeId, m.Message]] = []
    for _ in range(200):
        if len(found) < count:
            links.poll(0.05)
            found += links.receive(me)
    return found


class Ends:
    """A server's and a worker's sockets."""

    def __init__(self, path: Path) -> None:
        self.notes: list[str] = []
        self.server, self.worker = Links(TOKEN, self.notes.append), Links(TOKEN, self.notes.append)
        self.path = path / "s.sock"
        address = self.server.bind(f"ipc://{self.path}", direct=True)
        self.worker.connect(SERVER, address, share=True)

    def greet(self) -> None:
        """The first messages go by ZeroMQ."""
        self.worker.send(SERVER, m.StatsRequest(), WORKER)
        assert received(self.server, SERVER) == [(WORKER, m.StatsRequest())]
        self.server.send(WORKER, m.OptimizerSet(number=1), SERVER)
        assert len(received(self.worker, WORKER)) == 1

    def close(self) -> None:
        self.worker.close()
        self.server.close()


@pytest.fixture
def ends(tmp_path: Path) -> Any:
    made = Ends(tmp_path)
    yield made
    made.close()
    assert not list(tmp_path.iterdir()), "a socket file was left"


def ways(links: Links) -> int:
    return len(links._directs._by_peer)


def test_small_messages_go_directly_both_ways_and_large_ones_do_not(ends: Ends) -> None:
    ends.greet()
    assert ways(ends.worker) == 1 and ways(ends.server) == 0
    for size in (10, LIMIT, 3):
        ends.worker.send(SERVER, push(size), WORKER)
    got = [message for _, message in received(ends.server, SERVER, 3)]
    # the large one may come last
    assert sorted(sum(a.size for a in push.arrays) for push in got) == [3, 10, LIMIT]  # type: ignore[attr-defined]
    assert ways(ends.server) == 1
    for number in (2, 3):
        ends.server.send(WORKER, m.OptimizerSet(number=number), SERVER)
    told = [message for _, message in received(ends.worker, WORKER, 2)]
    assert told == [m.OptimizerSet(number=2), m.OptimizerSet(number=3)]
    assert not ends.notes


def test_a_connection_that_ends_is_replaced_by_zeromq(ends: Ends) -> None:
    ends.greet()
    ends.worker.send(SERVER, push(10), WORKER)
    received(ends.server, SERVER)
    for connection in list(ends.worker._directs._open.values()):
        ends.worker._directs.drop(connection)
    ends.server.poll(1)
    assert not list(ends.server.receive(SERVER)) and ways(ends.server) == 0
    ends.server.send(WORKER, m.OptimizerSet(number=4), SERVER)
    assert received(ends.worker, WORKER) == [(SERVER, m.OptimizerSet(number=4))]
    ends.worker.send(SERVER, push(7), WORKER)
    assert len(received(ends.server, SERVER)) == 1


BAD = {
    "wrong token": [codec.encode(push(3), WORKER, b"u" * 32)],
    "the scheduler": [codec.encode(m.StatsRequest(), NodeId(Role.SCHEDULER, 0, 1), TOKEN)],
    "two names": [codec.encode(push(3), NodeId(Role.WORKER, r, 1), TOKEN) for r in (0, 1)],
    "a greeting": [
        codec.encode(m.OfferAnswer(offered=0, mapped=(), reason=""), WORKER, TOKEN),
    ],
    "junk": [[b"junk"]],
}


@pytest.mark.parametrize("messages", BAD.values(), ids=BAD)
def test_who_sends_what_is_not_believed_loses_the_connection(
    ends: Ends, messages: list[Any]
) -> None:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.connect(str(ends.path) + SUFFIX)
    stranger = Direct(made)
    for frames in messages:
        assert stranger.send(frames)
    got = []
    for _ in range(5):
        ends.server.poll(0.05)
        got += list(ends.server.receive(SERVER))
    assert len(got) == len(messages) - 1
    with pytest.raises(Gone):
        stranger.receive()
    stranger.close()
    ends.greet()

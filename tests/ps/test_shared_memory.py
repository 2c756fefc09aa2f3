# SPDX-License-Identifier: Apache-2.0
"""Segments, slots and generations; who may read whose memory, and what happens when not."""

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kvtrain import platform
from kvtrain.errors import RemoteProtocolError
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.membership import Epoch, NodeId, Role, Round
from kvtrain.ps.core.memory import LentArray, intact
from kvtrain.ps.core.shards import ChunkId
from kvtrain.ps.net import codec
from kvtrain.ps.net.segments import Arena, PeerSegment, SharedSlot
from kvtrain.ps.net.sharing import Sharing

pytestmark = pytest.mark.skipif(
    platform.shared_memory_reason() is not None, reason="no shared memory on this system"
)
TOKEN = b"t" * 32
ME, PEER = NodeId(Role.WORKER, 0, 1), NodeId(Role.SERVER, 0, 1)


@pytest.fixture
def arena() -> Any:
    made = Arena(lambda: "kvtrain-test-worker-0-1")
    yield made
    made.close()


def pair(arena: Arena, notes: list[str]) -> tuple[Sharing, Sharing]:
    """Two processes' talks, after their offers were answered."""
    mine = Sharing(arena, notes.append, "ipc")
    theirs = Sharing(Arena(lambda: "kvtrain-test-server-0-1"), notes.append, "ipc")
    talk(mine, theirs)
    return mine, theirs


def talk(mine: Sharing, theirs: Sharing) -> None:
    offer = mine.offer(PEER, True)
    if offer is not None:
        answer = theirs.on_message(ME, offer)
        assert answer is not None
        assert mine.on_message(PEER, answer) is None


def push(array: Any) -> m.Push:
    part = m.Contribution(chunk=ChunkId(0, 0), view=Epoch(1, 1), round=Round(0, 0))
    return m.Push(want=True, chunks=(part,), arrays=(array,))


@pytest.mark.parametrize("nbytes", [0, 1, 64, 65, 4096, 9000, 1 << 20, (3 << 20) + 7])
def test_slots_are_aligned_apart_and_used_again(arena: Arena, nbytes: int) -> None:
    slots = [arena.take(nbytes) for _ in range(5)]
    for i, slot in enumerate(slots):
        assert isinstance(slot, SharedSlot)
        assert slot.data.nbytes == nbytes
        assert slot.start % (4096 if slot.capacity >= 1 << 16 else 64) == 0
        slot.data[:] = i + 1
    assert all((slot.data == i + 1).all() for i, slot in enumerate(slots))
    first = slots[0]
    assert isinstance(first, SharedSlot)
    before = first.segment.words[first.index]
    arena.give(first)
    again = arena.take(nbytes)
    assert isinstance(again, SharedSlot)
    assert (again.start, again.segment) == (first.start, first.segment)
    assert again.segment.words[again.index] == before + 1, "a new taker is a new generation"


def test_an_array_of_a_slot_travels_as_a_descriptor(arena: Arena) -> None:
    mine, theirs = pair(arena, [])
    slot = arena.take(4 * 300_000)
    talk(mine, theirs)
    array = slot.data.view(np.float32)
    array[:] = np.arange(array.size)
    part = array[1000:200_000]
    frames = codec.encode(push(part), ME, TOKEN, mine.locator(PEER))
    assert len(frames) == 1 and len(frames[0]) < 200
    sender, message = codec.decode(frames, TOKEN, theirs.resolve)
    assert sender == ME and isinstance(message, m.Push)
    there = message.arrays[0]
    assert isinstance(there, LentArray) and not there.flags.writeable
    assert there.tobytes() == part.tobytes()
    assert intact(there) and intact(there[5:9])
    part[0] = -1
    assert there[0] == -1, "no copy was made"
    arena.give(slot)
    arena.take(4 * 300_000)
    assert not intact(there) and not intact(there[5:9])
    # what lies elsewhere, or in a segment that the peer has not mapped, travels as bytes
    private = np.ones(100_000, np.float32)
    frames = codec.encode(push(private), ME, TOKEN, mine.locator(PEER))
    assert len(frames) == 2
    arena.reserve(1 << 20)
    fresh = arena.take(1 << 19)
    assert isinstance(fresh, SharedSlot) and fresh.segment.number > 0
    fresh.data[:] = 3
    frames = codec.encode(push(fresh.data), ME, TOKEN, mine.locator(PEER))
    assert len(frames) == 2 and bytes(frames[1]) == fresh.data.tobytes()


def test_an_offer_is_repeated_until_it_is_answered_and_when_there_is_more(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("kvtrain.ps.net.sharing.time.monotonic", lambda: clock[0])
    mine = Sharing(arena, lambda text: None, "ipc")
    assert mine.offer(PEER, False) is None, "who offered nothing has nothing to map"
    first = mine.offer(PEER, True)
    assert first is not None and first.segments == ()
    assert mine.offer(PEER, True) is None
    clock[0] += 2
    assert mine.offer(PEER, True) is not None, "no answer: again"
    mine.on_message(PEER, m.OfferAnswer(offered=0, mapped=()))
    clock[0] += 2
    assert mine.offer(PEER, True) is None
    arena.take(10)
    more = mine.offer(PEER, True)
    assert more is not None and len(more.segments) == 1
    assert mine.locator(PEER) is None, "nothing is confirmed yet"
    mine.on_message(PEER, m.OfferAnswer(offered=1, mapped=(0, 7)))
    mine.on_message(PEER, m.OfferAnswer(offered=0, mapped=()))  # a late one changes nothing
    assert mine.offer(PEER, True) is None and mine.locator(PEER) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": bytes(16)},
        {"pid": 2**22 + 1},
        {"descriptor": 10**6},
        {"descriptor": 0},
        {"name": "kvtrain-other"},
        {"nbytes": 4096},
        {"slots": 1},
        {"slots": 2**40},
        {"pid": -1},
    ],
    ids=lambda c: "-".join(map(str, *c.items())) if len(c) > 1 else next(iter(c)),
)
def test_memory_that_is_not_the_one_offered_is_refused_with_one_note(
    arena: Arena, change: dict[str, Any]
) -> None:
    notes: list[str] = []
    arena.take(10)
    mine = Sharing(arena, notes.append, "ipc")
    offer = mine.offer(PEER, True)
    assert offer is not None
    wrong = replace(offer, segments=(replace(offer.segments[0], **change),))
    theirs = Sharing(Arena(lambda: "x"), notes.append, "tcp")
    for _ in range(3):
        answer = theirs.on_message(ME, wrong)
        assert isinstance(answer, m.OfferAnswer) and answer.mapped == () and answer.reason
        mine.on_message(PEER, answer)
    assert mine.locator(PEER) is None and mine.offer(PEER, True) is None
    assert len(notes) == 2, "one for each process"
    assert "cannot be mapped here" in notes[0] and "over tcp instead" in notes[0]
    assert "cannot map the memory" in notes[1] and "over ipc instead" in notes[1]


def test_a_descriptor_outside_of_its_segment_is_a_protocol_error(arena: Arena) -> None:
    slot = arena.take(10_000)
    assert isinstance(slot, SharedSlot)
    mine, theirs = pair(arena, [])
    frames = codec.encode(push(slot.data[:4096]), ME, TOKEN, mine.locator(PEER))
    good = codec.decode(frames, TOKEN, theirs.resolve)
    assert isinstance(good[1], m.Push)
    place = arena.locate(slot.data)
    assert place is not None
    segment = PeerSegment(arena.offers[0])
    size, kind = 8, np.dtype(np.float32)
    total = arena.offers[0].nbytes
    for bad in (
        place._replace(offset=0),
        place._replace(offset=4096),
        place._replace(offset=total - 16),
        place._replace(offset=total + 64),
        place._replace(offset=place.offset + 1),
        place._replace(slot=1 << 40),
    ):
        with pytest.raises(RemoteProtocolError):
            segment.array(bad, kind, size)
    with pytest.raises(RemoteProtocolError, match="not mapped"):
        theirs.resolve(ME, place._replace(segment=9), kind, size)
    with pytest.raises(RemoteProtocolError, match="not mapped"):
        theirs.resolve(PEER, place, kind, size)
    with pytest.raises(RemoteProtocolError, match="not mapped"):
        codec.decode(frames, TOKEN)


def test_without_memory_slots_are_private(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, nbytes: int) -> Any:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(platform, "create_segment", refuse)
    arena = Arena(lambda: "x")
    slot = arena.take(100)
    assert slot.data.nbytes == 100 and arena.locate(slot.data) is None
    assert arena.full is not None and "No space left" in arena.full
    arena.give(slot)
    assert arena.offers == []


def test_segments_have_no_name_in_a_file_system(arena: Arena) -> None:
    before = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    arena.take(1 << 20)
    assert os.readlink(f"/proc/self/fd/{arena.offers[0].descriptor}").endswith("(deleted)")
    if os.path.isdir("/dev/shm"):
        assert set(os.listdir("/dev/shm")) == before
    with pytest.raises(OSError):
        os.truncate(arena.offers[0].descriptor, 4096)  # sealed: a mapping cannot become invalid

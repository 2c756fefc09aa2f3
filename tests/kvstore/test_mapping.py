# SPDX-License-Identifier: Apache-2.0
"""Weights in the servers' memory: nobody who is not pending ever sees them change."""

import gc
import os
import pickle
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from kvtrain import autograd, nd, platform
from kvtrain.kvstore import mapping
from kvtrain.kvstore.mapping import MappedWeight, MappedWeights
from kvtrain.ndarray import NDArray
from kvtrain.ps.core.memory import LentArray
from kvtrain.ps.core.posting import Spot
from kvtrain.ps.core.worker.state import fill, fits
from kvtrain.ps.net import windows
from kvtrain.ps.net.segments import Arena, PeerSegment

Array = np.ndarray[Any, Any]
SHAPE, CHUNK = (700, 400), 1 << 18
pytestmark = pytest.mark.skipif(
    platform.shared_memory_reason() is not None, reason="no shared memory without names here"
)


class Servers:
    """The chunks of one weight in the memory of two servers, by turns."""

    def __init__(self) -> None:
        self.arenas = [Arena(lambda: "kvtrain-test-0"), Arena(lambda: "kvtrain-test-1")]
        self.chunks: list[Array] = []
        size = int(np.prod(SHAPE))
        for i, low in enumerate(range(0, size, CHUNK)):
            n = min(CHUNK, size - low)
            slot = self.arenas[i % 2].take(4 * n)
            self.chunks.append(slot.data[: 4 * n].view(np.float32))
        self.segments = [[PeerSegment(o) for o in a.offers] for a in self.arenas]
        self.version = 0

    def update(self) -> Array:
        """The next version, written in place."""
        self.version += 1
        new = (np.arange(np.prod(SHAPE), dtype=np.float32) % 97 + 100 * self.version).astype("f")
        for i, chunk in enumerate(self.chunks):
            chunk[:] = new[i * CHUNK : i * CHUNK + chunk.size]
        return new.reshape(SHAPE)

    def lent(self, i: int) -> LentArray:
        """A chunk as its reader gets it."""
        place = self.arenas[i % 2].locate(self.chunks[i])
        assert place is not None
        segment = self.segments[i % 2][place.segment]
        return segment.array(place, np.dtype(np.float32), self.chunks[i].size)


class Round:
    """A weight and its servers; ``post`` and ``answer`` as a store does them."""

    def __init__(self) -> None:
        self.servers = Servers()
        self.array = nd.zeros(SHAPE)
        self.weight = MappedWeight(self.array)
        self.out: Any = None
        self.values = self.array.asnumpy()

    def post(self) -> None:
        """Contribute: from now on the servers may write."""
        self.array._read()
        self.out = self.weight.post(self.array)
        out, array, weight = self.out, self.array, self.weight
        if out is weight:
            array._set_pending(lambda: self._settled(weight.settle(array)))
        else:
            array._set_pending(lambda: None)

    @staticmethod
    def _settled(void: Array | None) -> None:
        assert void is None

    def answer(self, by_bytes: tuple[int, ...] = ()) -> None:
        """The servers update and answer each chunk, some of them with bytes."""
        self.values = self.servers.update()
        flat = self.values.reshape(-1)
        for i, chunk in enumerate(self.servers.chunks):
            low = i * CHUNK
            given = flat[low : low + chunk.size].copy() if i in by_bytes else self.servers.lent(i)
            to = self.out
            part = to[low : low + chunk.size] if isinstance(to, np.ndarray) else None
            spot = Spot(to, low, low + chunk.size) if part is None else part
            assert fits(spot, given) and fill(spot, given)
        self.out = None

    def turn(self, by_bytes: tuple[int, ...] = ()) -> None:
        """A whole round."""
        self.post()
        self.answer(by_bytes)
        assert np.array_equal(self.array.asnumpy(), self.values)

    def close(self) -> None:
        for arena in self.servers.arenas:
            arena.close()


@pytest.fixture
def round_(monkeypatch: pytest.MonkeyPatch) -> Iterator[Round]:
    monkeypatch.setattr(mapping, "REST", 1)
    made = Round()
    yield made
    made.close()


def test_a_weight_is_read_where_the_servers_keep_it(round_: Round) -> None:
    round_.turn()
    assert round_.weight.mapped
    address = round_.array._read().ctypes.data
    assert not round_.array._read().flags.writeable
    for _ in range(3):
        round_.turn()
        assert round_.weight.mapped and round_.array._read().ctypes.data == address
    round_.servers.chunks[0][0] = -1  # what the servers write is seen: nothing was copied
    assert round_.array.asnumpy()[0, 0] == -1


def test_what_is_pending_shows_nothing_and_waits(round_: Round) -> None:
    round_.turn()
    round_.post()
    assert np.isnan(round_.array._raw).all(), "no memory of anybody is in sight"
    round_.answer()
    assert np.array_equal(round_.array.asnumpy(), round_.values)


@pytest.mark.parametrize("look", [lambda a: a[3:5], lambda a: a.detach(), lambda a: a.reshape(-1)])
def test_views_follow_their_array(round_: Round, look: Callable[[NDArray], NDArray]) -> None:
    round_.turn()
    view = look(round_.array)
    for _ in range(3):
        round_.post()
        round_.answer()
        assert np.array_equal(view.asnumpy(), look(nd.array(round_.values)).asnumpy())
    view[:] = 3
    assert np.array_equal(look(round_.array).asnumpy(), view.asnumpy())
    assert round_.servers.chunks[0][0] != 3
    del view
    round_.turn()
    assert round_.weight.mapped


def raw(array: NDArray) -> Array:
    return array._read()


def part_of_raw(array: NDArray) -> Array:
    return array._read()[1:, ::2]


def flat_bytes(array: NDArray) -> Array:
    return array._read().reshape(-1).view(np.uint8)


def by_memoryview(array: NDArray) -> Array:
    return np.asarray(memoryview(array._read()))


@pytest.mark.parametrize("take", [raw, part_of_raw, flat_bytes, by_memoryview])
def test_who_holds_the_raw_array_never_sees_it_change(
    round_: Round, take: Callable[[NDArray], Array]
) -> None:
    round_.turn()
    for _ in range(2):
        round_.turn()
    held = take(round_.array)
    before = held.copy()
    round_.post()
    round_.servers.update()
    assert np.array_equal(held, before), "the servers wrote, and it is seen"
    round_.answer()
    assert np.array_equal(round_.array.asnumpy(), round_.values)
    del held
    round_.turn()
    assert round_.weight.mapped, "nobody holds it any more"


def exported(array: NDArray) -> Array:
    return np.from_dlpack(array)


def exported_for_reading(array: NDArray) -> Array:
    again: Array = nd.from_dlpack(nd.to_dlpack_for_read(array))._read()
    return again


@pytest.mark.parametrize("export", [exported, exported_for_reading])
def test_an_export_shares_the_private_memory_as_it_always_did(
    round_: Round, export: Callable[[NDArray], Array]
) -> None:
    round_.turn()
    there = export(round_.array)
    assert not round_.weight.mapped, "what is exported is not the servers'"
    round_.servers.chunks[0][:] = -5
    assert np.array_equal(there, round_.values)
    for _ in range(2):
        round_.turn()
        assert not round_.weight.mapped
        assert np.array_equal(there, round_.values), "an export follows its array"
    del there
    round_.turn()
    assert round_.weight.mapped


def test_a_tape_of_before_keeps_its_weights(round_: Round) -> None:
    round_.turn()
    x = nd.ones((2, SHAPE[0]))
    x.attach_grad()
    with autograd.record():
        y = nd.dot(x, round_.array).sum()
    expected = np.tile(round_.values.sum(1), (2, 1))
    round_.post()
    round_.servers.update()
    y.backward()
    assert np.allclose(x.grad.asnumpy(), expected)
    round_.answer()
    assert np.array_equal(round_.array.asnumpy(), round_.values)


def test_a_backward_that_waits_for_the_variable_leaves_it_alone(round_: Round) -> None:
    round_.turn()
    round_.array.attach_grad()
    x = nd.ones((2, SHAPE[0]))
    with autograd.record():
        y = nd.dot(x, round_.array).sum()
    ready: list[bool] = []

    def post(elements: int) -> None:
        round_.post()
        ready.append(round_.out is round_.weight)

    entry: Any = round_.array._entry
    entry.ready = post
    y.backward()
    assert ready == [True], "the tape was done with it: nothing had to be made private"
    round_.answer()
    assert np.array_equal(round_.array.asnumpy(), round_.values) and round_.weight.mapped


def times_two(array: NDArray) -> None:
    array *= 2


def one_element(array: NDArray) -> None:
    array[3, 4] = 7


def through_a_view(array: NDArray) -> None:
    array[2:4][:] = 7


def all_of_it(array: NDArray) -> None:
    array[:] = 5


@pytest.mark.parametrize("write", [times_two, one_element, through_a_view, all_of_it])
def test_a_write_goes_to_private_memory(round_: Round, write: Callable[[NDArray], None]) -> None:
    round_.turn()
    expected = nd.array(round_.values)
    write(expected)
    write(round_.array)
    assert np.array_equal(round_.array.asnumpy(), expected.asnumpy())
    assert np.array_equal(np.concatenate(round_.servers.chunks).reshape(SHAPE), round_.values)
    assert not round_.weight.mapped
    round_.turn()
    round_.turn()
    assert round_.weight.mapped


def test_copies_are_copies(round_: Round) -> None:
    round_.turn()
    array = round_.array
    copies = [array.asnumpy(), array.copy(), pickle.loads(pickle.dumps(array)), array.T, array + 0]
    before = round_.values
    round_.post()
    assert round_.out is round_.weight, "none of them holds the memory"
    round_.servers.update()
    for copy in copies:
        values = copy if isinstance(copy, np.ndarray) else copy.asnumpy()
        assert np.array_equal(values if values.shape == SHAPE else values.T, before)
    round_.answer()


@pytest.mark.parametrize("by_bytes", [(0,), (1,), (0, 1), (0, 1, 2)])
def test_what_comes_as_bytes_is_copied_all_of_it(round_: Round, by_bytes: tuple[int, ...]) -> None:
    for turn in range(4):
        round_.turn(by_bytes if turn % 2 else ())
        assert round_.weight.mapped == (turn % 2 == 0)


def test_a_new_primary_has_another_memory(round_: Round) -> None:
    round_.turn()
    before, old = round_.servers, round_.array._read().ctypes.data
    ref = weakref.ref(before.segments[0][0])
    round_.servers = Servers()
    round_.servers.version = before.version
    round_.post()
    before.update()  # one that was given up writes once more
    round_.answer()
    before.update()
    assert np.array_equal(round_.array.asnumpy(), round_.values)
    assert round_.weight.mapped and round_.array._read().ctypes.data != old
    for arena in before.arenas:
        arena.close()
    del before
    gc.collect()
    assert ref() is None, "nothing refers to the old memory any more"


def test_memory_of_a_dead_server_stays_until_the_new_values_are_there(round_: Round) -> None:
    round_.turn()
    expected = round_.values
    for arena in round_.servers.arenas:
        arena.close()
    round_.servers.chunks.clear()
    round_.servers.segments.clear()
    gc.collect()
    assert np.array_equal(round_.array.asnumpy(), expected)


def test_a_post_that_failed_gives_the_values_back(round_: Round) -> None:
    round_.turn()
    round_.weight.post(round_.array)
    round_.weight.withdraw(round_.array)
    round_.servers.update()
    assert np.array_equal(round_.array.asnumpy(), round_.values)
    round_.turn()


def test_other_contributions_and_the_end_find_it_in_private_memory(round_: Round) -> None:
    weights = MappedWeights()
    weights.adopt("w", round_.array)
    weights._weights["w"] = round_.weight
    other = [nd.zeros(SHAPE)]
    for outs in (None, [other], [[round_.array, *other]]):
        round_.turn()
        assert round_.weight.mapped
        assert weights.prepare(["w"], outs) == {} and not round_.weight.mapped
        round_.servers.chunks[1][:] = -3
        assert np.array_equal(round_.array.asnumpy(), round_.values)
    round_.post()
    round_.answer()
    assert weights.prepare(["w"], [[round_.array]]) == {0: round_.weight}
    assert weights.prepare(["v"], None) == {}
    round_.post()
    round_.answer()
    weights.leave()
    round_.servers.update()
    assert np.array_equal(round_.array.asnumpy(), round_.values)


def test_a_forked_child_has_the_values_of_then(round_: Round) -> None:
    round_.turn()
    address, values = round_.array._read().ctypes.data, round_.values
    weights = MappedWeights()
    weights._weights["w"] = round_.weight
    weights._before_fork()
    assert not round_.weight.mapped and round_.array._read().ctypes.data == address
    round_.servers.update()
    assert np.array_equal(round_.array.asnumpy(), values), "pages of this process, as any others"
    round_.array += 1
    assert round_.array._read().ctypes.data == address
    round_.turn()
    assert round_.weight.mapped


def test_a_weight_that_is_gone_but_held_is_made_private(round_: Round) -> None:
    round_.turn()
    held, before = round_.array._read(), round_.values
    round_.array = None  # type: ignore[assignment]
    gc.collect()
    round_.weight.vacate()
    round_.servers.update()
    assert np.array_equal(held, before)


def test_a_weight_that_was_held_is_copied_for_a_while(
    monkeypatch: pytest.MonkeyPatch, round_: Round
) -> None:
    monkeypatch.setattr(mapping, "REST", 2)
    for times in (1, 2):
        round_.turn()
        assert round_.weight.mapped
        held = round_.array._read()
        for _ in range(2**times):
            round_.turn()
            assert not round_.weight.mapped and np.array_equal(held, round_.values)
        del held
    round_.turn()
    assert round_.weight.mapped


def test_values_written_over_before_they_were_looked_at_are_read_again(round_: Round) -> None:
    round_.turn()
    round_.array._read()
    out = round_.weight.post(round_.array)
    assert out is round_.weight
    round_.out = out
    round_.answer()
    slot = round_.servers.lent(1)
    slot._words = None
    words = memoryview(bytearray(8)).cast("Q")
    round_.weight._lent[CHUNK]._words, round_.weight._lent[CHUNK]._slot = words, 0
    void = round_.weight.settle(round_.array)
    assert void is not None and void.size == round_.array.size
    assert np.shares_memory(void, round_.array._read()), "a read fills it"


def test_windows_are_counted_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    before = windows._pieces
    made = Round()
    made.turn()
    assert windows._pieces == before + len(made.servers.chunks)
    made.close()
    del made
    gc.collect()
    assert windows._pieces == before
    monkeypatch.setattr(windows, "MOST_PIECES", 0)
    made = Round()
    for _ in range(2):
        made.turn()
        assert not made.weight.mapped
    made.close()


def test_where_it_cannot_be_mapped_it_is_copied(
    monkeypatch: pytest.MonkeyPatch, round_: Round
) -> None:
    def refuse(pieces: Any) -> int:
        raise OSError(22, os.strerror(22))

    monkeypatch.setattr(platform, "map_window", refuse)
    for _ in range(3):
        round_.turn()
        assert not round_.weight.mapped
    with pytest.raises(OSError):
        monkeypatch.undo()
        platform.map_window([(0, 100, 4096)])

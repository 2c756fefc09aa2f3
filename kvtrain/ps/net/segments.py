# SPDX-License-Identifier: Apache-2.0
"""Shared memory between processes of one host: our arena, and the peers' segments.

A segment is a memfd: no name in any file system, so nothing stays behind whoever is killed.
It begins with a page that says whose it is, then one 64-bit generation for each slot, then the
slots' bytes. The owner writes, peers map it for reading only. In a message an array of a slot
is a descriptor: (segment, slot, generation, offset), checked by the reader before and after it
reads (PROTOCOL R34).
"""

from __future__ import annotations

import os
import secrets
import struct
import weakref
from bisect import bisect_right
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kvtrain import platform
from kvtrain.errors import RemoteProtocolError
from kvtrain.ps.core.memory import PAGED, HeapSlot, LentArray, Slot, lend
from kvtrain.ps.core.messages import SegmentOffer

Array = np.ndarray[Any, Any]
PAGE = 4096
ALIGN = 64
#: bytes below which an array travels itself where a descriptor could: it costs as much
SMALL = 2048
#: bytes of the first segment and of the largest that is made ahead of need
FIRST, LARGEST = 1 << 20, 64 << 20
#: bytes of slots per generation word, on average, that a segment has room for
_BYTES_PER_SLOT = 256
_MAGIC = b"kvtrain segment 1"
_HEAD = struct.Struct("<32s16sQQ")


class Place(NamedTuple):
    """Where an array lies in its owner's memory: what travels instead of its bytes."""

    segment: int
    slot: int
    generation: int
    offset: int


class SharedSlot:
    """A slot of our own arena."""

    __slots__ = ("capacity", "data", "index", "segment", "start")

    def __init__(self, segment: Segment, index: int, start: int, capacity: int) -> None:
        self.segment = segment
        self.index = index
        self.start = start
        self.capacity = capacity
        self.data: Array = segment.whole[start : start + capacity]

    def rewrite(self) -> None:
        """References to the old bytes are void from now on."""
        self.segment.words[self.index] += 1


class Segment:
    """One memfd of ours, filled from the front."""

    def __init__(self, number: int, name: str, nbytes: int) -> None:
        self.slots = max(64, nbytes // _BYTES_PER_SLOT)
        self.begin = PAGE + -(-self.slots * 8 // PAGE) * PAGE
        total = self.begin + -(-nbytes // PAGE) * PAGE
        self.descriptor, self._map = platform.create_segment(name, total)
        nonce = secrets.token_bytes(16)
        _HEAD.pack_into(self._map, 0, _MAGIC, nonce, total, self.slots)
        self.words = memoryview(self._map)[PAGE : PAGE + 8 * self.slots].cast("Q")
        self.whole: Array = np.frombuffer(self._map, np.uint8)
        self.address = self.whole.ctypes.data
        self.offer = SegmentOffer(
            number, os.getpid(), self.descriptor, name, total, self.slots, nonce
        )
        self.number = number
        #: first byte of each slot, ascending
        self.starts: list[int] = []
        self._end = self.begin

    def cut(self, nbytes: int) -> SharedSlot | None:
        """A new slot, if there is room."""
        align = PAGE if nbytes >= PAGED else ALIGN
        start = -(-self._end // align) * align
        if start + nbytes > self.whole.nbytes or len(self.starts) >= self.slots:
            return None
        self._end = start + nbytes
        self.starts.append(start)
        return SharedSlot(self, len(self.starts) - 1, start, nbytes)

    def close(self) -> None:
        """Close the descriptor; the memory goes when the last view of it goes."""
        os.close(self.descriptor)


class Arena:
    """Slots in shared memory; a :class:`kvtrain.ps.core.memory.Memory`.

    Parameters
    ----------
    name : callable
        Gives ``kvtrain-<job>-<node>-<incarnation>``, by which a segment is known (PROTOCOL R35);
        called when the first segment is made.
    """

    #: where everybody maps it, a message only describes it
    described, message_bytes = 16 << 20, 4 << 20
    small = SMALL

    def __init__(self, name: Callable[[], str]) -> None:
        self._name = name
        self._segments: list[Segment] = []
        self._by_base: dict[int, Segment] = {}
        self._free: dict[int, list[SharedSlot]] = {}
        #: why there is no more shared memory; slots are private from then on
        self.full: str | None = None

    @property
    def offers(self) -> list[SegmentOffer]:
        """What peers may map, oldest first."""
        return [segment.offer for segment in self._segments]

    def take(self, nbytes: int) -> Slot:
        """A slot of at least `nbytes`; private memory if no more can be shared."""
        capacity = _capacity(nbytes)
        free = self._free.get(capacity)
        if free:
            slot = free.pop()
        else:
            made = self._cut(capacity)
            if made is None:
                return HeapSlot(np.empty(nbytes, np.uint8))
            slot = made
        slot.rewrite()
        slot.data = slot.segment.whole[slot.start : slot.start + nbytes]
        return slot

    def _cut(self, capacity: int) -> SharedSlot | None:
        for segment in self._segments[-2:]:
            slot = segment.cut(capacity)
            if slot is not None:
                return slot
        if self.full is not None:
            return None
        last = self._segments[-1].whole.nbytes if self._segments else FIRST // 2
        if not self.reserve(max(capacity + PAGE, min(2 * last, LARGEST))):
            return None
        return self._segments[-1].cut(capacity)

    def reserve(self, nbytes: int) -> bool:
        """Make a segment ahead of need; False if there is no memory for it."""
        try:
            segment = Segment(len(self._segments), self._name(), nbytes)
        except OSError as error:
            self.full = f"no shared memory of {nbytes} bytes: {error.strerror}"
            return False
        self._segments.append(segment)
        self._by_base[id(segment.whole)] = segment
        return True

    def give(self, slot: Slot) -> None:
        """The slot may be written again by the next taker."""
        if isinstance(slot, SharedSlot):
            self._free.setdefault(slot.capacity, []).append(slot)

    def locate(self, array: Array) -> Place | None:
        """Where `array` lies in this arena; None: elsewhere."""
        segment = self._by_base.get(id(array.base))
        if segment is None or not array.flags.c_contiguous:
            return None
        offset = array.__array_interface__["data"][0] - segment.address
        slot = bisect_right(segment.starts, offset) - 1
        if slot < 0:
            return None
        return Place(segment.number, slot, segment.words[slot], offset)

    def close(self) -> None:
        """Close all descriptors."""
        for segment in self._segments:
            segment.close()
        self._segments.clear()
        self._by_base.clear()
        self._free.clear()


def _capacity(nbytes: int) -> int:
    """Sizes of slots: multiples of 64, above 8 KiB multiples of an eighth of a power of two."""
    if nbytes <= 8192:
        return max(ALIGN, -(-nbytes // ALIGN) * ALIGN)
    step = max(ALIGN, 1 << (nbytes - 1).bit_length() - 4)
    return -(-nbytes // step) * step


class PeerSegment:
    """A peer's segment, mapped for reading."""

    def __init__(self, offer: SegmentOffer) -> None:
        self.descriptor, self._map = platform.open_segment(
            offer.pid, offer.descriptor, offer.name, offer.nbytes
        )
        weakref.finalize(self, os.close, self.descriptor).atexit = False
        magic, nonce, nbytes, slots = _HEAD.unpack_from(self._map, 0)
        known = (_MAGIC, offer.nonce, offer.nbytes, offer.slots)
        if (magic.rstrip(b"\0"), nonce, nbytes, slots) != known:
            raise OSError(22, f"the memory of process {offer.pid} is not the one offered")
        self._begin = PAGE + -(-slots * 8 // PAGE) * PAGE
        if not 0 < slots <= 1 << 32 or self._begin > nbytes:
            raise OSError(22, f"segment of {nbytes} bytes with {slots} slots")
        self._nbytes = nbytes
        self._words = memoryview(self._map)[PAGE : PAGE + 8 * slots].cast("Q")

    def array(self, place: Place, kind: np.dtype[Any], size: int) -> LentArray:
        """The array at `place`; raises RemoteProtocolError if it is outside."""
        end = place.offset + size * kind.itemsize
        if (
            not self._begin <= place.offset <= end <= self._nbytes
            or place.offset % kind.itemsize
            or not 0 <= place.slot < len(self._words)
        ):
            raise RemoteProtocolError(f"malformed message: {place} is outside of its segment")
        raw: Array = np.ndarray((size,), kind, self._map, place.offset)
        lent = lend(raw, self._words, place.slot, place.generation)
        lent.source = (self, place.offset)
        return lent

# SPDX-License-Identifier: Apache-2.0
"""A worker's contributions on their way: queued, in flight, acknowledged (PROTOCOL R10, R31).

Each posted contribution keeps its own bytes until the acknowledgement, so that a resend sends
the same bytes whatever the user did to the array meanwhile. They lie in a slot of the worker's
memory, which servers may read in place; the slot is free again once the whole key is
acknowledged, and never after a failure (PROTOCOL R33).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvtrain.compression import ErrorFeedback
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect, Send
from kvtrain.ps.core.membership import Epoch, NodeId, Round, Table
from kvtrain.ps.core.memory import Memory
from kvtrain.ps.core.replies import FULL
from kvtrain.ps.core.requests import Landing
from kvtrain.ps.core.shards import ChunkId, KeyEntry

Array = np.ndarray[Any, Any]


class Kept:
    """A key's contribution in a slot, until each of its chunks is acknowledged.

    Whoever posts it copies it there, chunk by chunk, so that the first ones are on their way
    while the last ones are copied.
    """

    __slots__ = ("_left", "_memory", "_slot", "array")

    def __init__(self, memory: Memory, given: Array, chunks: int) -> None:
        self._memory = memory
        self._slot = memory.take(given.nbytes)
        self._left = chunks
        self.array: Array = self._slot.data.view(given.dtype)

    @classmethod
    def bytes_of(cls, memory: Memory, nbytes: int) -> Kept:
        """Room for one chunk of `nbytes` bytes."""
        kept = cls.__new__(cls)
        kept._memory, kept._left = memory, 1
        kept._slot = memory.take(nbytes)
        kept.array = kept._slot.data
        return kept

    def acknowledged(self) -> None:
        """One of the chunks needs its bytes no more."""
        self._left -= 1
        if self._left == 0:
            self._memory.give(self._slot)


class Lent:
    """A key's contribution in the program's own array, which it does not write meanwhile."""

    __slots__ = ("_left", "_release", "array")

    def __init__(self, array: Array, chunks: int, release: Callable[[], None]) -> None:
        self.array = array
        self._left = chunks
        self._release = release

    def acknowledged(self) -> None:
        """One of the chunks needs its bytes no more."""
        self._left -= 1
        if self._left == 0:
            self._release()


class Spot:
    """A chunk's part of a Landing."""

    __slots__ = ("_landing", "_low", "dtype", "shape")

    def __init__(self, landing: Landing, low: int, high: int) -> None:
        self._landing, self._low = landing, low
        self.shape = (high - low,)
        self.dtype = landing.dtype

    def land(self, array: Array) -> bool:
        """Take the chunk's values; see Landing."""
        return self._landing.land(self._low, array)


@dataclass(slots=True, eq=False)
class Posted:
    """One contribution of this worker that is not acknowledged yet."""

    request: int
    round: Round
    step: int
    #: its part of `kept`, or encoded if `codec` says so; None: empty
    array: Array | None
    #: where the new value goes, if it was wanted
    out: Array | Spot | None
    rescale_grad: float | None
    hyper: tuple[m.HyperCommand, ...]
    priority: int
    #: wire code of `array`
    codec: int = 0
    kept: Kept | Lent | None = None
    #: False until it is in a message
    sent: bool = False
    #: the request by which the message went: requests that share one share its errors
    sent_with: int = 0
    #: the pull that rides with it
    read: int = 0
    #: when to ask what became of it, and the time until the repeat after that
    due: float = 0.0
    interval: float = 0.0


@dataclass(slots=True, eq=False)
class ClientChunk:
    """A chunk as its worker sees it."""

    id: ChunkId
    entry: KeyEntry
    #: at most one in sync, at most the window in async
    in_flight: deque[Posted] = field(default_factory=deque)
    queue: deque[Posted] = field(default_factory=deque)
    #: last round or sequence number given out, sent or not
    last: Round | None = None
    #: commands up to this number are in force at the server for this chunk
    hyper_known: int = 0
    #: encodes this worker's contributions; None: they are sent as they are
    feedback: ErrorFeedback | None = None
    #: reads that are not answered, by the round they come after: in sync a later contribution
    #: waits for them, so that a value can be read in the server's own memory (PROTOCOL R36)
    reading: list[Round] = field(default_factory=list)
    #: primary and view by the table for which they were looked up
    placed: tuple[Table, tuple[NodeId, Epoch]] | None = None

    def busy(self) -> bool:
        """Whether anything is not acknowledged."""
        return bool(self.in_flight or self.queue)

    def find(self, round_: Round) -> Posted | None:
        """The contribution in flight for `round_`."""
        return next((p for p in self.in_flight if p.round == round_), None)


def place(chunk: ClientChunk, table: Table) -> tuple[NodeId, Epoch]:
    """The chunk's primary and its view in `table`."""
    if chunk.placed is not None and chunk.placed[0] is table:
        return chunk.placed[1]
    shard = chunk.entry.shard(chunk.id.part, len(table.shards))
    found = (table.primary(shard), table.shards[shard].view)
    chunk.placed = (table, found)
    return found


class Packer:
    """Collects contributions for one call and packs them, many to a message."""

    def __init__(self, table: Table, full: int = FULL) -> None:
        self._table = table
        self._full = full
        self._items: list[tuple[int, ClientChunk, Posted]] = []

    def add(self, chunk: ClientChunk, posted: Posted) -> None:
        """Send `posted`."""
        self._items.append((-posted.priority, chunk, posted))

    def take(self) -> list[tuple[ClientChunk, Posted]]:
        """What was added, which is not sent by this packer then."""
        items, self._items = self._items, []
        return [(chunk, posted) for _, chunk, posted in items]

    def flush(self, epoch: Epoch) -> list[Effect]:
        """Messages by server, higher priority first, each at most about `full` bytes."""
        if not self._items:
            return []
        self._items.sort(key=lambda item: item[0])
        packs: dict[Any, _Pack] = {}
        effects: list[Effect] = []
        pack: _Pack | None = None
        for _, chunk, posted in self._items:
            server = place(chunk, self._table)[0]
            want = posted.out is not None
            if pack is None or not pack.takes(server, chunk, posted, want):
                key = (
                    server,
                    chunk.entry.store,
                    posted.step,
                    want,
                    posted.rescale_grad,
                    posted.hyper,
                )
                pack = packs.get(key)
                if pack is None:
                    pack = packs[key] = _Pack(server, chunk.entry.store, posted, want)
            size = 0 if posted.array is None else posted.array.nbytes
            if pack.items and pack.held + size > self._full:
                effects.append(self._message(server, pack.items, epoch))
                pack.held, pack.items = 0, []
            pack.items.append((chunk, posted))
            pack.held += size
        effects += [self._message(pack.server, pack.items, epoch) for pack in packs.values()]
        self._items = []
        return effects

    def place(self, chunk: ClientChunk) -> tuple[NodeId, Epoch]:
        """The chunk's primary and its view in the installed table."""
        return place(chunk, self._table)

    def _message(
        self, server: NodeId, pack: list[tuple[ClientChunk, Posted]], epoch: Epoch
    ) -> Send:
        table, (chunk, first) = self._table, pack[0]
        for _, posted in pack:
            posted.sent, posted.sent_with = True, first.request
        push = m.Push(
            store=chunk.entry.store,
            step=first.step,
            request=first.request,
            epoch=epoch,
            want=first.out is not None,
            chunks=tuple(
                [
                    m.Contribution(c.id, place(c, table)[1], p.round, p.array is None, p.codec)
                    for c, p in pack
                ]
            ),
            rescale_grad=first.rescale_grad,
            hyper=first.hyper,
            arrays=tuple([_EMPTY if p.array is None else p.array for _, p in pack]),
        )
        return Send(server, push, max([posted.priority for _, posted in pack]))


class _Pack:
    """What goes into one message."""

    __slots__ = ("_first", "_store", "_want", "held", "items", "server")

    def __init__(self, server: NodeId, store: int, first: Posted, want: bool) -> None:
        self.server, self._store, self._first, self._want = server, store, first, want
        self.held = 0
        self.items: list[tuple[ClientChunk, Posted]] = []

    def takes(self, server: NodeId, chunk: ClientChunk, posted: Posted, want: bool) -> bool:
        """Whether a contribution that follows this one's last may be in the same message; a
        request has one step and scale. False means that it must be looked up."""
        first = self._first
        return (
            server is self.server
            and posted.request == first.request
            and chunk.entry.store == self._store
            and want is self._want
            and posted.hyper == first.hyper
        )


_EMPTY: Array = np.empty(0, np.uint8)

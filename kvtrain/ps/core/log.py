# SPDX-License-Identifier: Apache-2.0
"""A shard's log, and how far each other server holds it; no protocol.

The log keeps entries until every server that needs them holds them, so that whoever is
promoted can bring the others to its own position (PROTOCOL R4, R15).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvtrain.ps.core.messages import LogEntry, Snapshot

Array = np.ndarray[Any, Any]
#: a peer of which it is not known how far it holds the log
UNKNOWN = -1


@dataclass(slots=True, eq=False)
class LogItem:
    """An entry, its arrays, and what becomes true at its commit."""

    entry: LogEntry
    arrays: tuple[Array, ...]
    done: list[Callable[[], None]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class ShardLog:
    """Entries ``first .. lsn``; earlier ones are held by everybody who needs them."""

    lsn: int = 0
    #: every replica holds the log up to here
    committed: int = 0
    _items: deque[LogItem] = field(default_factory=deque)

    @property
    def first(self) -> int:
        """Position of the first entry that is kept."""
        return self.lsn - len(self._items) + 1

    def __len__(self) -> int:
        return len(self._items)

    def append(self, item: LogItem) -> None:
        """The next entry."""
        self.lsn += 1
        assert item.entry.lsn == self.lsn
        self._items.append(item)

    def skip(self) -> None:
        """A position that nobody else needs: committed at once."""
        self.lsn += 1
        self.committed = self.lsn
        self._items.clear()

    def item(self, lsn: int) -> LogItem | None:
        """The entry at a position, if it is kept."""
        place = lsn - self.first
        return self._items[place] if 0 <= place < len(self._items) else None

    def after(self, lsn: int) -> Iterator[LogItem]:
        """Entries from `lsn` + 1 on."""
        for place in range(max(0, lsn + 1 - self.first), len(self._items)):
            yield self._items[place]

    def trim(self, lsn: int) -> None:
        """Nobody needs entries up to `lsn` any more."""
        while self._items and self.first <= lsn:
            self._items.popleft()

    def reset(self, lsn: int) -> None:
        """Start at `lsn` with nothing kept."""
        self.lsn = self.committed = lsn
        self._items.clear()


@dataclass(slots=True, eq=False)
class Fill:
    """A snapshot on its way to a learner."""

    lsn: int
    parts: dict[int, Snapshot]


@dataclass(slots=True, eq=False)
class Peer:
    """Another server of a shard, as the primary sees it."""

    #: it holds the log up to here; UNKNOWN until it has said so
    acked: int = UNKNOWN
    #: entries up to here are under way
    sent: int = UNKNOWN
    #: commits wait for it: a replica, or a learner that was accepted (R14)
    required: bool = True
    learner: bool = False
    fill: Fill | None = None
    #: since when it owes an answer; None: it owes none
    since: float | None = None
    due: float = 0.0
    interval: float = 0.0

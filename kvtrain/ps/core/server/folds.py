# SPDX-License-Identifier: Apache-2.0
"""Room for contributions, near the limit of the server's memory (``--server-memory``).

In sync a server needs room for one whole gradient and one contribution more: what is there is
folded (PROTOCOL R13), what comes out of turn is set aside, that is forgotten, and asked for
again when there is room for it.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvtrain.ps.core import messages as m
from kvtrain.ps.core.backup import BackupLedger
from kvtrain.ps.core.folding import fold, prefix
from kvtrain.ps.core.membership import Table
from kvtrain.ps.core.rounds import Part, SyncLedger
from kvtrain.ps.core.row_table import StoredRows
from kvtrain.ps.core.server.account import private
from kvtrain.ps.core.server.commits import Commits
from kvtrain.ps.core.server.state import Chunk
from kvtrain.ps.core.shards import ChunkId


class Folds(Commits):
    """Folds, sets aside and asks again."""

    def _keep_part(self, chunk: Chunk, part: Part) -> bool:
        """Count the memory of a contribution that came; False: it is set aside.

        Raises ServerMemoryExceeded where no order of coming would give it room.
        """
        account, size = self._account, private(part.array)
        if account.limit:
            self._check_scale(chunk, part)
        if account.has_room(size):
            account.hold(part.array)
            return True
        for other in self._foldable():
            account.held -= self._fold(other)
        if not account.has_room(size) and _folds(chunk):
            if not self._is_next(chunk, part):
                self._set_aside(chunk, part)
                return False
            self._evict(size)
        account.hold(part.array)
        return True

    def _fold(self, chunk: Chunk) -> int:
        ledger = chunk.ledger
        assert isinstance(ledger, SyncLedger)
        first = min(ledger.open)
        freed = fold(ledger.open[first], self._live_of(chunk.entry.store)(first.step))
        self._store(chunk.entry.store).counters["folds"] += bool(freed)
        return freed

    def _foldable(self) -> Iterator[Chunk]:
        return (self._chunks[c] for c in sorted(self._open) if _folds(self._chunks[c]))

    def _is_next(self, chunk: Chunk, part: Part) -> bool:
        """Whether all members before this one are in the round that closes next."""
        ledger = chunk.ledger
        assert isinstance(ledger, SyncLedger)
        if ledger.open and part.round > min(ledger.open):
            return False
        members = self._live_of(chunk.entry.store)(part.round.step)
        waiting = ledger.open.get(part.round)
        done = [p.node.rank for p in prefix(waiting, members)] if waiting else []
        return tuple(members[: len(done) + 1]) == (*done, part.node.rank)

    def _make_room(self, size: int) -> None:
        """For something that cannot wait: contributions are set aside, in turn or not."""
        account = self._account
        if account.has_room(size):
            return
        for chunk in self._foldable():
            account.held -= self._fold(chunk)
        self._evict(size)
        for chunk in list(self._foldable()):
            ledger = chunk.ledger
            if account.has_room(size) or not isinstance(ledger, SyncLedger):
                return
            for round_, waiting in list(ledger.open.items()):
                folded = [p.array for p in waiting.parts.values() if p.folded]
                ledger.withdraw(waiting)
                for array in folded:
                    account.let_go(array)
                for part in ledger.again:
                    self._set_aside(chunk, part)
                ledger.again = []
                for part in [p for p in waiting.parts.values() if private(p.array)]:
                    account.let_go(part.array)
                    del waiting.parts[part.node.rank]
                    self._set_aside(chunk, part)
                if not waiting.parts:
                    del ledger.open[round_]
            self._mark(chunk.stored.id, chunk)

    def _evict(self, size: int) -> None:
        """Set aside what came out of turn, until there is room."""
        for chunk in list(self._foldable()):
            ledger = chunk.ledger
            assert isinstance(ledger, SyncLedger)
            for round_ in sorted(ledger.open, reverse=True):
                waiting = ledger.open[round_]
                members = self._live_of(chunk.entry.store)(round_.step)
                first = round_ == min(ledger.open)
                stay = {p.node.rank for p in prefix(waiting, members)} if first else set()
                for rank in sorted(waiting.parts.keys() - stay, reverse=True):
                    if self._account.has_room(size):
                        return
                    part = waiting.parts[rank]
                    if private(part.array):
                        self._account.let_go(part.array)
                        del waiting.parts[rank]
                        self._set_aside(chunk, part)
                if not waiting.parts:
                    del ledger.open[round_]
            self._mark(chunk.stored.id, chunk)

    def _close_what_can_be(self, chunk: Chunk) -> None:
        super()._close_what_can_be(chunk)
        if self._aside:
            self._invite()

    # ---- asking again ------------------------------------------------------------------------

    def _set_aside(self, chunk: Chunk, part: Part) -> None:
        self._store(chunk.entry.store).counters["set_aside"] += 1
        size = private(part.array) or chunk.nbytes
        self._aside[(chunk.stored.id, part.node.rank)] = (part, size)
        part.array = None

    def _invite(self) -> None:
        """Ask again for what was set aside and has room now, who is next in a round first."""
        room = self._account.limit - self._account.total
        waiting = sorted(self._aside, key=lambda place: (not self._next_aside(place), place))
        for place in waiting:
            part, size = self._aside[place]
            chunk = self._chunks.get(place[0])
            if chunk is None or not chunk.shard.decides:
                del self._aside[place]
                continue
            if size > room and not self._next_aside(place):
                return
            room -= size
            del self._aside[place]
            self._ask_again(chunk, [part])

    def _forget_aside(self, table: Table) -> None:
        """Those that were lost are not asked."""
        for place in list(self._aside):
            node = self._aside[place][0].node
            member = table.member(node.rank)
            if member is None or member.gone or member.node != node:
                del self._aside[place]

    def _next_aside(self, place: tuple[ChunkId, int]) -> bool:
        chunk = self._chunks.get(place[0])
        return chunk is not None and self._is_next(chunk, self._aside[place][0])

    def _ask_again(self, chunk: Chunk, parts: list[Part]) -> None:
        for part in parts:
            query = m.Query(chunk.stored.id, chunk.shard.view, part.round, part.want)
            missing = m.Missing(store=chunk.entry.store, request=part.request, chunks=(query,))
            self._replies.send(part.node, missing)

    def _check_scale(self, chunk: Chunk, part: Part) -> None:
        """Scales differ in a round: each contribution is multiplied by its own first, so a sum
        of them is of no use."""
        ledger = chunk.ledger
        waiting = ledger.open.get(part.round) if isinstance(ledger, SyncLedger) else None
        folded = [p for p in waiting.parts.values() if p.folded] if waiting else []
        if not isinstance(ledger, SyncLedger) or waiting is None or not folded:
            return
        if folded[0].rescale_grad != part.rescale_grad:
            self._account.let_go(folded[0].array)
            ledger.withdraw(waiting)
            self._ask_withdrawn(chunk)

    def _ask_withdrawn(self, chunk: Chunk) -> None:
        """Those whose contributions were in a sum that was discarded."""
        ledger = chunk.ledger
        if isinstance(ledger, SyncLedger) and ledger.again:
            gone, ledger.again = ledger.again, []
            self._ask_again(chunk, gone)


def _folds(chunk: Chunk) -> bool:
    """Rounds that wait for everybody, of dense keys."""
    ledger = chunk.ledger
    if not isinstance(ledger, SyncLedger) or isinstance(ledger, BackupLedger):
        return False
    return not isinstance(chunk.stored, StoredRows)

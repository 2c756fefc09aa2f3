# SPDX-License-Identifier: Apache-2.0
"""Workers that contribute nothing for a while: rounds with backup workers do not wait for them.

Workers that were dropped are steps ahead of the others in number, so one may wait at a barrier
while another has steps left: those close without the first (PROTOCOL R40). To believe in a
standstill that is over costs its worker a dropped contribution, and nothing else.
"""

from __future__ import annotations

from kvtrain.ps.core import messages as m
from kvtrain.ps.core.backup import Away, BackupLedger
from kvtrain.ps.core.effects import Effect
from kvtrain.ps.core.membership import NodeId
from kvtrain.ps.core.rounds import Part
from kvtrain.ps.core.server.cuts import Cuts
from kvtrain.ps.core.server.state import Chunk


class Standstills(Cuts):
    """Takes Resting, and says who may still contribute."""

    def _on_resting(self, sender: NodeId, message: m.Resting, now: float) -> list[Effect]:
        """Each standstill begins once; a late repeat says nothing new."""
        store = self._store(message.store)
        if message.n > store.standstills.get(sender, 0):
            store.standstills[sender] = message.n
            store.resting[sender] = message.step
            for chunk_id in sorted(self._open):
                chunk = self._chunks[chunk_id]
                if chunk.entry.store == message.store:
                    self._close_what_can_be(chunk)
        self._replies.send(sender, m.RestingKnown(store=message.store, n=message.n))
        return []

    def _goes_on(self, chunk: Chunk, part: Part) -> None:
        """A worker contributes: it stands still no more."""
        resting = self._store(chunk.entry.store).resting
        if resting and part.round.step >= resting.get(part.node, part.round.step + 1):
            del resting[part.node]

    def _away_from(self, number: int) -> Away:
        assert self.table is not None
        table, resting = self.table, self._store(number).resting

        def away(rank: int) -> bool:
            member = table.member(rank)
            if member is None or member.gone:
                return True
            return member.node in resting

        return away

    def _next_round(self, chunk: Chunk, ledger: BackupLedger) -> list[Part] | None:
        """The members of the next round that can close."""
        number = chunk.entry.store
        return ledger.close(self._live_of(number), self._away_from(number))

    def _close_what_can_be(self, chunk: Chunk) -> None:
        raise NotImplementedError

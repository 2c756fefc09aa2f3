# SPDX-License-Identifier: Apache-2.0
"""What the scheduler decides and this server obeys: tables, and the end."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from kvtrain.errors import (
    KVTrainError,
    WorkerLost,
    from_wire,
)
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect, Send, Stop
from kvtrain.ps.core.membership import SCHEDULER, NodeId, Role, Table
from kvtrain.ps.core.rounds import SyncLedger
from kvtrain.ps.core.server.optimizers import OptimizersAndStats
from kvtrain.ps.core.settings import JobSettings


class Tables(OptimizersAndStats):
    """Installs tables and refuses who is not in them."""

    def epoch_heartbeat(self) -> m.Heartbeat:
        """What the next heartbeat says."""
        assert self.table is not None
        self.last = self._oldest_wait()
        return m.Heartbeat(epoch=self.table.epoch, turns=self.joining.turns, last=self.last)

    def _oldest_wait(self) -> str:
        """``round (3, 0) of key 'w' waits for worker-1``: one round that is open here."""
        for chunk_id in self._open:
            chunk = self._chunks[chunk_id]
            if isinstance(chunk.ledger, SyncLedger):
                live = self._live_of(chunk.entry.store)
                for round_, _, missing in chunk.ledger.overdue(math.inf, live):
                    names = ", ".join(f"worker-{rank}" for rank in missing)
                    name = chunk.entry.spec.name
                    return f"round {tuple(round_)} of key {name!r} waits for {names}"
        return ""

    def _on_welcome(self, message: m.Welcome, now: float) -> list[Effect]:
        if self.table is None:
            self.settings = JobSettings.from_plain(message.settings)
            self._next_look = now + min(self.settings.note_after, self.settings.join_timeout) / 4
            self.joining.welcomed(message.node, self.settings, now)
            self._account.limit = self.settings.server_memory
            self._account.name = str(self.node)
            self._install(message.table)
        return [self._installed()]

    def _on_table_update(self, message: m.TableUpdate, now: float) -> list[Effect]:
        if self.table is None:
            return []
        if message.table.epoch > self.table.epoch:
            self._install(message.table)
            for chunk_id in sorted(self._open):
                chunk = self._chunks[chunk_id]
                self._close_what_can_be(chunk_id, chunk, now)
            for number in self._stores:
                self._open_gates(number)
        return [self._installed(), *self._replies.flush(self.table.epoch)]

    def _install(self, table: Table) -> None:
        self.table = table
        self._live.clear()
        for member in table.members:
            if member.lost:
                for chunk_id in list(self._open):
                    self._chunks[chunk_id].ledger.drop(member.node)
                    self._mark(chunk_id, self._chunks[chunk_id])
                self._account.recount(chunk.ledger for chunk in self._chunks.values())

    def _installed(self) -> Send:
        assert self.table is not None
        return Send(SCHEDULER, m.Installed(epoch=self.table.epoch))

    def _on_stop_job(self, message: m.StopJob) -> list[Effect]:
        self._failed = True
        self._outbox.clear()
        error = from_wire(message.name, list(message.fields)) if message.name else None
        return [Send(SCHEDULER, m.Stopped(epoch=message.epoch)), Stop(error)]

    def _from_worker(
        self,
        sender: NodeId,
        message: Any,
        now: float,
        handle: Callable[[NodeId, Any, float], list[Effect]],
    ) -> list[Effect]:
        """Refuse who is not a live member of this incarnation (R11, R24, R29)."""
        assert self.table is not None
        member = self.table.member(sender.rank) if sender.role == Role.WORKER else None
        if member is None or member.node != sender or member.lost:
            error = WorkerLost(f"{sender} is not a live worker of this job any more; refused")
            return [self._error(sender, message, error)]
        if self._failed:
            return []
        try:
            effects = handle(sender, message, now)
        except KVTrainError as error:
            effects = [self._error(sender, message, error)]
        return effects + self._replies.flush(self.table.epoch)

# SPDX-License-Identifier: Apache-2.0
"""The server's state machine: takes contributions, closes rounds, answers reads.

``on_message`` is the table of contents. A round goes collecting -> reduced -> committed;
without replicas the commit follows at once, and only then are replies made. Everything a
worker sends may come late, twice or never: contributions are identified by (chunk, round,
rank, incarnation) and a repeat gets the same verdict again.
"""

from __future__ import annotations

from kvtrain.errors import (
    RemoteProtocolError,
    from_wire,
)
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect, Note
from kvtrain.ps.core.membership import NodeId
from kvtrain.ps.core.messages.disk import PartWritten, ShardsLoaded
from kvtrain.ps.core.rounds import SyncLedger
from kvtrain.ps.core.server.account import private
from kvtrain.ps.core.server.handover import Handovers
from kvtrain.ps.core.server.state import EARLY_LIMIT, Stage


class ServerCore(Handovers):
    """Parameters and rounds of the shards of which this server is primary.

    Parameters
    ----------
    identity : Identity
        What the Hello says.
    nonce : int
        Random number that names this process until it is welcomed.
    settings : JobSettings
        Deadlines until the Welcome brings the job's own.
    make_optimizer : callable
        ``(registered name, plain config) -> optimizer``.
    observe : callable, optional
        Called with each committed Record (simulation, tracing).
    memory : Memory, optional
        Where weights lie; private by default.
    """

    def start(self, now: float) -> list[Effect]:
        """Say Hello."""
        return self.joining.start(now)

    def on_message(self, sender: NodeId, message: m.Message, now: float) -> list[Effect]:
        """Take one message; the table of contents of this role."""
        effects: list[Effect]
        match message:
            case m.Welcome():
                effects = self._on_welcome(message, now)
            case m.Refused() if self.table is not None:
                effects = self._on_declared_dead(message, now)
            case m.Refused() | m.HeartbeatAck():
                effects = self.joining.on_answer(message, now)
            case m.TableUpdate():
                effects = self._on_table_update(message, now)
            case m.StopJob():
                effects = self._on_stop_job(message)
            case m.ErrorReply():
                effects = [
                    Note(f"{sender} answered: {from_wire(message.name, list(message.fields))}")
                ]
            case _ if self.table is None:
                effects = []  # the worker asks again
            case m.Init():
                effects = self._from_worker(sender, message, now, self._on_init)
            case m.Push():
                effects = self._from_worker(sender, message, now, self._on_push)
            case m.PushQuery():
                effects = self._from_worker(sender, message, now, self._on_push_query)
            case m.Pull():
                effects = self._from_worker(sender, message, now, self._on_pull)
            case m.RowPull():
                effects = self._from_worker(sender, message, now, self._on_row_pull)
            case m.Clock():
                effects = self._from_worker(sender, message, now, self._on_clock)
            case m.Resting():
                effects = self._from_worker(sender, message, now, self._on_resting)
            case m.SetOptimizer():
                effects = self._from_worker(sender, message, now, self._on_set_optimizer)
            case m.StatsRequest():
                effects = self._from_worker(sender, message, now, self._on_stats_request)
            case m.Replicate():
                effects = self._from_server(sender, message, now, self._on_replicate)
            case m.ReplicateAck():
                effects = self._from_server(sender, message, now, self._on_replicate_ack)
            case m.Snapshot():
                effects = self._from_server(sender, message, now, self._on_snapshot)
            case m.SnapshotAck():
                effects = self._from_server(sender, message, now, self._on_snapshot_ack)
            case m.ViewRefused():
                effects = self._from_server(sender, message, now, self._on_view_refused)
            case m.LeaveAck():
                effects = self._on_leave_ack(sender, message)
            case m.Fence():
                effects = self._on_fence(message)
            case m.ReadStates():
                effects = self._from_worker(sender, message, now, self._on_read_states)
            case m.WriteStates():
                effects = self._from_worker(sender, message, now, self._on_write_states)
            case m.Checkpoint():
                effects = self._on_checkpoint(message)
            case PartWritten():
                effects = self._on_part_written(message)
            case ShardsLoaded():
                effects = self._on_shards_loaded(message, now)
            case _:
                text = f"a server does not take {type(message).__name__} from {sender}"
                effects = [self._error(sender, message, RemoteProtocolError(text))]
        return effects + self._seal(now) + self._ship(now)

    def on_tick(self, now: float) -> list[Effect]:
        """Let time pass: heartbeats, repeats, deadlines."""
        effects = self.joining.on_tick(now, self.epoch_heartbeat)
        effects += self._outbox.due(now)
        if self.table is not None and now >= self._next_look:
            self._next_look = now + min(self.settings.note_after, self.settings.join_timeout) / 4
            effects += self._look_at_waits(now)
        effects += self._ship_again(now) + self._seal(now)
        return effects + self._ship(now)

    def next_deadline(self) -> float | None:
        """When :meth:`on_tick` wants to be called at the latest."""
        times = [
            self.joining.next_deadline(),
            self._outbox.next_deadline(),
            None if self.table is None else self._next_look,
            self._ship_at,
        ]
        return min((t for t in times if t is not None), default=None)

    def check_invariants(self) -> None:
        """Raise AssertionError if the state contradicts PROTOCOL."""
        for chunk_id in self._open:
            assert chunk_id in self._chunks
        for chunk_id, chunk in self._chunks.items():
            ledger = chunk.ledger
            if isinstance(ledger, SyncLedger):
                assert (chunk_id in self._open) == bool(ledger.open), chunk_id
                closed = ledger.last_closed
                assert all(closed is None or r > closed for r in ledger.open), chunk_id
                for waiting in ledger.open.values():
                    for rank, part in waiting.parts.items():
                        member = self.table.member(rank) if self.table else None
                        assert member is None or member.node == part.node, f"R26: {part.node}"
                workers = len(self.table.members) if self.table else 0
                assert len(ledger.open) <= workers, "more open rounds than workers"
            assert len(chunk.readers) <= EARLY_LIMIT
            if chunk.shard.stage in (Stage.NONE, Stage.LEARNER, Stage.REPLICA):
                assert chunk.pending is None, f"{chunk_id}: a record in the making"
        for shard in self._shards:
            assert shard.log.committed <= shard.log.lsn
            if shard.stage is Stage.NONE:
                assert not shard.chunks and not shard.peers
            owing = any(p.since is not None for p in shard.peers.values())
            assert not (owing and shard.decides) or self._ship_at is not None
        assert len(self._early) <= EARLY_LIMIT
        ledgers = [chunk.ledger for chunk in self._chunks.values()]
        held = sum(private(array) for ledger in ledgers for array in ledger.arrays())
        assert self._account.held == held, "contributions are not counted right"
        chunks = self._chunks.values()
        assert self._account.weights == sum(c.nbytes for c in chunks), "weights are not counted"
        assert self._account.kept == sum(c.kept_bytes for c in chunks), "rows are not counted"

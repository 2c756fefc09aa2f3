# SPDX-License-Identifier: Apache-2.0
"""What the scheduler decides and this server obeys: tables, fences, and the end.

A server is to each shard what the installed table says. A promoted one catches up before it
answers (PROTOCOL R17); a fenced one acts as nothing but keeps its log (R15, R16).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kvtrain.errors import KVTrainError, RemoteProtocolError, WorkerLost, from_wire
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect, Note, Send, Stop
from kvtrain.ps.core.log import UNKNOWN, Peer
from kvtrain.ps.core.membership import SCHEDULER, NodeId, Role, ShardInfo, Table
from kvtrain.ps.core.rounds import SyncLedger
from kvtrain.ps.core.server.learners import Learners
from kvtrain.ps.core.server.state import Shard, Stage
from kvtrain.ps.core.settings import JobSettings


class Tables(Learners):
    """Installs tables and refuses who is not in them."""

    def epoch_heartbeat(self) -> m.Heartbeat:
        """What the next heartbeat says."""
        assert self.table is not None
        self.last = self._oldest_wait()
        return m.Heartbeat(epoch=self._told_epoch(), turns=self.joining.turns, last=self.last)

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
        effects: list[Effect] = []
        if self.table is None:
            self.settings = JobSettings.from_plain(message.settings)
            self._next_look = now + min(self.settings.note_after, self.settings.join_timeout) / 4
            self.joining.welcomed(message.node, self.settings, now)
            self._account.limit = self.settings.server_memory
            self._account.name = str(self.node)
            self._shards = [Shard(number) for number in range(len(message.table.shards))]
            effects = self._install(message.table, now)
            effects += self._begin_restore(message.table)
        return [self._installed(), *effects]

    def _on_table_update(self, message: m.TableUpdate, now: float) -> list[Effect]:
        if self.table is None:
            return []
        effects: list[Effect] = []
        if message.table.epoch > self.table.epoch:
            effects = self._install(message.table, now)
        self._outbox.answered("table")
        return [self._installed(), *effects, *self._replies.flush(self.table.epoch)]

    def _install(self, table: Table, now: float) -> list[Effect]:
        if len(table.shards) != len(self._shards):
            raise RemoteProtocolError(
                f"a table of {len(table.shards)} shards; the job has {len(self._shards)}"
            )
        self.table = table
        self._live.clear()
        for shard, info in zip(self._shards, table.shards, strict=True):
            self._install_shard(shard, info, now)
        before, self._members = self._members, table.members
        if before != table.members:
            for chunk_id, chunk in self._chunks.items():
                for member in table.members:
                    # nothing of a lost incarnation stays open (R24, R26)
                    chunk.ledger.drop(member.node.rank, None if member.lost else member.node)
                self._mark(chunk_id, chunk)
            self._account.recount(chunk.ledger for chunk in self._chunks.values())
            here = {member.node for member in table.members if not member.lost}
            for key in [k for k in self._early if k[0] not in here]:
                del self._early[key]
        for chunk in self._chunks.values() if before != table.members else ():
            self._ask_withdrawn(chunk)
        for chunk_id in sorted(self._open):
            self._close_what_can_be(self._chunks[chunk_id])
        if self._aside:
            self._forget_aside(table)
        for number in self._stores:
            self._open_gates(number)
        return self._start_fills(now)

    def _install_shard(self, shard: Shard, info: ShardInfo, now: float) -> None:
        """This server's part in one shard, by the table."""
        changed = info.view != shard.view
        shard.view, shard.sealed = info.view, shard.sealed and not changed
        before, shard.primary = shard.primary, info.replicas[0]
        if self.node == info.replicas[0]:
            self._be_primary(shard, info, changed, now)
        elif self.node in info.replicas:
            if changed:
                shard.stage = Stage.REPLICA
        elif self.node in info.learners:
            if shard.stage is not Stage.LEARNER or before != shard.primary:
                # what another primary sent counts for nothing (R14)
                self._drop(shard)
                shard.stage, shard.arriving, shard.arriving_at = Stage.LEARNER, {}, UNKNOWN
        elif shard.stage is not Stage.NONE:
            self._drop(shard)

    def _be_primary(self, shard: Shard, info: ShardInfo, changed: bool, now: float) -> None:
        if changed and shard.stage is not Stage.PRIMARY:
            shard.stage = Stage.CATCHING_UP
            shard.promoted_at = shard.log.lsn
        peers: dict[NodeId, Peer] = {}
        for node in info.replicas[1:]:
            peer = peers[node] = shard.peers.get(node) or Peer()
            peer.learner, peer.required = False, True
            if not shard.log.lsn and peer.acked == UNKNOWN:
                peer.acked = peer.sent = 0  # the job begins: nobody holds anything
        for node in info.learners:
            known = shard.peers.get(node)
            if known is None or not known.learner:
                # one that was a replica until a table in between has dropped what it held
                known = Peer(learner=True, required=False)
            peers[node] = known
        shard.peers = peers
        if changed:
            self._outbox.forget(
                lambda key: isinstance(key, tuple) and key[:2] == ("sync", shard.number)
            )
            for node, peer in peers.items():
                self._under_new_view(shard, node, peer, now)
        self._advance(shard)

    def _under_new_view(self, shard: Shard, node: NodeId, peer: Peer, now: float) -> None:
        """What is under way to a peer was sent in a view that does not hold any more."""
        peer.since = None
        if peer.fill is not None:
            parts = peer.fill.parts.items()
            peer.fill.parts = {n: replace(part, view=shard.view) for n, part in parts}
            for part in peer.fill.parts.values():
                self._replies.push(Send(node, part))
            self._owes(shard, peer, now)
            return
        peer.sent = peer.acked
        if peer.acked < shard.log.lsn:
            self._dirty.add(shard.number)
        if peer.learner and peer.required:
            self._ask_to_add(shard, node, now)

    def _drop(self, shard: Shard) -> None:
        """Nothing of this shard is held here any more."""
        for chunk_id in shard.chunks:
            chunk = self._chunks.pop(chunk_id)
            self._open.discard(chunk_id)
            self._account.gone(chunk.entry.store, chunk.nbytes, chunk.kept_bytes, chunk.ledger)
            if chunk.stored.slot is not None and not chunk.stored.lent:
                self._memory.give(chunk.stored.slot)
        for store in self._stores.values():
            for key in [k for k, (chunk, _) in store.gated.items() if chunk.shard is shard]:
                del store.gated[key]
        number, view, primary, fence = shard.number, shard.view, shard.primary, shard.fence
        shard.__init__(number)  # type: ignore[misc]
        shard.view, shard.primary, shard.fence = view, primary, fence

    def _installed(self) -> Send:
        assert self.table is not None
        resuming = [member.node for member in self.table.members if member.resuming]
        seen: dict[tuple[NodeId, int], int] = {}
        for chunk in self._chunks.values() if resuming else ():
            for node in resuming:
                last = chunk.ledger.counted.get(node.rank)
                if chunk.shard.decides and last is not None:
                    place = (node, chunk.entry.store)
                    seen[place] = max(seen.get(place, 0), last.round.step)
        steps = tuple(m.SeenStep(node, store, step) for (node, store), step in sorted(seen.items()))
        joining = any(member.proposed and not member.lost for member in self.table.members)
        progress = self._how_far() if joining else ()
        return Send(SCHEDULER, m.Installed(epoch=self._told_epoch(), seen=steps, progress=progress))

    def _how_far(self) -> tuple[m.Progress, ...]:
        """The highest round that has closed here in each store; what comes is under the table
        that is installed now (R23)."""
        found: dict[int, m.Progress] = {}
        for chunk in self._chunks.values():
            ledger, store = chunk.ledger, chunk.entry.store
            if not (chunk.shard.decides and isinstance(ledger, SyncLedger) and ledger.last_closed):
                continue
            step, n = ledger.last_closed
            before = found.get(store, m.Progress(store, step, n))
            bare = before.bare or store not in chunk.shard.optimizers
            step, n = max((before.step, before.n), (step, n))
            found[store] = m.Progress(store, step, n, bare)
        return tuple(found[store] for store in sorted(found))

    # ---- fences ----------------------------------------------------------------------------

    def _on_fence(self, message: m.Fence) -> list[Effect]:
        """Take part in no older view, and say how far the log goes here (R15)."""
        held: list[m.LogHeld] = []
        for asked in message.shards:
            shard = self._shard_numbered(asked.shard)
            if asked.view < max(shard.view, shard.fence):
                continue
            if asked.view > shard.view:
                shard.fence = asked.view
                if shard.stage in (Stage.REPLICA, Stage.PRIMARY, Stage.CATCHING_UP):
                    shard.stage = Stage.FENCED
            held.append(m.LogHeld(shard.number, asked.view, shard.log.lsn))
        return [Send(SCHEDULER, m.FenceAck(epoch=message.epoch, held=tuple(held)))]

    def _on_view_refused(self, sender: NodeId, message: m.ViewRefused, now: float) -> list[Effect]:
        """Whoever is refused stops acting as primary at once and asks for the table (R16)."""
        for known in message.shards:
            shard = self._shard_numbered(known.shard)
            if known.view > shard.view:
                if shard.decides:
                    shard.stage = Stage.FENCED
                self._want_table(now)
        return []

    def _on_declared_dead(self, message: m.Refused, now: float) -> list[Effect]:
        """This server was given up: it brings no state back, and asks to join anew (R20)."""
        for shard in self._shards:
            self._drop(shard)
        self._chunks.clear()
        self._open.clear()
        self._early.clear()
        self._outbox.clear()
        self._replies.flush(self._epoch())
        self._shards, self.table = [], None
        self._stores.clear()
        self._entries.clear()
        self._dirty.clear()
        self._owing.clear()
        self._ship_at = None
        self.joining.anew(now)
        return [Note(f"given up by the scheduler: {message.reason}"), *self.joining.start(now)]

    # ---- the end ---------------------------------------------------------------------------

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

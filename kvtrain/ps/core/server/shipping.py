# SPDX-License-Identifier: Apache-2.0
"""The primary's side of replication: what is in the log is committed once all hold it.

The primary waits for every replica of its installed table and for every learner that it has
accepted; only a table shortens that list (PROTOCOL R3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect, Send
from kvtrain.ps.core.log import UNKNOWN, Array, LogItem, Peer
from kvtrain.ps.core.membership import SCHEDULER, NodeId
from kvtrain.ps.core.replies import FULL
from kvtrain.ps.core.server.gates import Gates
from kvtrain.ps.core.server.state import Shard, Stage

#: makes an entry for a log position, with its arrays
MakeEntry = Callable[[int], tuple[m.LogEntry, tuple[Array, ...]]]


class Shipping(Gates):
    """Appends, sends, collects acknowledgements, commits."""

    def _append(self, shard: Shard, make: MakeEntry, done: Callable[[], None]) -> None:
        """The next record of a shard; `done` is called when it is committed."""
        if not shard.peers and shard.log.committed == shard.log.lsn:
            shard.log.skip()
            done()
            return
        entry, arrays = make(shard.log.lsn + 1)
        shard.log.append(LogItem(entry, arrays, [done]))
        self._dirty.add(shard.number)
        self._advance(shard)

    def _when_committed(self, shard: Shard, then: Callable[[], None]) -> None:
        """Call `then` once all that is in the log now is committed."""
        item = shard.log.item(shard.log.lsn)
        if shard.log.committed >= shard.log.lsn or item is None:
            then()
        else:
            item.done.append(then)

    def _advance(self, shard: Shard) -> None:
        """Commit what every server that counts has acknowledged, in order."""
        if not shard.decides:
            return
        log = shard.log
        required = [peer.acked for peer in shard.peers.values() if peer.required]
        upto = min(required, default=log.lsn)
        while log.committed < upto:
            log.committed += 1
            item = log.item(log.committed)
            if item is not None:
                done, item.done = item.done, []
                for then in done:
                    then()
        if shard.stage is Stage.CATCHING_UP and log.committed >= shard.promoted_at:
            shard.stage = Stage.PRIMARY
            self._caught_up(shard)
        log.trim(min(map(_needs, shard.peers.values()), default=log.lsn))

    def _caught_up(self, shard: Shard) -> None:
        """All that was held at promotion is committed; answers what has waited."""
        raise NotImplementedError

    # ---- sending ---------------------------------------------------------------------------

    def _ship(self, now: float) -> list[Effect]:
        """What the other servers do not have yet, many shards to a message."""
        if not self._dirty:
            return []
        packs: dict[NodeId, _Pack] = {}
        effects: list[Effect] = []
        for number in sorted(self._dirty):
            shard = self._shards[number]
            if not shard.decides:
                continue
            for node, peer in shard.peers.items():
                if peer.fill is not None or (peer.learner and peer.acked == UNKNOWN):
                    continue
                if node not in packs:
                    packs[node] = _Pack()
                effects += self._ship_to(node, peer, shard, packs[node], now)
        self._dirty.clear()
        for node, pack in packs.items():
            effects += pack.flush(node, self._epoch())
        return effects

    def _ship_to(
        self, node: NodeId, peer: Peer, shard: Shard, pack: _Pack, now: float
    ) -> list[Effect]:
        log = shard.log
        effects: list[Effect] = []
        if peer.acked == UNKNOWN:
            if peer.sent == UNKNOWN:
                # how far does it hold the log? it says so, and asks for the rest
                pack.head(m.LogHead(shard.number, shard.view, log.lsn + 1, log.committed))
                peer.sent = log.lsn
                self._owes(shard, peer, now)
            return effects
        if peer.sent >= log.lsn:
            return effects
        pack.head(m.LogHead(shard.number, shard.view, peer.sent + 1, log.committed))
        for item in log.after(peer.sent):
            if pack.size > FULL:
                effects += pack.flush(node, self._epoch())
                head = m.LogHead(shard.number, shard.view, item.entry.lsn, log.committed)
                pack.head(head)
            pack.add(item)
        peer.sent = log.lsn
        self._owes(shard, peer, now)
        return effects

    def _epoch(self) -> Any:
        assert self.table is not None
        return self.table.epoch

    def _owes(self, shard: Shard, peer: Peer, now: float) -> None:
        """The peer owes an answer; it is asked again after a while."""
        if peer.since is None:
            peer.since = now
            peer.interval = self.settings.resend_after
            peer.due = now + peer.interval
        self._owing.add(shard.number)
        if self._ship_at is None or peer.due < self._ship_at:
            self._ship_at = peer.due

    def _ship_again(self, now: float) -> list[Effect]:
        """Ask again those who owe an answer, and report who owes it for too long (R3)."""
        if self._ship_at is None or now < self._ship_at:
            return []
        effects: list[Effect] = []
        silent: dict[NodeId, float] = {}
        earliest: float | None = None
        for number in sorted(self._owing):
            shard = self._shards[number]
            owing = {n: p for n, p in shard.peers.items() if p.since is not None}
            if not owing or not shard.decides:
                self._owing.discard(number)
                continue
            for node, peer in owing.items():
                assert peer.since is not None
                if peer.due <= now:
                    peer.interval = min(peer.interval * 2, self.settings.resend_longest)
                    peer.due = now + peer.interval
                    if peer.fill is not None:
                        effects += [Send(node, part) for part in peer.fill.parts.values()]
                    else:
                        peer.sent = peer.acked
                        self._dirty.add(number)
                    if now - peer.since >= self.settings.dead_after:
                        silent[node] = max(silent.get(node, 0.0), now - peer.since)
                earliest = peer.due if earliest is None else min(earliest, peer.due)
        self._ship_at = earliest
        for node, seconds in silent.items():
            effects.append(Send(SCHEDULER, m.Suspect(node=node, seconds=seconds)))
        return effects

    # ---- acknowledgements ------------------------------------------------------------------

    def _on_replicate_ack(
        self, sender: NodeId, message: m.ReplicateAck, now: float
    ) -> list[Effect]:
        for held in message.held:
            shard = self._shards[held.shard] if 0 <= held.shard < len(self._shards) else None
            if shard is None or not shard.decides or held.view != shard.view:
                continue
            peer = shard.peers.get(sender)
            if peer is None or peer.fill is not None or held.lsn > shard.log.lsn:
                continue
            if peer.learner and peer.acked == UNKNOWN:
                continue
            if held.lsn > peer.acked:
                peer.acked = held.lsn
                peer.since = None
            peer.sent = max(peer.sent, peer.acked)
            if held.again and held.lsn == peer.acked:
                peer.sent = peer.acked
            if peer.acked < shard.log.lsn:
                self._owes(shard, peer, now)
                if peer.sent < shard.log.lsn:
                    self._dirty.add(shard.number)
            else:
                peer.since = None
            self._progress(shard, sender, peer, now)
            self._advance(shard)
        return []

    def _progress(self, shard: Shard, node: NodeId, peer: Peer, now: float) -> None:
        """A learner may have reached the end of the log."""
        raise NotImplementedError


def _needs(peer: Peer) -> int:
    """Log entries after this position are needed for the peer."""
    if peer.fill is not None:
        return peer.fill.lsn
    if peer.learner and peer.acked == UNKNOWN:
        return 1 << 62  # its snapshot will be taken at the log's end of then
    return peer.acked


class _Pack:
    """A Replicate message in the making."""

    def __init__(self) -> None:
        self.size = 0
        self._heads: list[m.LogHead] = []
        self._entries: list[m.LogEntry] = []
        self._arrays: list[Array] = []

    def head(self, head: m.LogHead) -> None:
        """A shard's entries follow."""
        self._heads.append(head)

    def add(self, item: LogItem) -> None:
        """One entry."""
        self._entries.append(item.entry)
        self._arrays += item.arrays
        self.size += sum(int(a.nbytes) for a in item.arrays)

    def flush(self, to: NodeId, epoch: Any) -> list[Effect]:
        """The message, if there is anything to say."""
        if not self._heads:
            return []
        message = m.Replicate(
            epoch=epoch,
            heads=tuple(self._heads),
            entries=tuple(self._entries),
            arrays=tuple(self._arrays),
        )
        self.__init__()  # type: ignore[misc]
        return [Send(to, message)]

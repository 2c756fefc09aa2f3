# SPDX-License-Identifier: Apache-2.0
"""Saving chunks at a cut, without a stop: each is copied before its first later round (R49).

One attempt at a time. What is copied is committed data only (R51). The files are written by the
shell; when all shards of which this server is primary are on the disk, the scheduler is told.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect, SavePart, Send
from kvtrain.ps.core.membership import SCHEDULER, Epoch, StoreClock
from kvtrain.ps.core.messages.disk import PartWritten
from kvtrain.ps.core.rounds import SyncLedger
from kvtrain.ps.core.saved import SavedChunk, SavedPart, SavedStore
from kvtrain.ps.core.server.shipping import Shipping
from kvtrain.ps.core.server.state import Chunk, Shard, Stage
from kvtrain.ps.core.shards import ChunkId


@dataclass(slots=True, eq=False)
class Cut:
    """The attempt that is under way here."""

    order: m.Checkpoint
    views: dict[int, Epoch]
    taken: dict[ChunkId, SavedChunk] = field(default_factory=dict)
    #: shards whose files are being written, and those that are
    writing: set[int] = field(default_factory=set)
    written: dict[int, SavedPart | None] = field(default_factory=dict)
    complete: bool = False
    #: store -> first step of which no round is in what was copied
    closed: dict[int, int] = field(default_factory=dict)
    #: why nothing comes of it: told again whenever the scheduler asks again
    failed: str = ""


class Cuts(Shipping):
    """Copies chunks at the cut and answers the scheduler."""

    _cut: Cut | None = None

    def _on_checkpoint(self, message: m.Checkpoint) -> list[Effect]:
        """Begin, go on with, or answer again for an attempt."""
        cut = self._cut
        if cut is not None and message.attempt < cut.order.attempt:
            return []
        if cut is None or message.attempt > cut.order.attempt:
            late = self._why_late(message)
            if late is not None:
                self._cut = None
                return [late]
            primary = [s for s in self._shards if s.decides]
            cut = self._cut = Cut(message, {s.number: s.view for s in primary})
        if cut.failed:
            # begun again it would save what has changed since
            return [_late(message.attempt, -1, cut.failed)]
        cut.complete = cut.complete or message.complete
        return self._go_on_with(cut)

    def _give_up_cut(self, cut: Cut, why: str) -> Send:
        """Nothing comes of this attempt here, however often the scheduler asks."""
        cut.failed = why
        cut.taken.clear()
        return _late(cut.order.attempt, -1, why)

    def _why_late(self, message: m.Checkpoint) -> Send | None:
        """A cut that was passed already, or a server that does not know yet what it holds."""
        if any(s.stage is Stage.CATCHING_UP for s in self._shards):
            return _late(message.attempt, -1, f"{self.node} is catching up")
        passed = -1
        for chunk in self._chunks.values():
            ledger = chunk.ledger
            if chunk.shard.decides and isinstance(ledger, SyncLedger) and ledger.last_closed:
                passed = max(passed, ledger.last_closed.step)
        if message.at >= 0 and passed >= message.at:
            return _late(message.attempt, passed, "")
        return None

    def _cut_before(self, chunk: Chunk, step: int) -> None:
        """A round of `step` is about to be reduced on this settled chunk."""
        cut = self._cut
        if cut is None or cut.failed or not isinstance(chunk.ledger, SyncLedger):
            return
        number = chunk.shard.number
        if chunk.stored.id in cut.taken or number in cut.writing or number in cut.written:
            return
        if step >= cut.order.at:
            self._take(cut, chunk)

    def _take(self, cut: Cut, chunk: Chunk) -> None:
        stored = chunk.stored
        arrays, image = stored.image()
        extra = {
            "optimizer_number": stored.optimizer_number,
            "base_version": stored.base_version,
            "hyper": dict(stored.hyper),
        }
        cut.taken[stored.id] = SavedChunk(stored.id, stored.version, tuple(arrays), image, extra)

    def _go_on_with(self, cut: Cut) -> list[Effect]:
        """Take what may be taken, write what is whole, tell what is written."""
        if {s.number: s.view for s in self._shards if s.decides} != cut.views:
            return [self._give_up_cut(cut, f"{self.node} has another part in the shards")]
        effects: list[Effect] = []
        if cut.complete:
            if without := self._without_updater():
                return [self._give_up_cut(cut, without)]
            for number in cut.views:
                if number not in cut.writing and number not in cut.written:
                    effects += self._write(cut, self._shards[number])
        if len(cut.written) == len(cut.views) and cut.complete:
            effects.append(self._parts(cut))
        elif cut.order.hold and len(cut.writing) + len(cut.written) == len(cut.views):
            taken = m.CheckpointTaken(attempt=cut.order.attempt, covered=_covered(cut))
            effects.append(Send(SCHEDULER, taken))
        return effects

    def _without_updater(self) -> str:
        """Why there is nothing to save: sums of contributions are not weights (R27)."""
        for shard in self._shards:
            for chunk_id in shard.chunks if shard.decides else ():
                chunk = self._chunks[chunk_id]
                if chunk.stored.version and not chunk.stored.optimizer_number:
                    return (
                        f"key {chunk.entry.spec.name!r} of store {chunk.entry.store} has no "
                        "optimizer on the servers, so its weights are not there; set "
                        "update_on_kvstore=True, or save them from the script"
                    )
        return ""

    def _write(self, cut: Cut, shard: Shard) -> list[Effect]:
        """A shard of which every chunk is taken, or can be taken now."""
        chunks = [self._chunks[c] for c in sorted(shard.chunks)]
        for chunk in chunks:
            if chunk.stored.id not in cut.taken:
                if not self._is_settled(chunk):
                    return []
                self._take(cut, chunk)
                ledger, store = chunk.ledger, chunk.entry.store
                if isinstance(ledger, SyncLedger) and ledger.last_closed:
                    step = ledger.last_closed.step + 1
                    cut.closed[store] = max(step, cut.closed.get(store, 0))
        if not chunks:
            cut.written[shard.number] = None
            return []
        cut.writing.add(shard.number)
        saved = tuple(cut.taken.pop(chunk.stored.id) for chunk in chunks)
        view, order = cut.views[shard.number], cut.order
        name = f"part-{order.run}-{order.attempt}-{shard.number}-{view.scheduler}.{view.counter}"
        file = name + ".safetensors"
        return [SavePart(order.attempt, order.directory, file, shard.number, view, saved)]

    def _cut_settled(self, chunk: Chunk) -> None:
        """A record was committed: a shard that waited for it may be written now."""
        cut = self._cut
        number = chunk.shard.number
        if cut is None or cut.failed or not cut.complete or number not in cut.views:
            return
        if number not in cut.writing and number not in cut.written:
            for effect in self._go_on_with(cut):
                self._replies.push(effect)

    def _on_part_written(self, message: PartWritten) -> list[Effect]:
        cut = self._cut
        if cut is None or cut.failed or message.attempt != cut.order.attempt:
            return []
        if message.part is None:
            return [self._give_up_cut(cut, message.error)]
        cut.writing.discard(message.shard)
        cut.written[message.shard] = message.part
        return self._go_on_with(cut)

    def _parts(self, cut: Cut) -> Send:
        stores = tuple(
            SavedStore(number, "", False, 0, store.optimizers.name, store.optimizers.config)
            for number, store in sorted(self._stores.items())
            if store.optimizers.installed
        )
        return Send(
            SCHEDULER,
            m.CheckpointParts(
                attempt=cut.order.attempt,
                covered=_covered(cut),
                parts=tuple(p for _, p in sorted(cut.written.items()) if p is not None),
                stores=stores,
                closed=tuple(StoreClock(s, step) for s, step in sorted(cut.closed.items())),
            ),
        )


def _covered(cut: Cut) -> tuple[m.Covered, ...]:
    return tuple(m.Covered(number, view) for number, view in sorted(cut.views.items()))


def _late(attempt: int, passed: int, error: str) -> Send:
    return Send(SCHEDULER, m.CheckpointLate(attempt=attempt, passed=passed, error=error))

# SPDX-License-Identifier: Apache-2.0
"""Contributions: who is in which round, what closes, what a repeat is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from kvtrain.errors import (
    JobError,
    KVTrainError,
    OutOfStep,
    RemoteProtocolError,
    to_wire,
)
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.backup import BackupLedger
from kvtrain.ps.core.codecs import decoded
from kvtrain.ps.core.effects import Effect, Send
from kvtrain.ps.core.membership import SCHEDULER, NodeId, Round
from kvtrain.ps.core.memory import intact
from kvtrain.ps.core.rounds import STEPLESS, AsyncLedger, Part, Standing, SyncLedger
from kvtrain.ps.core.row_arithmetic import check_lazy
from kvtrain.ps.core.row_table import StoredRows
from kvtrain.ps.core.rows import check_packed, unpack
from kvtrain.ps.core.server.folds import Folds
from kvtrain.ps.core.server.state import Chunk, Store

Array = np.ndarray[Any, Any]


class Contributions(Folds):
    """Takes pushes and questions about them (PROTOCOL R10-R12, R41)."""

    def _on_push(self, sender: NodeId, message: m.Push, now: float) -> list[Effect]:
        if len(message.arrays) != len(message.chunks):
            raise RemoteProtocolError("Push: as many arrays as chunks are needed")
        store = self._store(message.store)
        effects: list[Effect] = []
        for part, array in zip(message.chunks, message.arrays, strict=True):
            chunk = self._chunks.get(part.chunk)
            if chunk is None:
                alone = replace(message, chunks=(part,), arrays=(array,))
                self._keep_early(sender, part.chunk, part.round, alone, now)
                continue
            if not self._takes(sender, chunk.shard, part.view, now):
                continue
            more = self._contribute(sender, message, part, array, chunk, store, now)
            if more:
                effects += more
        return effects

    def _contribute(
        self,
        sender: NodeId,
        message: m.Push,
        given: m.Contribution,
        array: np.ndarray[Any, Any],
        chunk: Chunk,
        store: Store,
        now: float,
    ) -> list[Effect]:
        # a repeat is answered without a look at its bytes: its slot may hold others by now (R34)
        repeat = given.empty or chunk.ledger.is_over(sender, given.round)
        try:
            values = None if repeat else self._values(chunk, given, array)
        except KVTrainError:
            if intact(array):
                raise
            return []
        part = Part(
            node=sender,
            round=given.round,
            array=values,
            want=message.want,
            rescale_grad=message.rescale_grad,
            hyper=message.hyper,
            request=message.request,
        )
        without = chunk.entry.store not in chunk.shard.optimizers
        if isinstance(chunk.ledger, AsyncLedger) and without:
            raise JobError(
                f"key {chunk.entry.spec.name!r}: an async store applies each push by an optimizer, "
                "and none was set; call kv.set_optimizer(...) before the first push"
            )
        if isinstance(chunk.ledger, BackupLedger):
            self._check_backup(chunk, without)
            self._goes_on(chunk, part)
        if without and self.settings.on_worker_loss == "restart":
            raise JobError(
                f"key {chunk.entry.spec.name!r}: --on-worker-loss restart needs weights on the "
                "servers, and the store has no optimizer; set update_on_kvstore=True"
            )
        if self._account.limit and part.array is not None and isinstance(chunk.stored, StoredRows):
            ids, _ = unpack(np.asarray(part.array), chunk.stored.width, chunk.stored.dtype)
            keeps = self._keeps and isinstance(chunk.ledger, SyncLedger)
            more = chunk.stored.growth(ids, keeps)
            self._account.check(message.store, *more, f"rows of key {chunk.entry.spec.name!r}")
        if without and (self.settings.checkpoint_rounds or self.settings.checkpoint_seconds):
            raise JobError(
                f"key {chunk.entry.spec.name!r}: checkpoints (--checkpoint-dir, "
                "--checkpoint-every) need weights on the servers, and the store has no "
                "optimizer; set update_on_kvstore=True"
            )
        held = isinstance(chunk.ledger, SyncLedger) and chunk.ledger.holds(sender, part.round)
        if not held and not self._keep_part(chunk, part):
            return []
        standing = chunk.ledger.accept(part, now)
        if standing is not Standing.NEW and not held:
            self._account.let_go(part.array)
        if standing is Standing.NEW:
            store.counters["contributions"] += 1
            store.counters["pushes"] += given.chunk.part == 0
            store.counters["bytes_in"] += 0 if given.empty else int(array.nbytes)
        else:
            store.counters["absorbed"] += 1
        if standing is Standing.COUNTED:
            self._answer_again(chunk, part)
            return []
        if standing is Standing.BEHIND and isinstance(chunk.ledger, BackupLedger):
            self._too_late(chunk, chunk.ledger, part)
            return []
        if standing is Standing.BEHIND:
            return self._out_of_step(sender.rank, chunk, given.round, now)
        if standing is Standing.TOO_FAR:
            return []
        self._close_what_can_be(chunk)
        if self.settings.on_worker_loss == "restart" and not message.step:
            pushes = given.round.n + isinstance(chunk.ledger, SyncLedger)
            if pushes >= STEPLESS:
                return self._never_ends_a_step(chunk, pushes, now)
        if isinstance(chunk.ledger, SyncLedger) and len(chunk.ledger.open) > 1:
            skipped = chunk.ledger.skipped(self._live_of(chunk.entry.store))
            if skipped is not None:
                return self._out_of_step(skipped[0], chunk, skipped[1], now)
        return []

    def _check_backup(self, chunk: Chunk, without: bool) -> None:
        name = chunk.entry.spec.name
        if without:
            raise JobError(
                f"key {name!r}: backup workers need weights on the servers (R27), and the store "
                "has no optimizer; call kv.set_optimizer(...), or set update_on_kvstore=True"
            )
        if self.settings.on_worker_loss == "restart":
            raise JobError(
                f"key {name!r}: backup workers and --on-worker-loss restart exclude each other: "
                "what a worker repeats, a round may have closed without; use shrink"
            )

    def _too_late(self, chunk: Chunk, ledger: BackupLedger, part: Part) -> None:
        """Its round has closed without it: it is told once that record is committed (R1, R39)."""
        if ledger.is_old(part.node, part.round):
            return
        part.dropped, part.array = True, None
        if ledger.drops(part):
            self._store(chunk.entry.store).dropped[part.node.rank] += 1
        self._answer_again(chunk, part)

    @staticmethod
    def _values(chunk: Chunk, given: m.Contribution, array: Array) -> Array:
        """The values of a contribution; of a row-sparse key its rows, packed and checked."""
        if not isinstance(chunk.stored, StoredRows):
            return decoded(chunk.entry, given.chunk, given.codec, array)
        check_packed(chunk.entry, given.chunk, given.codec, array, "push")
        optimizers = chunk.shard.optimizers.get(chunk.entry.store)
        if optimizers is not None:
            check_lazy(chunk.entry, chunk.stored, optimizers)
        return array

    def _on_push_query(self, sender: NodeId, message: m.PushQuery, now: float) -> list[Effect]:
        missing: list[m.Query] = []
        for query in message.chunks:
            chunk = self._chunks.get(query.chunk)
            if chunk is None:
                early = (sender, query.chunk, message.request, query.round)
                if early not in self._early:
                    missing.append(query)
            elif not self._takes(sender, chunk.shard, query.view, now):
                continue
            elif chunk.ledger.has_counted(sender, query.round):
                part = Part(sender, query.round, None, query.want, request=message.request)
                self._answer_again(chunk, part)
            elif isinstance(chunk.ledger, BackupLedger) and chunk.ledger.is_over(
                sender, query.round
            ):
                part = Part(sender, query.round, None, query.want, request=message.request)
                self._too_late(chunk, chunk.ledger, part)
            elif not chunk.ledger.holds(sender, query.round):
                missing.append(query)
        if missing:
            answer = m.Missing(store=message.store, request=message.request, chunks=tuple(missing))
            self._replies.send(sender, answer)
        return []

    def _never_ends_a_step(self, chunk: Chunk, pushes: int, now: float) -> list[Effect]:
        """Where a restarted worker goes on could not be named (R25)."""
        error = JobError(
            f"key {chunk.entry.spec.name!r} was pushed {pushes} times in step 0: --on-worker-loss "
            "restart needs a script that ends steps; call Trainer.step or kv.tick()"
        )
        return self._fail_job(error, now)

    def _out_of_step(self, rank: int, chunk: Chunk, round_: Round, now: float) -> list[Effect]:
        error = OutOfStep(
            f"worker-{rank} skipped round (step {round_.step}, push {round_.n}) of key "
            f"{chunk.entry.spec.name!r}, for which other workers wait; every worker must push "
            "the same keys equally often in each step"
        )
        return self._fail_job(error, now)

    def _fail_job(self, error: KVTrainError, now: float) -> list[Effect]:
        """Nothing goes on after this: the scheduler is told until it says so."""
        self._failed = True
        name, fields = to_wire(error)
        failure = m.Failure(name=name, fields=tuple(map(str, fields)))
        return self._outbox.ask("failure", lambda: [Send(SCHEDULER, failure)], now)

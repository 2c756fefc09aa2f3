# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the job: when, at which cut, and the manifest, which comes last (R49-R51).

One attempt at a time. In sync every chunk is saved as it is before its first round of step C,
without a stop; C lies far enough ahead that no primary has passed it. When every worker has
passed C, the servers save what had no later round. A worker that asks for a checkpoint stands
still with everything acknowledged, so no sync round can close: what is committed is the cut.
Where keys close no rounds the workers stop for a moment (``standstill``). An attempt is given up
and repeated with a later C when a primary was late, the table changed or the stop failed.
"""

from __future__ import annotations

from dataclasses import asdict, replace

from kvtrain.errors import CheckpointError, KVTrainError, ServerLost, WorkerLost
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Discard, Effect, Journal, Note, Publish, Send
from kvtrain.ps.core.membership import Epoch, NodeId, StoreClock
from kvtrain.ps.core.messages.disk import Published
from kvtrain.ps.core.roster import Node
from kvtrain.ps.core.saved import SavedJob, SavedStore
from kvtrain.ps.core.scheduler.attempts import NOW, Attempt
from kvtrain.ps.core.scheduler.standstill import Standstills
from kvtrain.ps.core.scheduler.state import Phase

#: attempts in a row that may be late or disturbed before the checkpoint is given up
MOST_TRIES = 20
#: ... and of which the workers come to a stop, before it is taken while they run
STOPS = 3
#: attempts of earlier schedulers of the job have lower numbers
PER_SCHEDULER = 1_000_000
_KEY = "checkpoint"


class Checkpoints(Standstills):
    """Begins attempts, collects parts, has the manifest written."""

    _attempts = 0
    #: the next automatic one: at this step, or at this time
    _save_step: int | None = None
    _save_at: float | None = None
    #: workers that wait for a checkpoint while another one is made
    _queue: tuple[tuple[NodeId, m.SaveCheckpoint], ...] = ()
    #: (directory, clocks) of the last checkpoint that workers asked for, and its path
    _last: tuple[str, tuple[StoreClock, ...], str] | None = None

    def resume(self, job: SavedJob) -> None:
        """Go on from a checkpoint; called before :meth:`start`."""
        self.directory.restore(job)

    def _journal_resumed(self) -> list[Effect]:
        """The keys of the checkpoint that the job goes on from."""
        entries = [asdict(entry) for entry in self.directory.keys.values()]
        return [Journal({"kind": "keys", "entries": entries})] if entries else []

    def _has_installed(self, node: Node, epoch: Epoch) -> list[Effect]:
        """The first cut is ordered before any worker can have passed it."""
        formed = self._formed
        effects = super()._has_installed(node, epoch)
        if self._formed and not formed and self.settings.checkpoint_rounds:
            return self._begin_due(node.last_seen) + effects
        return effects

    # ---- when ------------------------------------------------------------------------------

    def _on_save_checkpoint(
        self, node: Node, message: m.SaveCheckpoint, now: float
    ) -> list[Effect]:
        """A worker waits, standing still, for a checkpoint of this moment."""
        directory = message.directory or self.settings.checkpoint_dir
        if not directory:
            raise CheckpointError(
                "save_checkpoint: give a directory, or start the job with --checkpoint-dir"
            )
        last = self._last
        if last is not None and last[:2] == (directory, message.clocks):
            return [self._saved(node.id, message.request, last[2])]
        asker = (node.id, message.request)
        attempt = self._attempt
        if attempt is not None and attempt.askers and attempt.directory == directory:
            if not attempt.publishing and asker not in attempt.askers:
                attempt.askers.append(asker)
                attempt.clocks[node.id] = message.clocks
            return []
        if attempt is not None:
            if attempt.askers or attempt.publishing:
                if (node.id, message) not in self._queue:
                    self._queue = (*self._queue, (node.id, message))
                return []
            # an automatic one waits for steps that this worker may only make afterwards
            released = self._give_up()
            return released + self._begin_by_hand(directory, asker, message, now)
        return self._begin_by_hand(directory, asker, message, now)

    def _begin_by_hand(
        self, directory: str, asker: tuple[NodeId, int], message: m.SaveCheckpoint, now: float
    ) -> list[Effect]:
        clocks = {asker[0]: message.clocks}
        return self._begin(directory, self._where_by_hand(), now, askers=[asker], clocks=clocks)

    def _where_by_hand(self) -> int:
        """Who asks stands still, and everybody with it, unless rounds close without."""
        return self._highest() + 2 if self._closes_without() else NOW

    def _on_declare(self, node: Node, message: m.Declare, now: float) -> list[Effect]:
        """The first keys that close no rounds: the first cut was ordered before they were."""
        effects = super()._on_declare(node, message, now)
        attempt = self._attempt
        if attempt is None or attempt.hold is not None or attempt.running or attempt.publishing:
            return effects
        if attempt.askers or attempt.final or not self._must_hold():
            return effects
        return effects + self._give_up() + self._begin_due(now)

    def _look(self, now: float) -> list[Effect]:
        """Once per heartbeat: is one due, is one disturbed, has everybody passed the cut?"""
        effects = super()._look(now)
        if self.phase is not Phase.RUNNING or not self._formed:
            return effects
        attempt = self._attempt
        if attempt is None:
            return effects + self._begin_due(now)
        if attempt.publishing:
            return effects
        if attempt.askers and not self._askers(attempt) & set(self._present()):
            return effects + self._fail_attempt("who asked for it is gone", now)
        if attempt.spoiled or attempt.table != self._disturbing():
            return effects + self._again(self._highest() + 2, now)
        if self._hold_is_broken(attempt, now):
            return effects + self._again(self._highest() + 2, now)
        if attempt.hold is not None:
            effects += self._if_all_hold(attempt, now)
            effects += self._if_all_saved(attempt, now)
        elif not attempt.complete and self._all_passed(attempt):
            attempt.complete = True
            effects += self._order(attempt, now)
        if now - attempt.since >= self.settings.round_timeout:
            story = f"not all parts came within {now - attempt.since:.0f} s"
            effects += self._fail_attempt(story, now)
        return effects

    def _begin_due(self, now: float) -> list[Effect]:
        settings = self.settings
        if not settings.checkpoint_dir or self._elections:
            return []
        if settings.checkpoint_rounds:
            step = settings.checkpoint_rounds
            if self._save_step is None:
                # nobody has made a step of this run yet: the first multiple is still ahead
                first = max(self.directory.resume.values(), default=0)
                self._save_step = (first // step + 1) * step
            if self._must_hold() and not self._has_common_step():
                # each worker stops where it is, once the first one is there
                if self._highest() < self._save_step:
                    return []
            return self._begin(settings.checkpoint_dir, self._save_step, now)
        if settings.checkpoint_seconds:
            if self._save_at is None:
                self._save_at = now + settings.checkpoint_seconds
            if now >= self._save_at:
                return self._begin(settings.checkpoint_dir, self._highest() + 2, now)
        return []

    def _schedule(self, now: float) -> None:
        """When the next automatic one is."""
        self._save_at = now + self.settings.checkpoint_seconds
        step = self.settings.checkpoint_rounds
        if step:
            self._save_step = ((self._highest() + 1) // step + 1) * step

    # ---- an attempt ------------------------------------------------------------------------

    def _begin(
        self,
        directory: str,
        at: int,
        now: float,
        askers: list[tuple[NodeId, int]] | None = None,
        clocks: dict[NodeId, tuple[StoreClock, ...]] | None = None,
        tries: int = 0,
        final: bool = False,
        running: bool = False,
    ) -> list[Effect]:
        self._attempts += 1
        attempt = self._attempt = Attempt(
            number=self.node.incarnation * PER_SCHEDULER + self._attempts,
            directory=directory,
            at=at,
            askers=askers or [],
            clocks=clocks or {},
            since=now,
            tries=tries,
            table=self._disturbing(),
            final=final,
            running=running,
        )
        if self._must_hold() and not final and not running:
            # until everybody stands still it is not known of which moment it is
            at, attempt.at = self._where_to_hold(bool(askers), at), NOW
            return self._stop_workers(attempt, at, now)
        attempt.complete = at == NOW
        return self._order(attempt, now)

    def _order(self, attempt: Attempt, now: float) -> list[Effect]:
        """Tell every primary, again and again until it has answered."""
        order = m.Checkpoint(
            epoch=self.epoch,
            attempt=attempt.number,
            directory=attempt.directory,
            run=self.settings.run or "run",
            at=attempt.at,
            complete=attempt.complete,
            hold=attempt.hold is not None,
        )

        def again() -> list[Effect]:
            assert self.table is not None
            missing = {
                info.replicas[0]
                for n, info in enumerate(self.table.shards)
                if n not in attempt.covered
            }
            return [Send(server, order) for server in sorted(missing)]

        return self._outbox.ask(_KEY, again, now)

    def _on_checkpoint_parts(
        self, node: Node, message: m.CheckpointParts, now: float
    ) -> list[Effect]:
        attempt = self._attempt
        if attempt is None or message.attempt != attempt.number or attempt.publishing:
            return []
        if attempt.table != self._disturbing():
            return self._again(self._highest() + 2, now)
        assert self.table is not None
        for shard in message.covered:
            if not 0 <= shard.shard < len(self.table.shards):
                continue
            info = self.table.shards[shard.shard]
            if info.view == shard.view and info.replicas[0] == node.id:
                attempt.covered[shard.shard] = shard.view
        for part in message.parts:
            if attempt.covered.get(part.shard) == part.view:
                attempt.parts[part.shard] = part
        for store in message.stores:
            attempt.stores[store.number] = store
        for clock in message.closed:
            attempt.closed[clock.store] = max(clock.step, attempt.closed.get(clock.store, 0))
        if len(attempt.covered) < len(self.table.shards):
            return []
        if attempt.hold is not None and not attempt.hold.over:
            return self._let_workers_go(attempt, now) + self._if_all_saved(attempt, now)
        return self._if_all_saved(attempt, now)

    def _if_all_saved(self, attempt: Attempt, now: float) -> list[Effect]:
        assert self.table is not None
        if attempt is not self._attempt or attempt.publishing or not self._hold_ended(attempt):
            return []
        if len(attempt.covered) < len(self.table.shards):
            return []
        return self._publish_attempt(attempt, now)

    def _publish_attempt(self, attempt: Attempt, now: float) -> list[Effect]:
        """All parts are on the disk: the manifest, last of all."""
        self._outbox.answered(_KEY)
        held = {chunk for part in attempt.parts.values() for chunk in part.chunks}
        entries = sorted(self.directory.keys.values(), key=lambda entry: entry.id)
        keys = [entry for entry in entries if any(chunk in held for chunk in entry)]
        if sum(entry.chunks for entry in keys) != len(held):
            # keys that came into being meanwhile are there in part
            return self._again(self._highest() + 2, now)
        attempt.publishing = True
        kind = self._kind(attempt)
        stores = []
        for number, (type_, sync, _) in sorted(self.directory.stores.items()):
            optimizer = attempt.stores.get(number, SavedStore(number, type_, sync))
            step = self._step_of(attempt, number)
            stores.append(replace(optimizer, number=number, type=type_, sync=sync, step=step))
        parts = tuple(part for _, part in sorted(attempt.parts.items()))
        job = SavedJob(kind, tuple(stores), tuple(keys), parts)
        return [Publish(attempt.number, attempt.directory, job)]

    def _on_checkpoint_late(
        self, node: Node, message: m.CheckpointLate, now: float
    ) -> list[Effect]:
        attempt = self._attempt
        if attempt is None or message.attempt != attempt.number or attempt.publishing:
            return []
        if message.error and attempt.table == self._disturbing() and message.passed < 0:
            if "catching up" not in message.error and "another part" not in message.error:
                return self._fail_attempt(message.error, now)
            attempt.spoiled = True  # the table is on its way
            return []
        return self._again(max(message.passed, self._highest()) + 2, now)

    def _again(self, at: int, now: float) -> list[Effect]:
        """The same once more, with a later cut; a little further ahead each time."""
        attempt = self._attempt
        assert attempt is not None
        tries = attempt.tries + 1
        if tries > MOST_TRIES:
            return self._fail_attempt(f"it was disturbed {tries} times in a row", now)
        stopped = attempt.hold is not None
        running = attempt.running or (stopped and (tries >= STOPS or bool(attempt.askers)))
        effects = self._give_up()
        at += 1 << min(tries, 10)
        step = self.settings.checkpoint_rounds
        if step and not attempt.askers:
            at = -(-at // step) * step
        if attempt.askers or attempt.final:
            at = at if attempt.askers and self._closes_without() else NOW
        return effects + self._begin(
            attempt.directory,
            at,
            now,
            attempt.askers,
            attempt.clocks,
            tries,
            attempt.final,
            running,
        )

    def _give_up(self) -> list[Effect]:
        """There is no attempt any more; workers that hold for it go on."""
        attempt, self._attempt = self._attempt, None
        assert attempt is not None
        self._outbox.answered(_KEY)
        run = self.settings.run or "run"
        return [*self._release(attempt), Discard(attempt.number, attempt.directory, run)]

    # ---- its end ---------------------------------------------------------------------------

    def _fail_attempt(self, why: str, now: float) -> list[Effect]:
        """Loud; the previous checkpoint stays and the job goes on."""
        attempt = self._attempt
        assert attempt is not None
        released = self._give_up()
        text = f"checkpoint at {attempt.directory} was given up: {why}; the previous one is kept"
        effects: list[Effect] = [*released, Note(text)]
        effects += self._answer_askers(attempt, CheckpointError(text))
        self._schedule(now)
        return effects + self._after_attempt(attempt, now)

    def _on_published(self, message: Published, now: float) -> list[Effect]:
        attempt = self._attempt
        if attempt is None or message.attempt != attempt.number:
            return []
        if message.error:
            return self._fail_attempt(message.error, now)
        self._attempt = None
        effects: list[Effect] = [
            Journal({"kind": "checkpoint", "path": message.path}),
            Note(f"checkpoint saved: {message.path}"),
        ]
        self._newest = message.path
        for asker, request in attempt.askers:
            effects.append(self._saved(asker, request, message.path))
        if attempt.askers:
            clocks = attempt.clocks[attempt.askers[0][0]]
            self._last = (attempt.directory, clocks, message.path)
        self._schedule(now)
        return effects + self._after_attempt(attempt, now)

    def _after_attempt(self, attempt: Attempt, now: float) -> list[Effect]:
        """Whoever waited for this one to end."""
        if self.phase is not Phase.RUNNING:
            return []
        if attempt.final or self._all_gone():
            # a cut beyond the last step is the end already
            over = attempt.final or attempt.at >= self._highest()
            return self._stop_everybody(now) if over else self._finish(now)
        waiting, self._queue = self._queue, ()
        effects: list[Effect] = []
        for node_id, message in waiting:
            node = self.roster.by_id.get(node_id)
            if node is not None and not node.exited:
                effects += self._checked(node, message, now, self._on_save_checkpoint)
        if self._attempt is None and self.settings.checkpoint_rounds:
            effects += self._begin_due(now)
        return effects

    def _saved(self, to: NodeId, request: int, path: str) -> Send:
        return Send(to, m.CheckpointSaved(request=request, epoch=self.epoch, path=path))

    def _answer_askers(self, attempt: Attempt, error: KVTrainError) -> list[Effect]:
        return [
            self._error(asker, m.SaveCheckpoint(request=request, directory="", clocks=()), error)
            for asker, request in attempt.askers
        ]

    def _finish(self, now: float) -> list[Effect]:
        """All workers have left: what they have trained is saved before the servers go."""
        wanted = self.settings.checkpoint_dir
        # who has left has been in the job, also if an earlier scheduler formed it
        formed = self._formed or self._all_gone()
        everything = self.table is not None and self.directory.keys and formed
        if self.phase is not Phase.RUNNING or not everything:
            return super()._finish(now)
        attempt = self._attempt
        if attempt is not None:
            # the end comes after it: everybody has passed its cut, or never will
            attempt.complete = True
            return [] if attempt.publishing else self._order(attempt, now)
        return self._begin(wanted, NOW, now, final=True) if wanted else super()._finish(now)

    def _fail(self, error: Exception, now: float) -> list[Effect]:
        """A loss that ends the job names the checkpoint to go on from."""
        if isinstance(error, ServerLost | WorkerLost):
            directory = self.checkpoint_to_resume().rpartition("/")[0]
            hint = "there is no checkpoint to go on from"
            if directory:
                hint = f"go on from the newest checkpoint with --resume {directory}"
            if directory or isinstance(error, ServerLost):
                error = type(error)(f"{error}; {hint}")
        return super()._fail(error, now)

    def checkpoint_to_resume(self) -> str:
        """The newest checkpoint of this run, or the one that it began with; empty: none."""
        return self._newest or self.settings.restore

    _newest = ""

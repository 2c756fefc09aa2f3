# SPDX-License-Identifier: Apache-2.0
"""The short stop for keys that close no rounds: hold, copy, go on (PROTOCOL R50).

Workers hold at one common step where they stay near each other (sync or bounded keys), else
each at the end of its own step. When all hold, the servers copy; when all is copied, the
workers go on, and the files are written meanwhile. The checkpoint counts as aligned only if
each worker says that it held until it was told to go on. Who takes too long, leaves, is lost or
joins meanwhile ends the attempt, never anybody's work: workers that hold ask again and again,
and whoever asks about an attempt that is over is told to go on.
"""

from __future__ import annotations

from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect, Send
from kvtrain.ps.core.roster import Node
from kvtrain.ps.core.scheduler.attempts import OWN, Attempt, Attempts, Standstill

_KEY, _OVER = "hold", "resume workers"


class Standstills(Attempts):
    """Stops the workers for an attempt, and lets them go."""

    def _stop_workers(self, attempt: Attempt, at: int, now: float) -> list[Effect]:
        """Ask everybody to hold, until everybody does."""
        hold = attempt.hold = Standstill(at)

        def again() -> list[Effect]:
            waited = [node for node in self._present() if node not in hold.clocks]
            order = m.Hold(epoch=self.epoch, attempt=attempt.number, at=at)
            return [Send(node, order) for node in waited if node not in self._askers(attempt)]

        return self._outbox.ask(_KEY, again, now) + self._if_all_hold(attempt, now)

    def _on_holding(self, node: Node, message: m.Holding, now: float) -> list[Effect]:
        attempt = self._attempt
        if attempt is None or attempt.number != message.attempt or attempt.hold is None:
            return [Send(node.id, m.Resume(epoch=self.epoch, attempt=message.attempt))]
        hold = attempt.hold
        if attempt.complete or attempt.publishing:
            return []
        if message.late:
            return self._again(max(c.step for c in message.clocks) + 2, now)
        hold.clocks[node.id] = message.clocks
        if hold.since is None:
            hold.since = now
        return self._if_all_hold(attempt, now)

    def _if_all_hold(self, attempt: Attempt, now: float) -> list[Effect]:
        """When nobody sends anything any more, the servers copy."""
        hold = attempt.hold
        waited = set(self._present()) - self._askers(attempt)
        if hold is None or attempt.complete or not waited <= hold.clocks.keys():
            return []
        assert self.table is not None
        left = [c.step for member in self.table.members for c in member.until or ()]
        if hold.at != OWN and waited and max(left, default=0) > hold.at:
            # somebody made more steps than that before it left
            return self._again(self._highest() + 2, now)
        hold.clocks.update(attempt.clocks)
        self._outbox.answered(_KEY)
        attempt.complete = True
        return self._order(attempt, now)

    def _on_checkpoint_taken(
        self, node: Node, message: m.CheckpointTaken, now: float
    ) -> list[Effect]:
        attempt = self._attempt
        if attempt is None or message.attempt != attempt.number or attempt.hold is None:
            return []
        assert self.table is not None
        for shard in message.covered:
            if self._is_current(node.id, shard.shard, shard.view):
                attempt.hold.taken.add(shard.shard)
        if len(attempt.hold.taken) < len(self.table.shards) or attempt.hold.over:
            return []
        return self._let_workers_go(attempt, now)

    def _let_workers_go(self, attempt: Attempt, now: float) -> list[Effect]:
        hold = attempt.hold
        if hold is None:
            return []
        hold.over = True
        asked = sorted(hold.clocks.keys() - self._askers(attempt))
        for node in self._askers(attempt):
            hold.ended[node] = True

        def again() -> list[Effect]:
            here = set(self._present())
            order = m.Resume(epoch=self.epoch, attempt=attempt.number)
            waited = [node for node in asked if node not in hold.ended and node in here]
            if not waited:
                self._outbox.answered(_OVER)
            return [Send(node, order) for node in waited]

        return self._outbox.ask(_OVER, again, now)

    def _on_resumed(self, node: Node, message: m.Resumed, now: float) -> list[Effect]:
        attempt = self._attempt
        if attempt is None or attempt.number != message.attempt or attempt.hold is None:
            return []
        if not message.held:
            return self._again(self._highest() + 2, now)
        attempt.hold.ended[node.id] = True
        if attempt.hold.clocks.keys() <= attempt.hold.ended.keys():
            self._outbox.answered(_OVER)
        return self._if_all_saved(attempt, now)

    def _release(self, attempt: Attempt) -> list[Effect]:
        """Nothing comes of it: whoever does not hear of it asks."""
        self._outbox.answered(_KEY)
        self._outbox.answered(_OVER)
        if attempt.hold is None:
            return []
        order = m.Resume(epoch=self.epoch, attempt=attempt.number)
        asked = [node for node in self._present() if node not in self._askers(attempt)]
        return [Send(node, order) for node in asked]

    def _hold_is_broken(self, attempt: Attempt, now: float) -> bool:
        """Whether the workers that hold are not those that should."""
        hold = attempt.hold
        if hold is None:
            return False
        here = set(self._present())
        if any(node not in here and node not in hold.ended for node in hold.clocks):
            return True
        if hold.over:
            return False
        if attempt.complete and not here <= hold.clocks.keys():
            return True
        return hold.since is not None and now - hold.since >= self.settings.hold_timeout

    def _hold_ended(self, attempt: Attempt) -> bool:
        """Whether every worker has said that it held, if there was a stop."""
        hold = attempt.hold
        return hold is None or (hold.over and hold.clocks.keys() <= hold.ended.keys())

    def _where_to_hold(self, by_hand: bool, at: int) -> int:
        """The step at which workers stop: a common one, if they come near each other."""
        return at if self._has_common_step() and not by_hand else OWN

    # ---- the rest of an attempt --------------------------------------------------------------

    def _order(self, attempt: Attempt, now: float) -> list[Effect]:
        """Tell every primary."""
        raise NotImplementedError

    def _again(self, at: int, now: float) -> list[Effect]:
        """The same once more."""
        raise NotImplementedError

    def _if_all_saved(self, attempt: Attempt, now: float) -> list[Effect]:
        """Publish what is complete."""
        raise NotImplementedError

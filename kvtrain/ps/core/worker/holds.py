# SPDX-License-Identifier: Apache-2.0
"""A short stop for a checkpoint of keys that close no rounds (PROTOCOL R50).

The worker goes on to the end of a step, has everything acknowledged, says so, and sends nothing
until it is told to go on. Its program waits only if it reads what it has pushed since. A
scheduler that is away keeps nobody: the stop has a deadline, and who went on by itself says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kvtrain.ps.core import messages as m
from kvtrain.ps.core import requests as r
from kvtrain.ps.core.effects import Effect, Send
from kvtrain.ps.core.membership import SCHEDULER, StoreClock
from kvtrain.ps.core.posting import ClientChunk, Packer
from kvtrain.ps.core.worker.clocks import TellsClocks


@dataclass(slots=True, eq=False)
class Hold:
    """A stop that was asked for."""

    attempt: int
    #: nothing of this step and later is sent
    at: int
    #: the same step for everybody
    common: bool = False
    #: everything before is acknowledged, and the scheduler is told so
    told: bool = False
    #: when this worker goes on in any case; None: nothing was held back yet
    until: float | None = None
    #: what waits for the end of it
    after: list[Callable[[float], list[Effect]]] = field(default_factory=list)

    def is_over(self, now: float) -> bool:
        """Whether it has lasted too long."""
        return self.until is not None and now >= self.until


class Holds(TellsClocks):
    """Stops at the end of a step, and goes on."""

    _hold: Hold | None = None
    #: the last attempt that this worker stood still for until it was told to go on ...
    _held: int = 0
    #: ... and the last one whose end it did not await
    _ran_on: int = 0

    def _on_hold(self, message: m.Hold, now: float) -> list[Effect]:
        hold = self._hold
        if message.attempt <= self._held or (hold and message.attempt <= hold.attempt):
            return []  # a repeat; if it is time to answer, the answer is repeated too
        at = message.at if message.at >= 0 else self._next_end()
        if message.attempt <= self._ran_on or (message.at >= 0 and self._is_beyond(at)):
            late = m.Holding(attempt=message.attempt, clocks=self._clocks(), late=True)
            return [Send(SCHEDULER, late)]
        effects = self._end_hold(now)
        self._hold = Hold(message.attempt, at, message.at >= 0)
        return effects + self._tell_hold(now)

    def _next_end(self) -> int:
        """The step at whose beginning this worker can hold first, the same in all stores."""
        steps = {store.step for store in self._stores if store.step}
        between = len(steps) < 2 and not any(store.pushed for store in self._stores)
        return max(steps, default=0) + (0 if between or self._stands_still() else 1)

    def _stands_still(self) -> bool:
        """Whether the program waits for a checkpoint itself."""
        asked = any(isinstance(o.request, r.SaveCheckpointRequest) for o in self._requests.values())
        return asked and not self._busy

    def _is_beyond(self, at: int) -> bool:
        """Whether something of step `at` or later was pushed already."""
        return any(s.step > at or (s.step == at and bool(s.pushed)) for s in self._stores)

    def _holds_back(self, step: int, now: float) -> bool:
        """Whether a contribution of `step` has to wait."""
        hold = self._hold
        if hold is None or not (hold.told or step >= hold.at):
            return False
        if hold.until is None:
            hold.until = now + 2 * self.settings.hold_timeout
        return True

    def _tell_hold(self, now: float) -> list[Effect]:
        """Say that this worker holds, once it does."""
        hold = self._hold
        if hold is None or hold.told:
            return []
        if not hold.common:
            # at its next reads it may wait for those who stand still already
            hold.at = min(hold.at, self._next_end())
        # a store in which this worker has not ended a step does not count beside others
        steps = [store.step for store in self._stores if store.step] or [0]
        if min(steps) < hold.at and not self._stands_still():
            return []
        for chunk_id in self._busy:
            chunk = self._chunks[chunk_id]
            if chunk.in_flight or any(posted.step < hold.at for posted in chunk.queue):
                return []
        if self._may_have_begun(hold) and not self._stands_still():
            late = m.Holding(attempt=hold.attempt, clocks=self._clocks(), late=True)
            return [Send(SCHEDULER, late), *self._end_hold(now)]
        hold.told = True
        hold.until = hold.until or now + 2 * self.settings.hold_timeout
        holding = m.Holding(attempt=hold.attempt, clocks=self._clocks())
        return self._outbox.ask("hold", lambda: [Send(SCHEDULER, holding)], now)

    def _may_have_begun(self, hold: Hold) -> bool:
        """Whether a store without a step may be in its first one, as others are in their second:
        a program takes turns between its stores."""
        first = [store for store in self._stores if not store.step]
        if hold.at > 1 or len(first) == len(self._stores):
            return False
        return any(hold.common or store.pushed for store in first)

    def _clocks(self) -> tuple[StoreClock, ...]:
        return tuple(StoreClock(i, store.step) for i, store in enumerate(self._stores))

    def _on_resume(self, message: m.Resume, now: float) -> list[Effect]:
        hold = self._hold
        effects: list[Effect] = []
        if hold is not None and hold.attempt <= message.attempt:
            if hold.attempt == message.attempt and hold.told:
                self._held = message.attempt
            effects = self._end_hold(now)
        resumed = m.Resumed(attempt=message.attempt, held=self._held == message.attempt)
        return [Send(SCHEDULER, resumed), *effects]

    def _end_hold(self, now: float) -> list[Effect]:
        """Send what has waited."""
        hold, self._hold = self._hold, None
        if hold is None:
            return []
        assert self.table is not None
        if self._held != hold.attempt:
            self._ran_on = max(self._ran_on, hold.attempt)
        self._outbox.answered("hold")
        packer = Packer(self.table)
        for chunk_id in sorted(self._busy):
            self._send_queued(self._chunks[chunk_id], packer, now)
        effects = packer.flush(self.epoch)
        for then in hold.after:
            effects += then(now)
        return effects

    def _after_hold(self, then: Callable[[float], list[Effect]], now: float) -> list[Effect]:
        """Do `then` when this worker does not stand still for a checkpoint."""
        if self._hold is not None and self._hold.told:
            self._hold.after.append(then)
            return []
        return then(now)

    def _send_queued(self, chunk: ClientChunk, packer: Packer, now: float) -> None:
        raise NotImplementedError

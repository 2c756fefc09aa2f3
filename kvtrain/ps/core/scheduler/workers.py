# SPDX-License-Identifier: Apache-2.0
"""Workers that are lost: the job stops, goes on without them, or has them started again.

With ``restart`` the rank stays in L(t) under a new incarnation, so rounds wait. The new
process is told the step that its predecessor died in, as the primaries have seen it in their
records (PROTOCOL R24, R25).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kvtrain.errors import WorkerLost
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.clocks import is_sync
from kvtrain.ps.core.effects import Effect, Journal, Note
from kvtrain.ps.core.membership import Epoch, NodeId, Role, StoreClock
from kvtrain.ps.core.roster import Node
from kvtrain.ps.core.scheduler.joins import Joins
from kvtrain.ps.core.scheduler.state import Phase, Resuming

#: a worker that dies so often in one step is not started again
DEATHS = 5


class WorkerLosses(Joins):
    """abort, shrink, restart."""

    def _worker_lost(self, node: Node, story: str, now: float) -> list[Effect]:
        assert self.table is not None
        member = self.table.member(node.id.rank)
        if member is None or member.node != node.id:
            return []
        if member.proposed:
            note = Note(f"lost {story}, before it had joined")
            return [note, *self._withdraw(node, "this process was declared dead", now)]
        restart = self.settings.on_worker_loss == "restart" and self._can_be_restarted(node)
        if restart and self.phase is Phase.RUNNING:
            return self._restart(node, story, now)
        self._counter += 1
        self.table = self.table.with_member(self.epoch, replace(member, lost=True))
        if self.settings.on_worker_loss == "abort" or self._all_gone():
            return [self._journal_table(), *self._fail(WorkerLost(f"lost {story}"), now)]
        note = Note(f"lost {story}; the job goes on without it")
        return [note, *self._publish(now), *self._complete_barriers()]

    def _can_be_restarted(self, node: Node) -> bool:
        """Whether somebody will start it again: nobody does so with a worker that joined by
        hand, and the job goes on without it."""
        assert self.table is not None
        member = self.table.member(node.id.rank)
        joined = member is not None and bool(member.begins)
        return not (joined and node.by_hand)

    def _restart(self, node: Node, story: str, now: float) -> list[Effect]:
        """The rank stays, under the next incarnation; the launcher starts it again."""
        assert self.table is not None
        rank = node.id.rank
        steps = {clock.store: clock.step for clock in node.clocks}
        place = sum(steps.values())
        died_at, deaths = self._deaths.get(rank, (-1, 0))
        deaths = deaths + 1 if died_at >= place else 1
        self._deaths[rank] = (max(place, died_at), deaths)
        if deaths >= DEATHS:
            text = f"lost {story}; it was lost {deaths} times in a row without ending a step"
            return self._fail(WorkerLost(text), now)
        member = self.table.member(rank)
        assert member is not None
        successor = NodeId(Role.WORKER, rank, self.roster.next_incarnation(Role.WORKER, rank))
        self.roster.incarnations[(int(Role.WORKER), rank)] = successor.incarnation
        self._resuming[rank] = Resuming(successor, clocks=node.clocks)
        self._counter += 1
        changed = replace(member, node=successor, resuming=True)
        self.table = self.table.with_member(self.epoch, changed)
        note = Note(f"lost {story}; it is started again")
        effects = [note, *self._publish(now), self._start_process(node)]
        return effects + self._outbox.ask("resume", self._unanswered, now)

    def _unanswered(self) -> list[Effect]:
        """The table again, for servers that have not said what they have seen."""
        if self.table is None or not (self._resuming or self._joiners):
            self._outbox.answered("resume")
            return []
        behind: list[Effect] = []
        for node in self._asked():
            answers: list[tuple[Epoch, Any] | None] = [
                joiner.answers.get(node) for joiner in self._joiners.values()
            ]
            if node.role == Role.SERVER:
                answers += [resuming.seen.get(node) for resuming in self._resuming.values()]
            if not all(a is not None and a[0] == self.epoch for a in answers):
                behind.append(self._table_update(self.roster.by_id[node]))
        return behind

    # ---- the successor ---------------------------------------------------------------------

    def _successor(self, node: Node, now: float) -> list[Effect]:
        """The process in a lost worker's place has said Hello."""
        self._resuming[node.id.rank].node = node
        return self._tell_where(now)

    def _on_resume_steps(self, server: Node, message: m.Installed, now: float) -> list[Effect]:
        """What a server's shards have seen of workers that go on."""
        for resuming in self._resuming.values():
            seen = {s.store: s.step for s in message.seen if s.node == resuming.id}
            resuming.seen[server.id] = (message.epoch, seen)
        return self._tell_where(now) if self._resuming else []

    def _tell_where(self, now: float) -> list[Effect]:
        """Welcome successors for whom every server has answered under the present table."""
        assert self.table is not None
        effects: list[Effect] = []
        for rank, resuming in list(self._resuming.items()):
            node = resuming.node
            answers = [resuming.seen.get(info.node) for info in self.table.servers]
            current = all(a is not None and a[0] == self.epoch for a in answers)
            if node is None or not current or self._elections:
                continue
            steps: dict[int, int] = {}
            for answer in answers:
                for store, step in (answer[1] if answer else {}).items():
                    steps[store] = max(step, steps.get(store, 0))
            node.resume = tuple(
                StoreClock(store, self._resume_step(store, steps.get(store, 0), rank))
                for store in sorted(self.directory.stores)
            )
            node.clocks = node.resume
            for clock in node.resume:
                # what it called before its first contribution is over for it (R48)
                self.barriers.reached[(clock.store, rank)] = (clock.step, 1 << 62)
            del self._resuming[rank]
            steps_plain = [[clock.store, clock.step] for clock in node.resume]
            effects.append(Journal({"kind": "resume", "node": list(node.id), "steps": steps_plain}))
            member = self.table.member(rank)
            assert member is not None
            self._counter += 1
            self.table = self.table.with_member(self.epoch, replace(member, resuming=False))
            effects += self._publish(now)
            effects += [self._welcome(node), *self._complete_barriers()]
        return effects

    def _resume_step(self, store: int, seen: int, rank: int) -> int:
        """The step that was seen on keys that close rounds; where there are none the lowest live
        clock (R42), or its own as it was last told if nobody else is there."""
        assert self.table is not None
        member = self.table.member(rank)
        seen = max(seen, member.from_step(store) if member is not None else 0)
        default = self.directory.stores[store][1]
        keys = [entry for entry in self.directory.keys.values() if entry.store == store]
        if any(is_sync(e.spec.consistency, default) for e in keys) or not keys:
            return seen
        clocks = [
            clock.step
            for node in self.roster.of_role(Role.WORKER)
            for clock in node.clocks
            if clock.store == store and node.is_here() and node.id.rank != rank
        ]
        own = (c.step for c in self._resuming[rank].clocks if c.store == store)
        return min(clocks, default=max(own, default=seen))

    def _awaited(self, hello: m.Hello) -> NodeId | None:
        """Whose place a worker that says Hello in a running job takes."""
        waiting = [r for r in self._resuming.values() if r.node is None]
        found = [r for r in waiting if hello.rank in (-1, r.id.rank)]
        if not hello.launch_token:
            # one that was started by hand takes no place that the launcher fills
            started = {s.rank for s in self.roster.started.values() if s.role == Role.WORKER}
            found = [r for r in found if r.id.rank not in started]
        return found[0].id if found else None

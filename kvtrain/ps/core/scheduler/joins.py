# SPDX-License-Identifier: Apache-2.0
"""Workers that join the running job (PROTOCOL R23).

proposed -> confirmed. A table names the joiner with the step J from which it takes part; every
primary installs it and says what has closed there, every worker in which step it is. Where J has
begun already, a later table names a higher one. When all have installed the table, the joiner is
told: before that it sends no data. A script whose place cannot be named by steps, or whose
weights are not on the servers, cannot be joined (R25, R27).
"""

from __future__ import annotations

from dataclasses import replace

from kvtrain._version import __version__
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.clocks import is_sync
from kvtrain.ps.core.effects import Effect, Journal, Note, Send
from kvtrain.ps.core.membership import Member, NodeId, Role, StoreClock, with_joiner
from kvtrain.ps.core.roster import Node
from kvtrain.ps.core.rounds import STEPLESS
from kvtrain.ps.core.scheduler.agreements import Agreements
from kvtrain.ps.core.scheduler.state import Joiner, Phase

#: steps between the highest clock that was seen and the joiner's first
AHEAD = 2
Far = dict[int, m.Progress]


class Joins(Agreements):
    """Proposes, asks, confirms or refuses."""

    # ---- proposed --------------------------------------------------------------------------

    def _propose(self, sender: NodeId, hello: m.Hello, token: str, now: float) -> list[Effect]:
        """Name the joiner in a table, with the step from which it is to take part."""
        assert self.table is not None
        rank = self._rank_for(hello.rank)
        if rank is None:
            held = self.table.member(hello.rank)
            text = f"rank {hello.rank} is not next: the job has {len(self.table.members)} workers"
            if held is not None:
                text = f"rank {hello.rank} is taken by {held.node} (host {held.host})"
            return [Send(sender, m.Refused(reason=text))]
        id_ = NodeId(Role.WORKER, rank, self.roster.next_incarnation(Role.WORKER, rank))
        node = self.roster.join(sender, token, id_, hello, now)
        begins = tuple(StoreClock(s, self._first_step(s)) for s in sorted(self.directory.stores))
        member = Member(id_, hello.host, hello.pid, begins=begins, proposed=True)
        self._joiners[rank] = Joiner(node, now)
        self._counter += 1
        self.table = with_joiner(self.table, self.epoch, member)
        self._expect_no_barriers(member)
        effects: list[Effect] = [self._journal_node(node), Send(sender, m.HeartbeatAck())]
        if hello.version != __version__:
            text = f"{node.where()} runs kvtrain {hello.version}, the scheduler {__version__}"
            effects.append(Note(text))
        effects += self._publish(now)
        effects += self._outbox.ask("resume", self._unanswered, now)
        return effects + self._complete_barriers()

    def _unanswered(self) -> list[Effect]:
        """The table again, for whoever has not said how far it is."""
        raise NotImplementedError

    def _rank_for(self, wanted: int) -> int | None:
        """The wanted rank if nobody has it; -1: that of a worker that is gone, or the next."""
        assert self.table is not None
        held = {member.node.rank for member in self.table.members}
        gone = {member.node.rank for member in self.table.members if member.gone}
        free = [*sorted(gone - self._resuming.keys()), max(held, default=-1) + 1]
        return free[0] if wanted < 0 else wanted if wanted in free else None

    def _first_step(self, store: int) -> int:
        """Two steps ahead of the highest clock seen; without rounds the lowest (R42)."""
        assert self.table is not None
        base = self._base(store)
        live = [member for member in self.table.members if not member.gone]
        clocks = [self._clock_of(member, store) for member in live]
        if not self._has_rounds(store):
            return min(clocks, default=base)
        for member in self.table.members:
            clocks += [c.step for c in member.until or () if c.store == store]
        highest = max(clocks, default=base)
        return base if highest <= base else highest + AHEAD

    def _base(self, store: int) -> int:
        """The first step of this run."""
        return self.directory.resume.get(store, 0)

    def _clock_of(self, member: Member, store: int) -> int:
        """A member's clock as far as it is known."""
        node = self.roster.by_id.get(member.node)
        clocks = node.clocks if node is not None else ()
        told = next((c.step for c in clocks if c.store == store), 0)
        return max(told, member.from_step(store), self._base(store))

    def _has_rounds(self, store: int) -> bool:
        """Whether some key of the store closes rounds."""
        sync = self.directory.stores[store][1]
        keys = [e for e in self.directory.keys.values() if e.store == store]
        return any(is_sync(e.spec.consistency, sync) for e in keys) if keys else sync

    def _expect_no_barriers(self, member: Member) -> None:
        """What others call before its first step is over for it (R48)."""
        for clock in member.begins:
            self.barriers.reached[clock.store, member.node.rank] = (clock.step, 1 << 62)

    # ---- asked -----------------------------------------------------------------------------

    def _asked(self) -> list[NodeId]:
        """Whose answers a joiner needs: every server's, and those of workers that are there."""
        assert self.table is not None
        servers = [info.node for info in self.table.servers]
        if not self._joiners:
            return servers
        workers = [
            member.node
            for member in self.table.members
            if not (member.gone or member.proposed or member.resuming)
        ]
        here = [id_ for id_ in workers if id_ in self.roster.by_id]
        return servers + [id_ for id_ in here if self.roster.by_id[id_].is_here()]

    def _on_progress(self, node: Node, message: m.Installed, now: float) -> list[Effect]:
        """How far a server's shards or a worker are, under the table of that epoch."""
        for joiner in self._joiners.values():
            joiner.answers[node.id] = (message.epoch, message.progress)
        return self._consider(now)

    def _consider(self, now: float) -> list[Effect]:
        """Confirm, propose anew or refuse those of whom everything is known."""
        effects: list[Effect] = []
        for rank, joiner in list(self._joiners.items()):
            if self.phase is not Phase.RUNNING or self._elections or not self._formed:
                break
            answers = [joiner.answers.get(id_) for id_ in self._asked()]
            if all(answer is not None and answer[0] == self.epoch for answer in answers):
                effects += self._judge(rank, joiner, now)
        return effects

    def _judge(self, rank: int, joiner: Joiner, now: float) -> list[Effect]:
        assert self.table is not None
        member = self.table.member(rank)
        assert member is not None
        closed, steps = self._how_far(joiner)
        why = self._why_not(joiner, closed, steps, now)
        if why is None:
            return []
        if why:
            note = Note(f"{joiner.node.where()} cannot join: {why}")
            return [note, *self._withdraw(joiner.node, why, now)]
        begins = tuple(
            StoreClock(store, self._begins(member, store, closed, steps.get(store)))
            for store in sorted(self.directory.stores)
        )
        if begins == member.begins:
            return self._confirm(rank, joiner, member, now)
        self._counter += 1
        member = replace(member, begins=begins)
        self.table = self.table.with_member(self.epoch, member)
        self._expect_no_barriers(member)
        return [*self._publish(now), *self._complete_barriers()]

    def _how_far(self, joiner: Joiner) -> tuple[Far, dict[int, int]]:
        """By store: the highest round that has closed, and the highest step of a worker."""
        closed: Far = {}
        steps: dict[int, int] = {}
        for id_ in self._asked():
            for said in joiner.answers[id_][1]:
                if id_.role == Role.WORKER:
                    steps[said.store] = max(said.step, steps.get(said.store, 0))
                    continue
                held = closed.get(said.store, said)
                step, n = max((held.step, held.n), (said.step, said.n))
                closed[said.store] = m.Progress(said.store, step, n, held.bare or said.bare)
        return closed, steps

    def _begins(self, member: Member, store: int, closed: Far, step: int | None) -> int:
        """The proposed step, or a higher one where that has begun."""
        named = any(clock.store == store for clock in member.begins)
        first = member.from_step(store) if named else self._first_step(store)
        if not self._has_rounds(store):
            return first
        last = closed[store].step if store in closed else -1
        inside = self._base(store) if step is None else step
        if first > max(last, inside) or (last < first == inside == self._base(store)):
            return first
        return max(last, inside) + AHEAD

    def _why_not(
        self, joiner: Joiner, closed: Far, steps: dict[int, int], now: float
    ) -> str | None:
        """Why nobody can join this job; empty: somebody can; None: it is not known yet."""
        for store, said in closed.items():
            if said.bare:
                return (
                    f"store {store} has no optimizer, so there are no weights on the servers to "
                    "begin with; set update_on_kvstore=True"
                )
            clocks = [c.step for n in self.roster for c in n.clocks if c.store == store]
            if max([*clocks, steps.get(store, 0)], default=0) > self._base(store):
                continue
            waited = now - joiner.since
            if said.n + 1 >= STEPLESS or waited >= self.settings.join_timeout:
                return (
                    f"no worker has ended a step of store {store}, and keys were pushed "
                    f"{said.n + 1} times, so where a new worker begins cannot be named; the "
                    "script must call Trainer.step or kv.tick()"
                )
            return None
        return ""

    # ---- decided ---------------------------------------------------------------------------

    def _confirm(self, rank: int, joiner: Joiner, member: Member, now: float) -> list[Effect]:
        """Nothing of its first step closes without it any more: it may begin."""
        assert self.table is not None
        node = joiner.node
        node.resume = node.clocks = member.begins
        del self._joiners[rank]
        steps = [[clock.store, clock.step] for clock in member.begins]
        self._counter += 1
        self.table = self.table.with_member(self.epoch, replace(member, proposed=False))
        at = ", ".join(f"step {clock.step} of store {clock.store}" for clock in member.begins)
        return [
            Journal({"kind": "resume", "node": list(node.id), "steps": steps}),
            Note(f"{node.where()} joins from {at or 'the start'}"),
            *self._publish(now),
            self._welcome(node),
            *self._complete_barriers(),
        ]

    def _withdraw(self, node: Node, why: str, now: float) -> list[Effect]:
        """The job goes on as if it had never been proposed."""
        assert self.table is not None
        member = self.table.member(node.id.rank)
        assert member is not None
        self._joiners.pop(node.id.rank, None)
        node.dead, node.refused = True, why
        self._counter += 1
        self.table = self.table.with_member(self.epoch, replace(member, lost=True))
        effects = [*self._publish(now), Send(node.provisional, m.Refused(reason=why))]
        if self._all_gone():
            return effects + self._finish(now)
        return effects + self._complete_barriers()

# SPDX-License-Identifier: Apache-2.0
"""How the job stands, as plain data for ``kvtrain status``."""

from __future__ import annotations

from typing import Any

from kvtrain.ps.core.membership import Role
from kvtrain.ps.core.roster import Node
from kvtrain.ps.core.scheduler.state import SchedulerState


class Status(SchedulerState):
    """Answers what ``kvtrain status`` asks."""

    def status(self, now: float) -> dict[str, Any]:
        """Who is there, when each was last seen, what each does, and what waits for whom."""
        return {
            "phase": self.phase.value,
            "epoch": list(self.epoch),
            "failure": None if self.failure is None else str(self.failure),
            "replicas": self.settings.replicas,
            "on_worker_loss": self.settings.on_worker_loss,
            "nodes": [self._node_status(node, now) for node in self.roster],
            "missing": self._absent(),
            "waits": self._waits_now(now),
        }

    def _absent(self) -> list[str]:
        """Who has never said Hello."""
        settings = self.settings
        return self.roster.missing(Role.SERVER, settings.servers) + self.roster.missing(
            Role.WORKER, settings.workers
        )

    def _node_status(self, node: Node, now: float) -> dict[str, Any]:
        found: dict[str, Any] = {
            "role": Role(node.id.role).name.lower(),
            "rank": node.id.rank,
            "incarnation": node.id.incarnation,
            "host": node.hello.host,
            "pid": node.hello.pid,
            "last_seen": round(now - node.last_seen, 3),
            "state": _state(node),
            "steps": {str(clock.store): clock.step for clock in node.clocks},
            "last": node.last,
        }
        member = self.table.member(node.id.rank) if self.table is not None else None
        if node.id.role == Role.WORKER and member is not None and member.node == node.id:
            found["from_steps"] = {str(clock.store): clock.step for clock in member.begins}
            if member.proposed and not member.lost:
                found["state"] = "joining"
        if node.id.role == Role.SERVER and self.table is not None:
            shards = self.table.shards
            found["primary_of"] = sum(s.replicas[:1] == (node.id,) for s in shards)
            found["backup_of"] = sum(node.id in s.replicas[1:] for s in shards)
            found["learner_of"] = sum(node.id in s.learners for s in shards)
        return found

    def _waits_now(self, now: float) -> list[dict[str, Any]]:
        """Barriers and rounds that wait, and for whom."""
        found = []
        if self.table is not None:
            for barrier, since in sorted(self.barriers.since.items()):
                what = f"barrier {barrier.n} of store {barrier.store} at step {barrier.clock}"
                missing = self.barriers.missing(barrier, self._live())
                found.append(self._wait(what, missing, now - since))
        for node in self.roster.of_role(Role.SERVER):
            if node.last and not (node.exited or node.stopped):
                found.append({"what": f"{node.id}: {node.last}", "for": [], "seconds": None})
        return found

    def _wait(self, what: str, missing: tuple[int, ...], seconds: float) -> dict[str, Any]:
        names = [f"worker-{rank}" for rank in missing]
        return {"what": what, "for": names, "seconds": round(seconds, 3)}


def _state(node: Node) -> str:
    if node.left:
        return "left"
    if node.exited or node.stopped:
        return "ended"
    return "suspect" if node.suspect else "running"

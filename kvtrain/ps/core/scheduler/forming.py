# SPDX-License-Identifier: Apache-2.0
"""Forming: Hellos until everybody is there, then the first table."""

from __future__ import annotations

from kvtrain._version import __version__
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect, Journal, Note, Send
from kvtrain.ps.core.membership import (
    NO_EPOCH,
    Epoch,
    Member,
    NodeId,
    Role,
    ServerInfo,
    form_table,
)
from kvtrain.ps.core.roster import NONCE, Node
from kvtrain.ps.core.scheduler.shards import Shards
from kvtrain.ps.core.scheduler.state import Phase


class Forming(Shards):
    """Who may join, as what, and when they are told."""

    def _on_hello(self, sender: NodeId, hello: m.Hello, now: float) -> list[Effect]:
        token = hello.launch_token or f"{NONCE}{sender.incarnation}"
        known = self.roster.by_token.get(token)
        if known is not None and not known.dead:
            known.last_seen = now
            known.provisional = sender
            return self._welcome_again(known)
        gone = token in self.roster.exited or (known is not None and hello.role == Role.WORKER)
        if gone and self.phase is Phase.RUNNING:
            # a late word of a process that is no more must not take its successor's place
            why = (known.refused if known is not None else "") or "this process was declared dead"
            return [Send(sender, m.Refused(reason=why))]
        role = Role(hello.role)
        count = self.settings.workers if role is Role.WORKER else self.settings.servers
        if role not in (Role.WORKER, Role.SERVER):
            return [Send(sender, m.Refused(reason=f"role {role.name.lower()} does not join"))]
        running = self.phase is Phase.RUNNING and (
            role is Role.SERVER or self._awaited(hello) is not None
        )
        if self.phase is Phase.RUNNING and role is Role.WORKER and not running:
            return self._propose(sender, hello, token, now)
        if self.phase is not Phase.FORMING and not running:
            reason = f"the job is {self.phase.value}; nobody can join it any more"
            if self.failure is not None:
                reason = f"the job has failed: {self.failure}"
            return [Send(sender, m.Refused(reason=reason))]
        awaited = self._awaited(hello) if role is Role.WORKER else None
        if awaited is not None:
            node = self.roster.join(sender, token, awaited, hello, now)
            welcome: list[Effect] = [self._journal_node(node), Send(sender, m.HeartbeatAck())]
            return welcome + self._successor(node, now)
        rank = self.roster.free_rank(role, hello.rank, count, bool(hello.launch_token))
        if rank is None and role is Role.WORKER and hello.rank < 0 and not hello.launch_token:
            # those of the first hour come first; it joins when the job runs
            return [Send(sender, m.HeartbeatAck())]
        if rank is None:
            return [Send(sender, m.Refused(reason=self._why_no_rank(role, hello.rank, count)))]
        id_ = NodeId(role, rank, self.roster.next_incarnation(role, rank))
        node = self.roster.join(sender, token, id_, hello, now)
        effects: list[Effect] = [self._journal_node(node), Send(sender, m.HeartbeatAck())]
        if hello.version != __version__:
            text = f"{node.where()} runs kvtrain {hello.version}, the scheduler {__version__}"
            effects.append(Note(text))
        if running:
            return [*effects, *self._server_joined(node, now), self._welcome(node)]
        if role is Role.WORKER and self._forming_since is None:
            self._forming_since = now
        if not self._who_is_missing():
            effects += self._form(now)
        return effects

    def _propose(self, sender: NodeId, hello: m.Hello, token: str, now: float) -> list[Effect]:
        """A worker wants to join the running job."""
        raise NotImplementedError

    def _awaited(self, hello: m.Hello) -> NodeId | None:
        """Whose place a worker that says Hello in a running job takes."""
        raise NotImplementedError

    def _successor(self, node: Node, now: float) -> list[Effect]:
        """The process in a lost worker's place has said Hello."""
        raise NotImplementedError

    def _why_no_rank(self, role: Role, wanted: int, count: int) -> str:
        name = role.name.lower()
        holder = next((n for n in self.roster.of_role(role) if n.id.rank == wanted), None)
        if holder is not None:
            return f"rank {wanted} is taken by {holder.where()}"
        if wanted >= count:
            return f"rank {wanted} is not in this job of {count} {name}s"
        return f"all {count} {name}s of the job are there already"

    def _who_is_missing(self) -> list[str]:
        return self.roster.missing(Role.SERVER, self.settings.servers) + self.roster.missing(
            Role.WORKER, self.settings.workers
        )

    def _form(self, now: float) -> list[Effect]:
        """Everybody is there: the first table, told to the servers before the workers."""
        self.phase = Phase.RUNNING
        self._counter = 1
        members = tuple(
            Member(node=n.id, host=n.hello.host, pid=n.hello.pid)
            for n in self.roster.of_role(Role.WORKER)
        )
        servers = tuple(
            ServerInfo(n.id, n.hello.host, n.hello.pid, n.hello.address, n.hello.kernel)
            for n in self.roster.of_role(Role.SERVER)
        )
        replicas = self.settings.replicas
        self.table = form_table(self.epoch, members, servers, self.settings.shards, replicas)
        effects: list[Effect] = [self._journal_table()]
        for node in self.roster.of_role(Role.SERVER):
            effects.append(self._welcome(node))
        return effects

    def _welcome(self, node: Node) -> Send:
        assert self.table is not None
        welcome = m.Welcome(
            epoch=self.epoch,
            node=node.id,
            table=self.table,
            settings=self.settings.to_plain(),
            resume=node.resume,
        )
        return Send(node.provisional, welcome)

    def _welcome_again(self, node: Node) -> list[Effect]:
        """A repeated Hello: the answer was lost, or there is none yet."""
        if self.failure is not None:
            return [Send(node.provisional, m.Refused(reason=f"the job has failed: {self.failure}"))]
        told = node.id.role == Role.SERVER or (self._formed and not self._is_resuming(node))
        if self.table is not None and told:
            return [self._welcome(node)]
        return [Send(node.provisional, m.HeartbeatAck())]

    def _on_installed(self, node: Node, message: m.Installed, now: float) -> list[Effect]:
        return self._has_installed(node, message.epoch)

    def _has_installed(self, node: Node, epoch: Epoch) -> list[Effect]:
        node.installed = max(node.installed, epoch)
        self._untold()
        if self._formed or not all(
            n.installed != NO_EPOCH for n in self.roster.of_role(Role.SERVER)
        ):
            return []
        self._formed = True
        workers = self.roster.of_role(Role.WORKER)
        return [self._welcome(n) for n in workers if not self._is_resuming(n)]

    def _is_resuming(self, node: Node) -> bool:
        """Whether it is not known yet where this worker goes on, or begins."""
        joins = any(joiner.node is node for joiner in self._joiners.values())
        return joins or any(r.id == node.id for r in self._resuming.values())

    def _journal_node(self, node: Node) -> Journal:
        hello = node.hello
        return Journal(
            {
                "kind": "node",
                "node": list(node.id),
                "provisional": list(node.provisional),
                "token": hello.launch_token or f"{NONCE}{node.provisional.incarnation}",
                "host": hello.host,
                "pid": hello.pid,
                "address": hello.address,
                "kernel": hello.kernel,
                "version": hello.version,
            }
        )

# SPDX-License-Identifier: Apache-2.0
"""A new table: everything that waits for an answer is asked where the answer now is.

A worker takes replies only from the primary of its own installed table, in its view (PROTOCOL
R19), and sends what is in flight again as soon as it installs another one (R17).
"""

from __future__ import annotations

from dataclasses import replace

from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect
from kvtrain.ps.core.membership import Table
from kvtrain.ps.core.posting import Packer
from kvtrain.ps.core.worker.states import States

#: a server that has not installed the table yet is asked again after this part of resend_after
SOON = 0.05
#: questions that go to the primaries of chunks
_ROUTED = ("pull", "init", "states", "written")


class Routing(States):
    """Installs tables."""

    def _install(self, table: Table, now: float) -> list[Effect]:
        before, self.table = self.table, table
        self._has_joiners = any(member.begins for member in table.members)
        self._find_void(table)
        self._outbox.answered("table")
        if before is None:
            return []
        here = {info.node for info in table.servers}
        self._outbox.forget(
            lambda key: isinstance(key, tuple) and key[0] == "clock" and key[1] not in here
        )
        effects = self._tell_clocks_again(now) + self._tell_rests_again(now)
        if before.shards == table.shards:
            return effects
        effects += self._send_again_where_it_moved(before, now)
        for number in sorted(self._requests):
            open_ = self._requests[number]
            if open_.again is not None:
                effects += open_.again()
            if open_.to_servers is not None:
                effects += self._ask_servers_anew(number, now)
        return effects

    def _send_again_where_it_moved(self, before: Table, now: float) -> list[Effect]:
        """The same bytes to a new primary; a question to an old one with a new view."""
        assert self.table is not None
        packer, old = Packer(self.table), Packer(before)
        for chunk_id in sorted(self._busy):
            chunk = self._chunks[chunk_id]
            (server, view), (server_before, view_before) = packer.place(chunk), old.place(chunk)
            if view == view_before:
                continue
            for posted in chunk.in_flight:
                if not posted.sent:
                    continue  # it waits for company, and goes by the new table
                if server != server_before:
                    packer.add(chunk, posted)
                    posted.due = now + self.settings.resend_after
                else:
                    posted.due = now
                posted.interval = self.settings.resend_after
        effects = packer.flush(self.epoch)
        return effects + (self._ask_what_became(now) if self._busy else [])

    def _ask_servers_anew(self, number: int, now: float) -> list[Effect]:
        """Those that are gone owe nothing; the others are asked (again)."""
        open_ = self._requests[number]
        assert open_.to_servers is not None
        kind, message = open_.to_servers
        message = replace(message, epoch=self.epoch)
        open_.to_servers = (kind, message)
        for part in list(open_.parts):
            self._outbox.answered((*part, number))
        before, open_.parts = open_.parts, set()
        effects: list[Effect] = []
        for server in self._concerned(kind):
            if kind == "optimizer" or (kind, server) in before:
                effects += self._ask_server(kind, number, server, message, now)
        return effects if open_.parts else self._done(number, open_.value)

    def _on_view_refused(self, message: m.ViewRefused, now: float) -> list[Effect]:
        """Sent in a view that does not hold there (R16)."""
        assert self.table is not None
        behind: set[int] = set()
        effects: list[Effect] = []
        for known in message.shards:
            if not 0 <= known.shard < len(self.table.shards):
                continue
            if known.view > self.table.shards[known.shard].view:
                effects += self._want_table(now)
            else:
                behind.add(known.shard)
        if behind:
            # the server will install our table in a moment
            soon = now + self.settings.resend_after * SOON
            shards = len(self.table.shards)
            for chunk_id in self._busy:
                chunk = self._chunks[chunk_id]
                if chunk.entry.shard(chunk_id.part, shards) in behind:
                    for posted in chunk.in_flight:
                        posted.due = min(posted.due, soon)
                        self._query_at = min(self._query_at or soon, soon)
            self._outbox.hasten(lambda key: isinstance(key, tuple) and key[0] in _ROUTED, soon)
        return effects

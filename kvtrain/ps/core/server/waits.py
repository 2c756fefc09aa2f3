# SPDX-License-Identifier: Apache-2.0
"""No wait without a deadline (PROTOCOL section 5)."""

from __future__ import annotations

from kvtrain.errors import (
    DeadlineExceeded,
    KeyNotInitialized,
    KVTrainError,
)
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect, Send
from kvtrain.ps.core.membership import SCHEDULER
from kvtrain.ps.core.rounds import SyncLedger
from kvtrain.ps.core.server.tables import Tables


class Waits(Tables):
    """Looks at everything that waits, from time to time."""

    def _look_at_waits(self, now: float) -> list[Effect]:
        """Name who is missing in rounds, and end waits for values that never came."""
        effects: list[Effect] = []
        worst: dict[tuple[int, ...], tuple[float, str]] = {}
        for chunk_id in self._open:
            chunk = self._chunks[chunk_id]
            if not isinstance(chunk.ledger, SyncLedger):
                continue
            live = self._live_of(chunk.entry.store)
            for round_, since, missing in chunk.ledger.overdue(
                now - self.settings.note_after, live
            ):
                if missing not in worst or since < worst[missing][0]:
                    name = chunk.entry.spec.name
                    worst[missing] = (since, f"round {tuple(round_)} of key {name!r}")
        for store in self._stores.values():
            for chunk, reader in store.gated.values():
                late = store.clocks.behind(self.table, reader.gate) if self.table else ()
                if reader.since <= now - self.settings.note_after and (
                    late not in worst or reader.since < worst[late][0]
                ):
                    name = chunk.entry.spec.name
                    worst[late] = (
                        reader.since,
                        f"{reader.node}'s read of key {name!r}, {reader.clock} steps done, for "
                        f"clock {reader.gate}",
                    )
        for missing, (since, what) in worst.items():
            report = m.Waiting(what=what, missing=missing, seconds=now - since)
            effects.append(Send(SCHEDULER, report))
        limit = now - self.settings.join_timeout
        for key, early in list(self._early.items()):
            if early.since <= limit:
                del self._early[key]
                error: KVTrainError = KeyNotInitialized(
                    f"rank 0 has not initialised key id {key[1].key} of store "
                    f"{early.message.store} within {self.settings.join_timeout:g} s; "
                    "every worker, rank 0 too, must call kv.init for each key"
                )
                effects.append(self._error(early.sender, early.message, error))
        for store in self._stores.values():
            for node, (message, since) in list(store.waiting.items()):
                if since <= limit:
                    del store.waiting[node]
                    error = DeadlineExceeded(
                        f"set_optimizer: {node} waited {self.settings.join_timeout:g} s for "
                        f"worker-{self._first()}, whose optimizer counts, to call it too"
                    )
                    effects.append(self._error(node, message, error))
        return effects

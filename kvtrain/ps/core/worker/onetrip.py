# SPDX-License-Identifier: Apache-2.0
"""Small posts wait a moment for company, and a pull behind an unsent push rides with it.

``kv.push(k); kv.pull(k)`` is then one trip, as a push-pull is, and many small keys share a
message. What waits is sent when there is enough for a message, before the program waits for
anything, and at the latest after `DELAY` seconds.
"""

from __future__ import annotations

from dataclasses import replace

from kvtrain.ps.core import requests as r
from kvtrain.ps.core.effects import Effect
from kvtrain.ps.core.posting import Array, Packer, Posted
from kvtrain.ps.core.shards import KeyEntry
from kvtrain.ps.core.worker.pulls import Pulls

#: seconds that a post may wait for company
DELAY = 0.001


class OneTrip(Pulls):
    """Posts that wait to be sent, and pulls that ride with them."""

    @property
    def corked(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._corked)

    def cork_is_due(self, now: float) -> bool:
        """Whether something has waited long enough."""
        return bool(self._corked) and now >= self._cork_until

    def flush(self, now: float) -> list[Effect]:
        """Send what waits; called before the program waits for an answer."""
        if not self._corked:
            return []
        assert self.table is not None
        packer = Packer(self.table, self._memory.message_bytes)
        for chunk, posted in self._corked:
            packer.add(chunk, posted)
        self._corked.clear()
        self._corked_bytes = 0
        return packer.flush(self.epoch)

    def _post(self, packer: Packer, now: float) -> list[Effect]:
        """Let what a push has packed wait, or send it if it is enough for a message."""
        if not self._corked:
            self._cork_until = now + DELAY
        for chunk, posted in packer.take():
            self._corked.append((chunk, posted))
            self._corked_bytes += 0 if posted.array is None else posted.array.nbytes
        if self._corked_bytes < self._memory.message_bytes:
            return []
        return self.flush(now)

    def _pull(self, number: int, request: r.PullRequest, now: float) -> list[Effect]:
        entries = self._stores[request.store].entries
        rest: list[int] = []
        for i, name in enumerate(request.names):
            entry = entries.get(name)
            if entry is None or not self._ride(number, entry, request.outs[i]):
                rest.append(i)
        if len(rest) == len(request.names):
            return super()._pull(number, request, now)
        if not rest:
            return []
        some = replace(
            request,
            names=tuple(request.names[i] for i in rest),
            outs=tuple(request.outs[i] for i in rest),
            priorities=tuple(request.priorities[i] for i in rest) if request.priorities else (),
        )
        return super()._pull(number, some, now)

    def _ride(self, number: int, entry: KeyEntry, out: Array) -> bool:
        """Let this worker's last push of the key, if it is not sent yet, bring the value."""
        if not self._corked or not self._stores[entry.store].is_sync(entry):
            return False
        if out.size != entry.size or out.dtype != entry.spec.dtype or out.ndim != 1:
            return False  # the pull itself says what is wrong
        found: list[Posted] = []
        for chunk_id in entry:
            chunk = self._chunks[chunk_id]
            posts = chunk.queue or chunk.in_flight
            if not posts or posts[-1].sent or posts[-1].out is not None:
                return False
            found.append(posts[-1])
        open_ = self._requests[number]
        for chunk_id, posted in zip(entry, found, strict=True):
            low, high = entry.bounds(chunk_id.part)
            posted.out = out[low:high]
            posted.read = number
            open_.parts.add(("read", chunk_id))
        return True

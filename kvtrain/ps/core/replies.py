# SPDX-License-Identifier: Apache-2.0
"""Collects a server's answers to one message and packs them, many chunks to a message."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect, Note, Send
from kvtrain.ps.core.membership import Epoch, NodeId
from kvtrain.ps.core.memory import Memory

Array = np.ndarray[Any, Any]
#: bytes of arrays after which a message is full; a larger chunk travels alone
FULL = 1 << 20


class Replies:
    """Answers that wait for the end of the message that caused them.

    Parameters
    ----------
    memory : Memory
        Says how many bytes of arrays one message may describe.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._verdicts: dict[
            tuple[NodeId, int, int, bool], list[tuple[m.Verdict, Array | None]]
        ] = {}
        self._values: dict[tuple[NodeId, int, int], list[tuple[m.ChunkVersion, Array]]] = {}
        self._others: list[Effect] = []
        self._refused: dict[NodeId, set[m.ShardView]] = {}

    def note(self, text: str) -> None:
        """Tell the humans."""
        self._others.append(Note(text))

    def send(self, to: NodeId, message: m.Message) -> None:
        """An answer that is not packed."""
        self._others.append(Send(to, message))

    def push(self, effect: Effect) -> None:
        """A ready effect."""
        self._others.append(effect)

    def refuse(self, to: NodeId, known: m.ShardView) -> None:
        """Something was sent in a view that does not hold; `known` does."""
        self._refused.setdefault(to, set()).add(known)

    def verdict(
        self, to: NodeId, store: int, request: int, verdict: m.Verdict, value: Array | None
    ) -> None:
        """What became of a contribution, with the value if it was wanted."""
        key = (to, store, request, value is not None)
        self._verdicts.setdefault(key, []).append((verdict, value))

    def value(
        self, to: NodeId, store: int, request: int, read: m.ChunkVersion, value: Array
    ) -> None:
        """A value that was read."""
        self._values.setdefault((to, store, request), []).append((read, value))

    def flush(self, epoch: Epoch) -> list[Effect]:
        """Everything collected, as effects."""
        effects: list[Effect] = [
            Send(e.to, replace(e.message, epoch=epoch)) if isinstance(e, Send) else e
            for e in self._others
        ]
        self._others = []
        for to, known in self._refused.items():
            effects.append(
                Send(to, m.ViewRefused(epoch=epoch, shards=tuple(sorted(known, key=_shard))))
            )
        self._refused.clear()
        for (to, store, request, _), items in self._verdicts.items():
            for packed in _packs(items, self._memory.message_bytes):
                arrays = tuple([a for _, a in packed if a is not None])
                message: m.Message = m.PushReply(
                    store=store,
                    request=request,
                    epoch=epoch,
                    chunks=tuple([v for v, _ in packed]),
                    arrays=arrays,
                )
                effects.append(Send(to, message))
        self._verdicts.clear()
        for (to, store, request), reads in self._values.items():
            for pack in _packs(reads, self._memory.message_bytes):
                message = m.PullReply(
                    store=store,
                    request=request,
                    epoch=epoch,
                    chunks=tuple(r for r, _ in pack),
                    arrays=tuple(a for _, a in pack if a is not None),
                )
                effects.append(Send(to, message))
        self._values.clear()
        return effects


def _shard(known: m.ShardView) -> int:
    return known.shard


def _packs(items: Any, full: int) -> list[list[tuple[Any, Array | None]]]:
    packs: list[list[tuple[Any, Array | None]]] = []
    room = 0
    for item in items:
        size = 0 if item[1] is None else int(item[1].nbytes)
        if not packs or (size > room and packs[-1]):
            packs.append([])
            room = full
        packs[-1].append(item)
        room -= size
    return packs

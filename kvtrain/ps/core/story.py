# SPDX-License-Identifier: Apache-2.0
"""The last events of one core, told when the protocol is broken (``KVTRAIN_TRACE=1``)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from kvtrain.errors import ProtocolError
from kvtrain.ps.core.effects import Complete, Effect, Fail, Journal, Note, Send, Stop
from kvtrain.ps.core.membership import NodeId
from kvtrain.ps.core.messages import ErrorReply, Failure, Message

#: events that are kept
KEPT = 200
#: characters of one event
WIDTH = 300
_BROKEN = ("LocalProtocolError", "RemoteProtocolError", "OutOfStep")


class Story:
    """What one core heard and did, as text; bounded."""

    def __init__(self, kept: int = KEPT) -> None:
        self._events: deque[tuple[float, str]] = deque(maxlen=kept)

    def heard(self, sender: NodeId, message: Message, now: float) -> None:
        """A message came."""
        self._add(now, f"<- {sender}: {message!r}")

    def asked(self, effects: Iterable[Effect], now: float) -> None:
        """The core answered with effects."""
        for effect in effects:
            match effect:
                case Send(to, message):
                    self._add(now, f"-> {to}: {message!r}")
                case Complete(number):
                    self._add(now, f"   request {number} is done")
                case Fail(number, error):
                    self._add(now, f"   request {number} failed: {error}")
                case Journal(record):
                    self._add(now, f"   journal {record.get('kind')}")
                case Note(text):
                    self._add(now, f"   note: {text}")
                case Stop(error):
                    self._add(now, f"   stop: {error}")

    def _add(self, now: float, text: str) -> None:
        self._events.append((now, text if len(text) <= WIDTH else text[: WIDTH - 3] + "..."))

    def lines(self) -> list[str]:
        """The events, oldest first, with seconds before the last one."""
        if not self._events:
            return []
        last = self._events[-1][0]
        return [f"{at - last:9.3f} s  {text}" for at, text in self._events]


def is_broken(effects: Iterable[Effect]) -> bool:
    """Whether effects tell of a broken protocol."""
    for effect in effects:
        match effect:
            case Fail(_, error) | Stop(error):
                if isinstance(error, ProtocolError) or type(error).__name__ in _BROKEN:
                    return True
            case Send(_, ErrorReply(name=name) | Failure(name=name)):
                if name in _BROKEN:
                    return True
    return False

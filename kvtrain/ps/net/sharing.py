# SPDX-License-Identifier: Apache-2.0
"""Which peer can map which memory: offers and answers below the protocol's own messages.

Each side offers its segments; only what the peer says it has mapped is ever sent as a
descriptor, everything else travels as bytes. So a lost, late or repeated offer costs time, and
a peer that cannot map (another host or container) is served by frames, with one note.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvtrain import platform
from kvtrain.config import Config
from kvtrain.errors import RemoteProtocolError
from kvtrain.ps.core.membership import NodeId
from kvtrain.ps.core.messages import Message, Offer, OfferAnswer
from kvtrain.ps.net.segments import Arena, PeerSegment, Place

Array = np.ndarray[Any, Any]
#: seconds until an offer without an answer is made again
AGAIN = 1.0
#: most segments of one peer
MAX_SEGMENTS = 4096


@dataclass(slots=True)
class _Peer:
    #: numbers of our segments that it has mapped
    confirmed: set[int] = field(default_factory=set)
    #: how many segments the last offer had, and when it was made
    offered: int = -1
    at: float = 0.0
    #: how many segments the last answered offer had
    answered: int = -1
    refused: bool = False
    #: its own segments, mapped here
    mapped: dict[int, PeerSegment] = field(default_factory=dict)
    nonces: dict[int, bytes] = field(default_factory=dict)


class Sharing:
    """Shared memory of one process with its peers.

    Parameters
    ----------
    arena : Arena
        Our own memory.
    instead : str
        What is used where memory cannot be shared, for the note.
    """

    def __init__(self, arena: Arena, note: Callable[[str], None], instead: str) -> None:
        self.arena = arena
        self._note = note
        self._instead = instead
        self._peers: dict[NodeId, _Peer] = {}
        self._noted = False

    # ---- ours ------------------------------------------------------------------------------

    def offer(self, to: NodeId, first: bool) -> Offer | None:
        """An offer that should be sent before the next message; `first` begins the talk."""
        if self.arena.full is not None:
            self._tell(self.arena.full)
        peer = self._peers.get(to)
        if peer is None:
            if not first:
                return None  # a peer that offered nothing has no shared memory
            peer = self._peers[to] = _Peer()
        offers = self.arena.offers
        if peer.refused or peer.answered == len(offers):
            return None
        now = time.monotonic()
        if peer.offered == len(offers) and now - peer.at < AGAIN:
            return None
        peer.offered, peer.at = len(offers), now
        return Offer(segments=tuple(offers))

    def locator(self, to: NodeId) -> Callable[[Array], Place | None] | None:
        """What finds an array in memory that `to` has mapped; None: it has mapped nothing."""
        peer = self._peers.get(to)
        if peer is None or peer.refused or not peer.confirmed:
            return None
        locate, confirmed = self.arena.locate, peer.confirmed

        def find(array: Array) -> Place | None:
            place = locate(array)
            return place if place is not None and place.segment in confirmed else None

        return find

    # ---- theirs ----------------------------------------------------------------------------

    def on_message(self, sender: NodeId, message: Message) -> Message | None:
        """Take an offer or an answer; returns what to send back."""
        if isinstance(message, OfferAnswer):
            self._on_answer(sender, message)
            return None
        assert isinstance(message, Offer)
        peer = self._peers.setdefault(sender, _Peer())
        mapped: list[int] = []
        reason = ""
        for offer in message.segments[:MAX_SEGMENTS]:
            if peer.nonces.get(offer.number) != offer.nonce:
                try:
                    peer.mapped[offer.number] = PeerSegment(offer)
                except (OSError, ValueError, OverflowError) as error:
                    reason = getattr(error, "strerror", None) or str(error)
                    continue
                peer.nonces[offer.number] = offer.nonce
            mapped.append(offer.number)
        if reason:
            self._tell(f"the memory of {sender} cannot be mapped here ({reason})")
        return OfferAnswer(offered=len(message.segments), mapped=tuple(mapped), reason=reason[:200])

    def _on_answer(self, sender: NodeId, message: OfferAnswer) -> None:
        peer = self._peers.setdefault(sender, _Peer())
        peer.answered = max(peer.answered, message.offered)
        known = {offer.number for offer in self.arena.offers}
        peer.confirmed |= known.intersection(message.mapped)
        if not self._noted:
            self.arena.message_bytes = self.arena.described
        if message.reason:
            peer.refused = True
            self.arena.message_bytes = Arena.message_bytes
            self._tell(f"{sender} cannot map the memory of this process ({message.reason})")

    def _tell(self, text: str) -> None:
        if not self._noted:
            self._noted = True
            self._note(f"{text}; data goes over {self._instead} instead of shared memory")

    def resolve(self, sender: NodeId, place: Place, kind: np.dtype[Any], size: int) -> Array:
        """The array that a descriptor of `sender` means."""
        peer = self._peers.get(sender)
        segment = peer.mapped.get(place.segment) if peer is not None else None
        if segment is None:
            raise RemoteProtocolError(
                f"malformed message: segment {place.segment} of {sender} is not mapped here"
            )
        return segment.array(place, kind, size)

    def forget(self, gone: NodeId) -> None:
        """A peer that will not come back: its memory goes when no array refers to it."""
        self._peers.pop(gone, None)

    def close(self) -> None:
        """Close our segments and let go of the peers'."""
        self._peers.clear()
        self.arena.close()


def shared_memory(
    config: Config, node: Callable[[], NodeId], note: Callable[[str], None]
) -> tuple[Arena | None, Sharing | None]:
    """The arena of this process and its talk with peers; None where memory is not shared."""
    assert config.scheduler is not None
    if config.transport not in ("auto", "shm"):
        return None, None
    instead = "ipc" if config.scheduler.startswith("ipc://") else "tcp"
    reason = platform.shared_memory_reason()
    if reason is not None:
        note(f"{reason}; data goes over {instead} instead of shared memory")
        return None, None

    def name() -> str:
        who = node()
        return f"kvtrain-{config.job or 'job'}-{who.role.name.lower()}-{who.rank}-{who.incarnation}"

    arena = Arena(name)
    return arena, Sharing(arena, note, instead)

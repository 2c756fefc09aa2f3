# SPDX-License-Identifier: Apache-2.0
"""Offers of shared memory between two processes of one host; the shells settle them.

No role receives them: what is not mapped travels as bytes, so a core never knows.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvtrain.ps.core.messages.base import Message, message


@dataclass(frozen=True, slots=True)
class SegmentOffer:
    """What a peer needs to map one segment of the sender."""

    number: int
    pid: int
    descriptor: int
    name: str
    nbytes: int
    #: generation numbers at its front
    slots: int
    #: random; also inside the segment, so that a reused descriptor is not taken for it
    nonce: bytes


@message(70)
@dataclass(frozen=True, slots=True, kw_only=True)
class Offer(Message):
    """You may map these; sent again until answered, and when there is another one."""

    segments: tuple[SegmentOffer, ...]


@message(71)
@dataclass(frozen=True, slots=True, kw_only=True)
class OfferAnswer(Message):
    """Of `offered` segments these are mapped; `reason`: why the others are not."""

    offered: int
    mapped: tuple[int, ...]
    reason: str = ""

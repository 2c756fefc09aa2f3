# SPDX-License-Identifier: Apache-2.0
"""Messages of bounded staleness (PROTOCOL R42) and of row-sparse keys."""

from __future__ import annotations

from dataclasses import dataclass, field

from kvtrain.ps.core.membership import Role
from kvtrain.ps.core.messages.base import Arrays, Message, message
from kvtrain.ps.core.messages.data import ChunkRead


@message(34, Role.SERVER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Clock(Message):
    """All that the sender pushed to `store` in steps before `step` is acknowledged."""


@message(35, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class ClockAck(Message):
    """The clock `step` of the receiver is known here."""


@message(37, Role.SERVER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Resting(Message):
    """The sender waits at the `n`-th standstill of `store`, all its earlier contributions
    acknowledged: rounds from `step` on do not wait for it (PROTOCOL R40)."""

    n: int


@message(38, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class RestingKnown(Message):
    """The receiver's `n`-th standstill is known here."""

    n: int


@message(36, Role.SERVER)
@dataclass(frozen=True, slots=True, kw_only=True)
class RowPull(Message):
    """Read rows of chunks; their int64 numbers in the chunk, rising, have the same places in
    `arrays`. Answered with PullReply."""

    chunks: tuple[ChunkRead, ...]
    arrays: Arrays = field(default=(), compare=False)

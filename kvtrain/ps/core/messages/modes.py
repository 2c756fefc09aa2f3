# SPDX-License-Identifier: Apache-2.0
"""Messages of bounded staleness (PROTOCOL R42)."""

from __future__ import annotations

from dataclasses import dataclass

from kvtrain.ps.core.membership import Role
from kvtrain.ps.core.messages.base import Message, message


@message(34, Role.SERVER)
@dataclass(frozen=True, slots=True, kw_only=True)
class Clock(Message):
    """All that the sender pushed to `store` in steps before `step` is acknowledged."""


@message(35, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class ClockAck(Message):
    """The clock `step` of the receiver is known here."""

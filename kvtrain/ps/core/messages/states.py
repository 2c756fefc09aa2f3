# SPDX-License-Identifier: Apache-2.0
"""Messages that carry the states of an optimizer between servers and a worker's file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from kvtrain.ps.core.membership import Role
from kvtrain.ps.core.messages.base import Arrays, Message, message
from kvtrain.ps.core.shards import ChunkId


class ChunkStates(NamedTuple):
    """How often the optimizer has updated a chunk, and how many arrays of state follow."""

    chunk: ChunkId
    updates: int
    arrays: int


@message(110, Role.SERVER)
@dataclass(frozen=True, slots=True, kw_only=True)
class ReadStates(Message):
    """Asks a server for the committed states of one store."""


@message(111, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class StatesRead(Message):
    """States of the chunks of which the sender is primary."""

    chunks: tuple[ChunkStates, ...]
    arrays: Arrays = field(default=(), compare=False)


@message(112, Role.SERVER)
@dataclass(frozen=True, slots=True, kw_only=True)
class WriteStates(Message):
    """States for chunks of the receiver, under the optimizer that is installed."""

    chunks: tuple[ChunkStates, ...]
    arrays: Arrays = field(default=(), compare=False)


@message(113, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class StatesWritten(Message):
    """They are in force."""

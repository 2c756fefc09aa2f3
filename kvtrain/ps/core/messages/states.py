# SPDX-License-Identifier: Apache-2.0
"""Messages that carry the states of an optimizer between servers and a worker's file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from kvtrain.ps.core.membership import Epoch, Role
from kvtrain.ps.core.messages.base import Arrays, Message, message
from kvtrain.ps.core.shards import ChunkId


class ChunkOf(NamedTuple):
    """A chunk, its shard, and the view of it by the sender's table."""

    chunk: ChunkId
    shard: int
    view: Epoch


class ChunkStates(NamedTuple):
    """How often the optimizer has updated a chunk, and how many arrays follow: its states, flat.

    Of a row-sparse chunk with `rows` the numbers of the rows that they belong to come first.
    """

    chunk: ChunkId
    shard: int
    view: Epoch
    updates: int
    arrays: int
    rows: bool = False


@message(110, Role.SERVER)
@dataclass(frozen=True, slots=True, kw_only=True)
class ReadStates(Message):
    """Asks for the committed states of chunks of the receiver."""

    chunks: tuple[ChunkOf, ...]


@message(111, Role.WORKER)
@dataclass(frozen=True, slots=True, kw_only=True)
class StatesRead(Message):
    """States of some of the chunks that were asked for."""

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
    """Those of these chunks are in force, and committed."""

    chunks: tuple[ChunkOf, ...]

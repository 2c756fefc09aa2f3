# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: who asks for one, where it cuts, which parts are on the disk (R49-R51)."""

from __future__ import annotations

from dataclasses import dataclass

from kvtrain.ps.core.membership import Epoch, Role, StoreClock
from kvtrain.ps.core.messages.base import Message, message
from kvtrain.ps.core.saved import SavedPart, SavedStore


@dataclass(frozen=True, slots=True)
class Covered:
    """A shard of which everything is saved, and the view in which it was."""

    shard: int
    view: Epoch


@message(100, Role.SCHEDULER)
@dataclass(frozen=True, slots=True, kw_only=True)
class SaveCheckpoint(Message):
    """A worker, all of whose pushes are acknowledged, waits for a checkpoint of this moment."""

    #: where; empty: the job's own directory
    directory: str
    #: the worker's step in each store
    clocks: tuple[StoreClock, ...]


@message(101, Role.WORKER, by=(Role.SCHEDULER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSaved(Message):
    """The manifest is on the disk."""

    path: str


@message(102, Role.SERVER, by=(Role.SCHEDULER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint(Message):
    """Save each chunk as it is before its first round of a step >= `at`.

    `at` -1: as it is now. `complete`: every worker has passed `at`, or stands still; save what
    is not saved yet.
    Repeated until answered with CheckpointParts or CheckpointLate.
    """

    attempt: int
    directory: str
    #: begins the names of the files: no two runs share it
    run: str
    at: int
    complete: bool
    #: workers stand still for it: answer with CheckpointTaken as soon as all is copied
    hold: bool = False


@message(103, Role.SCHEDULER, by=(Role.SERVER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointParts(Message):
    """All shards of which the sender is primary are on its disk."""

    attempt: int
    covered: tuple[Covered, ...]
    parts: tuple[SavedPart, ...]
    #: optimizers of the stores; type and step are the scheduler's to fill in
    stores: tuple[SavedStore, ...]
    #: first step without a closed round, of the chunks that were saved as they are
    closed: tuple[StoreClock, ...] = ()


@message(104, Role.SCHEDULER, by=(Role.SERVER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointLate(Message):
    """This attempt cannot be completed here: `passed` was closed already, or `error`."""

    attempt: int
    #: highest step closed; -1: that was not it
    passed: int
    error: str = ""


@message(105, Role.SCHEDULER, by=(Role.SERVER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointTaken(Message):
    """All chunks of these shards are copied: the workers may go on."""

    attempt: int
    covered: tuple[Covered, ...]


@message(106, Role.WORKER, by=(Role.SCHEDULER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(Message):
    """Send nothing of step `at` and later before Resume; -1: of your next step (PROTOCOL R50).

    Repeated until answered with Holding.
    """

    attempt: int
    at: int


@message(107, Role.SCHEDULER, by=(Role.WORKER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class Holding(Message):
    """Everything of the sender is acknowledged and it sends nothing. Repeated until Resume."""

    attempt: int
    clocks: tuple[StoreClock, ...]
    #: it was beyond that step already, and goes on
    late: bool = False


@message(108, Role.WORKER, by=(Role.SCHEDULER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class Resume(Message):
    """Everything is copied, or nothing comes of it: go on. Repeated until answered."""

    attempt: int


@message(109, Role.SCHEDULER, by=(Role.WORKER,))
@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Message):
    """Answer to Resume. Not `held`: the sender had gone on before, its deadline was over."""

    attempt: int
    held: bool

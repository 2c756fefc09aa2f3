# SPDX-License-Identifier: Apache-2.0
"""What a worker's own program may ask of its core, as values.

``WorkerCore.submit(request, now)`` returns ``(request id, effects)``; the request ends with
one Complete or Fail effect of that id. Arrays are flat (one dimension), of the key's dtype.
A request that breaks the rules raises at once and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from kvtrain.ps.core.shards import KeySpec

Array = np.ndarray[Any, Any]


class Landing(Protocol):
    """Where a key's values go that need not be copied: the server's own memory may do."""

    @property
    def size(self) -> int:
        """Elements of the key."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its data type."""

    def land(self, low: int, array: Array) -> bool:
        """Take the values from element `low` on: copy them, or keep a reference that is good
        until this worker's next contribution; False: they are not what was sent (R34)."""


@dataclass(frozen=True, slots=True)
class OpenStoreRequest:
    """Open the next store; completes with its ordinal once the scheduler agrees."""

    type: str
    sync: bool
    #: workers that a round may close without; `type` tells the others
    backups: int = 0


@dataclass(frozen=True, slots=True)
class InitRequest:
    """Initialise keys; the core copies the arrays. Completes when the keys exist."""

    store: int
    keys: tuple[KeySpec, ...]
    arrays: tuple[Array, ...] = field(compare=False)


@dataclass(frozen=True, slots=True)
class PushRequest:
    """Contribute to the next round of each key; the core copies the arrays.

    Completes when every contribution is committed, with the (chunk, round) of those that were
    dropped (backup workers), or None. An array of None is an empty contribution.
    With `outs` the new values are written there (one flat, writable array per key, or a
    Landing) and the request is a push-pull in one trip.
    """

    store: int
    names: tuple[str, ...]
    arrays: tuple[Array | None, ...] = field(compare=False)
    outs: tuple[Array | Landing, ...] | None = field(default=None, compare=False)
    priorities: tuple[int, ...] = ()
    rescale_grad: float | None = None
    #: for arrays that are not copied but read in place: called when nobody needs them any more
    lent: tuple[Callable[[], None] | None, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class PullRequest:
    """Read keys into `outs` (flat, writable), after the worker's own pushes so far."""

    store: int
    names: tuple[str, ...]
    outs: tuple[Array, ...] = field(compare=False)
    priorities: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RowPushRequest:
    """Contribute rows (k, width) of a row-sparse key; the core copies them.

    `ids` are int64 and rise strictly. In sync it is the worker's contribution to the next
    round, also without any row; `empty` ones count and add nothing.
    """

    store: int
    name: str
    ids: Array = field(compare=False)
    values: Array = field(compare=False)
    priority: int = 0
    rescale_grad: float | None = None
    empty: bool = False


@dataclass(frozen=True, slots=True)
class RowPullRequest:
    """Read rows `ids` (int64, rising strictly) of a row-sparse key.

    They are written to `out`, flat and writable.
    """

    store: int
    name: str
    ids: Array = field(compare=False)
    out: Array = field(compare=False)


@dataclass(frozen=True, slots=True)
class BarrierRequest:
    """Completes when every live worker has called the same barrier."""

    store: int


@dataclass(frozen=True, slots=True)
class SetOptimizerRequest:
    """Give the servers an optimizer (registered name, plain config); rank 0's is used.

    Completes when it is installed on every server, after this worker's earlier pushes.
    """

    store: int
    name: str
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SetHyperRequest:
    """Change a hyper-parameter from this worker's next push on; completes at once."""

    store: int
    name: str
    value: float


@dataclass(frozen=True, slots=True)
class TickRequest:
    """End the worker's step in `store`; completes at once."""

    store: int


@dataclass(frozen=True, slots=True)
class StatsRequestOf:
    """Completes with a list of each server's counters."""

    store: int


@dataclass(frozen=True, slots=True)
class KeyStates:
    """The optimizer's states of a key: flat arrays, and how often it was updated.

    Of a row-sparse key those of `rows` (int64, rising strictly).
    """

    name: str
    updates: int
    arrays: tuple[Array, ...] = field(compare=False)
    rows: Array | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ReadStatesRequest:
    """Completes with a list of KeyStates, as they are after this worker's earlier pushes."""

    store: int


@dataclass(frozen=True, slots=True)
class WriteStatesRequest:
    """Give the servers states for keys; completes when they are in force."""

    store: int
    keys: tuple[KeyStates, ...]


@dataclass(frozen=True, slots=True)
class SaveCheckpointRequest:
    """Save the job as it is after this worker's pushes; completes with the manifest's path."""

    #: empty: the job's own directory
    directory: str


@dataclass(frozen=True, slots=True)
class LeaveRequest:
    """Everything acknowledged, then leave; completes when the process may exit."""


Request = (
    OpenStoreRequest
    | InitRequest
    | PushRequest
    | PullRequest
    | RowPushRequest
    | RowPullRequest
    | BarrierRequest
    | SetOptimizerRequest
    | SetHyperRequest
    | TickRequest
    | StatsRequestOf
    | ReadStatesRequest
    | WriteStatesRequest
    | SaveCheckpointRequest
    | LeaveRequest
)

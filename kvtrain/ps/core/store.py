# SPDX-License-Identifier: Apache-2.0
"""The weights of a server and the arithmetic on them; no protocol.

A chunk's weights are behind one accessor, :meth:`StoredChunk.committed`, which refuses while
a record is in the making: what is not committed is never visible (PROTOCOL R2). One pass
over blocks that fit the cache sums the contributions **in the order given** and runs the
optimizer on each block. Element-wise optimizers give the same bits for every cut.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from kvtrain.errors import LocalProtocolError
from kvtrain.kernels import xp
from kvtrain.ps.core.membership import NodeId, Round
from kvtrain.ps.core.memory import Slot
from kvtrain.ps.core.shards import ChunkId

Array = np.ndarray[Any, Any]
#: elements of one block: a few blocks of float32 fit a core's second-level cache
BLOCK = 64 * 1024


class BlockOptimizer(Protocol):
    """What a server needs of an optimizer (see kvtrain.optimizer.Optimizer)."""

    begin_num_update: int

    @property
    def blockwise(self) -> bool:
        """Any cut of an array gives the same bits; else it wants the whole key in its shape."""

    def state_arrays(self, weight: Array) -> tuple[Array, ...]:
        """Fresh state for a slice of weights."""

    def hyper(self, key: Any, count: int, schedule_at: int) -> Any:
        """Values for update number `count`, the schedule evaluated at `schedule_at`."""

    def update_block(
        self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Any
    ) -> None:
        """Update a slice in place."""

    def set_hyper(self, name: str, value: float) -> None:
        """Change a hyper-parameter."""


MakeOptimizer = Callable[[str, dict[str, Any]], BlockOptimizer]


@dataclass(slots=True)
class Record:
    """One closed round (sync) or one push (async) of a chunk: what a log holds. Never changed;
    not frozen, as that makes each of them cost several times as much."""

    store: int
    chunk: ChunkId
    round: Round
    version_before: int
    version: int
    members: tuple[NodeId, ...]
    #: hyper-parameter values in force, changed from the optimizer's own
    hyper: tuple[tuple[str, float], ...]
    #: the contributions in the order of `members`, None for an empty one, if they are at hand
    arrays: tuple[Array | None, ...] | None = field(compare=False, repr=False, default=None)
    #: what was replicated of them: the reduced gradient, or the sum without an optimizer
    reduced: Array | None = field(compare=False, repr=False, default=None)


@dataclass(slots=True, eq=False)
class StoredChunk:
    """Weights, optimizer state and counters of one chunk."""

    id: ChunkId
    #: the user's name of the key, for lr_mult and the like
    name: str | int
    #: PROTOCOL version: records applied
    version: int
    _weight: Array
    #: shape of the key, if this chunk is the whole of it
    shape: tuple[int, ...] | None = None
    state: tuple[Array, ...] | None = None
    #: which of the store's optimizers made `state`, and the version at which it began
    optimizer_number: int = 0
    base_version: int = 0
    #: hyper-parameters changed by workers' commands, by name
    hyper: dict[str, float] = field(default_factory=dict)
    #: last command of each worker in force here: rank -> (incarnation, number)
    hyper_seen: dict[int, tuple[int, int]] = field(default_factory=dict)
    #: where the weight lies, if it is in memory that others may read
    slot: Slot | None = None
    #: a worker may have mapped the slot: it is never used for anything else (PROTOCOL R38)
    lent: bool = False
    _making: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the weights."""
        return np.dtype(self._weight.dtype)

    @property
    def size(self) -> int:
        """Elements of the chunk."""
        return int(self._weight.size)

    def committed(self, lend: bool = False) -> Array:
        """The committed weights, the only way out for them: a private copy.

        With `lend` the weights themselves, read-only: for a reader without whose next
        contribution they do not change (PROTOCOL R36, R38).
        """
        if self._making:
            raise LocalProtocolError(f"{self.id}: version {self.version} is not committed yet")
        if not lend:
            return self._weight.copy()
        self.lent = True
        view = self._weight.view()
        view.flags.writeable = False
        return view

    def begin(self) -> Array:
        """The weights, to be changed in place by the record in the making."""
        self._making = True
        if self.slot is not None:
            self.slot.rewrite()
        return self._weight

    def commit(self, version: int) -> None:
        """The record is on every replica: its version becomes visible."""
        self.version = version
        self._making = False

    # ---- for other servers, committed or not -------------------------------------------------

    def image(self) -> tuple[list[Array], dict[str, Any]]:
        """Private flat copies of the weights and then the optimizer's state, and what else
        :meth:`restore` needs."""
        state = [array.ravel().copy() for array in self.state or ()]
        return [self._weight.copy(), *state], {"shapes": _shapes(self.state)}

    def restore(self, arrays: Sequence[Array], extra: Mapping[str, Any]) -> None:
        """Take over an image; raises ValueError if it does not fit."""
        self.begin()[:] = arrays[0]
        self.state = _shaped(arrays[1:], extra.get("shapes"))
        self._making = False

    def checksum(self) -> int:
        """Of the weights; servers of equal kernels must agree."""
        return zlib.crc32(np.ascontiguousarray(self._weight).view(np.uint8).data)


def _shapes(state: tuple[Array, ...] | None) -> list[list[int]] | None:
    return None if state is None else [list(array.shape) for array in state]


def _shaped(arrays: Sequence[Array], shapes: Any) -> tuple[Array, ...] | None:
    if shapes is None:
        return None
    return tuple(
        array.reshape([int(n) for n in shape]).copy()
        for array, shape in zip(arrays, shapes, strict=True)
    )


class Optimizers:
    """The optimizer of one store, and its variants under changed hyper-parameters.

    A chunk's optimizer is a pure function of (config, changes in force at that chunk), so no
    chunk depends on which other one closed first (PROTOCOL R7).
    """

    _KEPT = 64

    def __init__(self, make: MakeOptimizer) -> None:
        self._make = make
        self.number = 0
        self.name = ""
        self.config: dict[str, Any] = {}
        self._variants: dict[tuple[tuple[str, float], ...], BlockOptimizer] = {}

    @property
    def installed(self) -> bool:
        """Whether there is one at all."""
        return self.number > 0

    def install(self, number: int, name: str, config: dict[str, Any]) -> None:
        """Use this optimizer from now on; raises what the factory raises, changing nothing."""
        first = self._make(name, config)
        self._variants = {(): first}
        self.number, self.name, self.config = number, name, config

    def under(self, changes: Mapping[str, float]) -> BlockOptimizer:
        """The optimizer with `changes` in force."""
        key = tuple(sorted(changes.items())) if changes else ()
        found = self._variants.get(key)
        if found is None:
            found = self._make(self.name, self.config)
            for name, value in key:
                found.set_hyper(name, value)
            if len(self._variants) >= self._KEPT:
                self._variants.pop(next(iter(self._variants)))
            self._variants[key] = found
        return found


class Arithmetic:
    """Applies contributions to chunks; owns the scratch block of each dtype."""

    def __init__(self) -> None:
        self._scratch: dict[np.dtype[Any], Array] = {}

    def assign_sum(self, chunk: StoredChunk, arrays: Sequence[Array]) -> None:
        """Without an optimizer: the chunk becomes the ordered sum."""
        weight = chunk.begin()
        if arrays:
            xp.sum_arrays([np.asarray(a) for a in arrays], out=weight)

    def reduce(
        self,
        chunk: StoredChunk,
        arrays: Sequence[Array],
        scales: Sequence[float | None],
        optimizers: Optimizers | None,
    ) -> tuple[Array | None, float | None]:
        """The sum in the order given, for other servers: :meth:`update` (:meth:`assign_sum`
        without an optimizer) of the result under the scale returned gives the same bits.
        """
        if not arrays:
            return None, None
        scale, factors = self.scales(chunk, scales, optimizers)
        if factors is not None:
            arrays = [np.multiply(a, a.dtype.type(f)) for a, f in zip(arrays, factors, strict=True)]
        total = np.empty(arrays[0].shape, arrays[0].dtype)
        if len(arrays) == 1:
            np.copyto(total, arrays[0])
        for low in range(0, total.size if len(arrays) > 1 else 0, BLOCK):
            out = total[low : low + BLOCK]
            xp.sum_arrays([np.asarray(a[low : low + BLOCK]) for a in arrays], out=out)
        return total, scale

    @staticmethod
    def scales(
        chunk: StoredChunk, scales: Sequence[float | None], optimizers: Optimizers | None
    ) -> tuple[float | None, list[float] | None]:
        """The scale of the contributions' sum, and their own factors where they differ."""
        if optimizers is None:
            return None, None
        own = optimizers.under(chunk.hyper).hyper(chunk.name, 1, 1).rescale_grad
        factors = [own if s is None else s for s in scales]
        return (factors[0], None) if len(set(factors)) == 1 else (1.0, factors)

    def update(
        self,
        chunk: StoredChunk,
        arrays: Sequence[Array],
        scales: Sequence[float | None],
        optimizers: Optimizers,
        schedule_at: int | None,
    ) -> None:
        """Sum in the order given and run the optimizer, block by block.

        `schedule_at` None: the schedule is evaluated at the key's own count.
        """
        weight = chunk.begin()
        optimizer, hyper, factors = self.prepare(
            chunk, weight, arrays, scales, optimizers, schedule_at
        )
        if not arrays:
            return
        assert chunk.state is not None
        arrays = [np.asarray(a) for a in arrays]  # plain ones: lent ones are slower
        if factors is not None:
            arrays = [np.multiply(a, a.dtype.type(f)) for a, f in zip(arrays, factors, strict=True)]
        if not optimizer.blockwise:
            shape = chunk.shape if chunk.shape is not None else weight.shape
            whole = arrays[0]
            if len(arrays) > 1:
                whole = xp.sum_arrays(list(arrays), out=np.empty_like(weight))
            optimizer.update_block(weight.reshape(shape), whole.reshape(shape), chunk.state, hyper)
            return
        if len(arrays) == 1 and weight.size <= BLOCK:
            optimizer.update_block(weight, arrays[0], chunk.state, hyper)
            return
        scratch = self._block(weight.dtype)
        for low in range(0, weight.size, BLOCK):
            block = weight[low : low + BLOCK]
            high = low + block.size
            if len(arrays) == 1:
                grad = arrays[0][low:high]
            else:
                grad = scratch[: block.size]
                xp.sum_arrays([a[low:high] for a in arrays], out=grad)
            optimizer.update_block(block, grad, tuple(s[low:high] for s in chunk.state), hyper)

    @staticmethod
    def prepare(
        chunk: StoredChunk,
        weight: Array,
        arrays: Sequence[Array],
        scales: Sequence[float | None],
        optimizers: Optimizers,
        schedule_at: int | None,
    ) -> tuple[BlockOptimizer, Any, list[float] | None]:
        """The chunk's optimizer with its state made, values for this update (None without
        contributions), and the contributions' own factors where they differ."""
        optimizer = optimizers.under(chunk.hyper)
        if chunk.optimizer_number != optimizers.number:
            shape = chunk.shape if chunk.shape is not None else weight.shape
            chunk.state = optimizer.state_arrays(
                weight if optimizer.blockwise else weight.reshape(shape)
            )
            chunk.optimizer_number = optimizers.number
            chunk.base_version = chunk.version
        if not arrays:
            return optimizer, None, None
        begin = optimizer.begin_num_update
        count = begin + chunk.version - chunk.base_version + 1
        at = count if schedule_at is None else begin + schedule_at
        hyper = optimizer.hyper(chunk.name, count, at)
        own = hyper.rescale_grad
        factors = [own if s is None else s for s in scales]
        if factors.count(factors[0]) == len(factors):
            if factors[0] != own:
                hyper = replace(hyper, rescale_grad=factors[0])
            return optimizer, hyper, None
        # members disagree (a smaller last batch, say): each is scaled by its own first
        return optimizer, replace(hyper, rescale_grad=1.0), factors

    def _block(self, dtype: np.dtype[Any]) -> Array:
        if dtype not in self._scratch:
            self._scratch[dtype] = np.empty(BLOCK, dtype)
        return self._scratch[dtype]

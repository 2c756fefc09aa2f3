# SPDX-License-Identifier: Apache-2.0
"""Samplers: the order in which a dataset is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


class Sampler:
    """Base of all samplers: define ``__iter__`` and ``__len__``."""

    def __len__(self) -> int:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError


class SequentialSampler(Sampler):
    """``start`` to ``start + length - 1``."""

    def __init__(self, length: int, start: int = 0) -> None:
        self._length = length
        self._start = start

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._start, self._start + self._length))

    def __len__(self) -> int:
        return self._length


class RandomSampler(Sampler):
    """0 to ``length - 1`` in an order drawn by ``numpy.random`` each time."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __iter__(self) -> Iterator[int]:
        order = np.arange(self._length)
        np.random.shuffle(order)
        return iter(order.tolist())

    def __len__(self) -> int:
        return self._length


class FilterSampler(Sampler):
    """Indices of the samples for which `fn` is true."""

    def __init__(self, fn: Callable[[Any], bool], dataset: Any) -> None:
        self._indices = [i for i in range(len(dataset)) if fn(dataset[i])]

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)


class IntervalSampler(Sampler):
    """0, `interval`, 2 `interval`, ...; with `rollover` then 1, ``1 + interval``, ..."""

    def __init__(self, length: int, interval: int, rollover: bool = True) -> None:
        if interval > length:
            raise ValueError(f"interval={interval} must not exceed length={length}")
        self._length = length
        self._interval = interval
        self._rollover = rollover

    def __iter__(self) -> Iterator[int]:
        for start in range(self._interval if self._rollover else 1):
            yield from range(start, self._length, self._interval)

    def __len__(self) -> int:
        return self._length if self._rollover else -(-self._length // self._interval)


class SplitSampler(Sampler):
    """One worker's part of a dataset; the same for all who use the same seed.

    Part `part_index` of `num_parts` holds the positions ``part_index``,
    ``part_index + num_parts``, ... of one order of the whole, so that the parts are disjoint,
    cover everything, and differ in length by at most one. With ``kv = kv.create("dist_sync")``
    give it ``num_parts=kv.num_workers, part_index=kv.rank``.

    A script that is started again goes on with what is left: ``at_step(kv.resume_step,
    batch_size)`` finds the pass and the position in it, and the rest of that order is split among
    the parts, however many there are now.

    Parameters
    ----------
    length : int
        Samples of the whole dataset.
    num_parts, part_index : int
        Number of workers, and rank of this one.
    shuffle : bool
        Draw a new order for each pass, from `seed` and the number of the pass.
    seed : int
        The same on every worker.
    even : bool
        All parts of equal length: the last few samples of an order are left out.
    """

    def __init__(
        self,
        length: int,
        num_parts: int = 1,
        part_index: int = 0,
        shuffle: bool = True,
        seed: int = 0,
        even: bool = False,
    ) -> None:
        self._length = length
        self._shuffle = shuffle
        self._seed = seed
        self._even = even
        self._pass = 0
        self._position = 0
        self.split(num_parts, part_index)

    @property
    def epoch(self) -> int:
        """Number of the next pass."""
        return self._pass

    @property
    def position(self) -> int:
        """Samples of the whole order that the next pass leaves out at its front."""
        return self._position

    def split(self, num_parts: int, part_index: int) -> None:
        """Split among another number of parts from the next pass on."""
        if num_parts < 1 or not 0 <= part_index < num_parts:
            raise ValueError(f"part_index={part_index} is not in 0 to {num_parts - 1}")
        self._parts = num_parts
        self._index = part_index

    def set_epoch(self, epoch: int, position: int = 0) -> None:
        """The next pass uses the order of pass `epoch`, without its first `position` samples.

        `position` counts samples of all parts together; passes after that one are whole.
        """
        if epoch < 0 or not 0 <= position <= self._length:
            raise ValueError(
                f"epoch={epoch}, position={position}: expected an epoch from 0 and a position "
                f"from 0 to {self._length}"
            )
        self._pass = epoch
        self._position = position

    def at_step(self, step: int, batch_size: int, last_batch: str = "keep") -> tuple[int, int]:
        """Go to where this part has taken `step` batches, over as many passes as that takes.

        Parameters
        ----------
        step : int
            Batches that this part has had, such as ``kv.resume_step``.
        batch_size : int
            Samples of one batch of one part.
        last_batch : {'keep', 'discard'}
            What happens to a short last batch of a pass, as in DataLoader.

        Returns
        -------
        (epoch, batch)
            Number of the pass, and of the first batch in it that is left.
        """
        if last_batch not in ("keep", "discard"):
            raise ValueError(f"last_batch must be 'keep' or 'discard', but got {last_batch!r}")
        if step < 0 or batch_size < 1:
            raise ValueError(f"step={step}, batch_size={batch_size}: out of range")
        self._position = 0
        samples = len(self)
        batches = -(-samples // batch_size) if last_batch == "keep" else samples // batch_size
        if batches == 0:
            raise ValueError(f"a pass over {self._length} samples has no batch of {batch_size}")
        epoch, batch = divmod(step, batches)
        self.set_epoch(epoch, min(batch * batch_size * self._parts, self._length))
        return epoch, batch

    def __iter__(self) -> Iterator[int]:
        order = np.arange(self._length)
        if self._shuffle:
            np.random.default_rng([self._seed, self._pass]).shuffle(order)
        left = order[self._position :][self._index :: self._parts][: len(self)]
        self._pass += 1
        self._position = 0
        return iter(left.tolist())

    def __len__(self) -> int:
        each, longer = divmod(self._length - self._position, self._parts)
        return each + (not self._even and self._index < longer)


class BatchSampler(Sampler):
    """Batches of another sampler's indices.

    Parameters
    ----------
    last_batch : {'keep', 'discard', 'rollover'}
        What happens to a last batch that is short; 'rollover' begins the next pass with it.
    """

    def __init__(self, sampler: Sampler, batch_size: int, last_batch: str = "keep") -> None:
        if last_batch not in ("keep", "discard", "rollover"):
            raise ValueError(
                f"last_batch must be one of 'keep', 'discard', or 'rollover', but got {last_batch}"
            )
        self._sampler = sampler
        self._batch_size = batch_size
        self._last_batch = last_batch
        self._left: list[Any] = []

    def __iter__(self) -> Iterator[list[Any]]:
        batch, self._left = self._left, []
        for i in self._sampler:
            batch.append(i)
            if len(batch) == self._batch_size:
                yield batch
                batch = []
        if batch and self._last_batch == "keep":
            yield batch
        elif self._last_batch == "rollover":
            self._left = batch

    def __len__(self) -> int:
        count = len(self._sampler)
        if self._last_batch == "keep":
            return -(-count // self._batch_size)
        if self._last_batch == "discard":
            return count // self._batch_size
        return (count + len(self._left)) // self._batch_size

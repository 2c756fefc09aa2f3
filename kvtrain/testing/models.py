# SPDX-License-Identifier: Apache-2.0
"""The reference model of a simulated job: what rounds and pushes come to, in plain order.

One chunk at a time, on one thread, without messages: the ordered sum of what was contributed,
then the optimizer of the plan.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain import compression
from kvtrain.kernels import xp
from kvtrain.optimizer import Optimizer

Array = np.ndarray[Any, Any]
LR = 0.5
#: bytes of a chunk
CHUNK = 64
#: optimizers of plans: registered name and what its config holds beside the rate. LARS wants
#: whole keys (R9), Adam counts its updates (R7), momentum and FTRL have states
ALGORITHMS: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "Adam": ("Adam", {}),
    "Ftrl": ("Ftrl", {}),
    # servers do not correct momentum for changes by set_learning_rate: an optimizer of theirs has
    # one rate all its life
    "LARS": ("LARS", {"momentum": 0.5, "eta": 0.25, "momentum_correction": False}),
}


class Received:
    """What servers get of one worker's contributions to a chunk, in their order."""

    def __init__(self, description: str) -> None:
        codec = compression.from_text(description)
        self._feedback = None if codec is None else compression.ErrorFeedback(codec)
        #: the last contribution as it was sent
        self.wire: Array = np.empty(0, np.uint8)

    def __call__(self, payload: Array) -> Array:
        """The values of the next contribution."""
        if self._feedback is None:
            return payload
        out = np.empty_like(payload)
        self.wire = self._feedback.compress(payload)
        self._feedback.compressor.decompress(self.wire, out)
        return out

    def give_back(self, wire: Array) -> None:
        """That contribution was dropped."""
        if self._feedback is not None:
            self._feedback.give_back(wire)


def decoded(description: str, raw: bytes, size: int) -> Array:
    """The values of a contribution that was sent as `raw`."""
    codec = compression.from_text(description)
    if codec is None:
        return np.frombuffer(raw, np.float32)
    out = np.empty(size, np.float32)
    codec.decompress(np.frombuffer(raw, np.uint8), out)
    return out


class Model:
    """One chunk's weights and optimizer state.

    Parameters
    ----------
    first : numpy.ndarray
        Its first values.
    algorithm : str
        Of `ALGORITHMS`; empty: no optimizer, the chunk becomes the sum.
    """

    def __init__(self, first: Array, algorithm: str) -> None:
        self.weight = first.copy()
        self._count = 0
        self._algorithm = algorithm
        self._optimizer: Any = None
        self._state: tuple[Array, ...] = ()
        if algorithm:
            name, config = ALGORITHMS[algorithm]
            self._optimizer = Optimizer.from_config(name, {"lr": LR, **config})
            self._state = self._optimizer.state_arrays(self.weight)

    @property
    def states(self) -> int:
        """Arrays of optimizer state."""
        return len(self._state)

    def apply(self, parts: list[Array], lr: float) -> Array:
        """One record with contributions `parts`; the weights after it."""
        self._count += 1
        if self._optimizer is None:
            self.weight = total(parts)
            return self.weight
        self._optimizer.set_hyper("learning_rate", lr)
        hyper = self._optimizer.hyper("k", self._count, self._count)
        self.weight = self.weight.copy()
        self._optimizer.update_block(self.weight, total(parts), self._state, hyper)
        return self.weight


def total(parts: list[Array]) -> Array:
    """The sum in the order given."""
    out = np.empty_like(parts[0])
    if len(parts) == 1:
        np.copyto(out, parts[0])
    else:
        xp.sum_arrays(parts, out=out)
    return out

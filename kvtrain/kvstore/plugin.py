# SPDX-License-Identifier: Apache-2.0
"""What a store written by somebody else is, and how :func:`kvtrain.kv.create` finds it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar

from kvtrain.errors import ConfigError
from kvtrain.ndarray import NDArray
from kvtrain.registry import Registry


class KVStoreBase:
    """Base of stores: ``broadcast`` and ``pushpull``, and what says who one is.

    Examples
    --------
    >>> @mx.kv.KVStoreBase.register
    ... class MyStore(mx.kv.KVStoreBase):
    ...     type, rank, num_workers = "mystore", 0, 1
    ...     def broadcast(self, key, value, out, priority=0): ...
    ...     def pushpull(self, key, value, out=None, priority=0): ...
    ...     def is_capable(self, capability): return False
    >>> kv = mx.kv.create("mystore")
    """

    OPTIMIZER: ClassVar[str] = "optimizer"
    kv_registry: ClassVar[Registry[type[KVStoreBase]]] = Registry("kvstore type")

    @staticmethod
    def register(klass: type[KVStoreBase]) -> type[KVStoreBase]:
        """Make a class known to :func:`kvtrain.kv.create` by its name, in any case."""
        if not (isinstance(klass, type) and issubclass(klass, KVStoreBase)):
            raise ConfigError(f"KVStoreBase.register: {klass!r} is no subclass of KVStoreBase")
        return KVStoreBase.kv_registry.override(klass, klass.__name__)

    def _missing(self, what: str) -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} does not define {what}")

    # ---- what a subclass defines ----------------------------------------------------------

    @property
    def type(self) -> str:
        """Name of the store."""
        raise self._missing("type")

    @property
    def rank(self) -> int:
        """Rank of this worker, from 0."""
        raise self._missing("rank")

    @property
    def num_workers(self) -> int:
        """Number of workers."""
        raise self._missing("num_workers")

    @property
    def members(self) -> tuple[int, ...]:
        """Ranks of the workers of the present step, ascending; ``num_workers`` of them."""
        return tuple(range(self.num_workers))

    def broadcast(self, key: Any, value: Any, out: Any, priority: int = 0) -> None:
        """Give every worker rank 0's `value`, in `out`: an array or a list of them."""
        raise self._missing("broadcast(key, value, out, priority)")

    def pushpull(self, key: Any, value: Any, out: Any = None, priority: int = 0) -> None:
        """Sum `value`, an array or a list of them, over workers into `out` (or `value`)."""
        raise self._missing("pushpull(key, value, out, priority)")

    def is_capable(self, capability: str) -> bool:
        """Whether the store can run an optimizer (``"optimizer"``)."""
        raise self._missing("is_capable(capability)")

    def set_optimizer(self, optimizer: Any) -> None:
        """Run `optimizer` in the store."""
        raise self._missing("set_optimizer(optimizer)")

    def save_optimizer_states(
        self, fname: str | os.PathLike[str], dump_optimizer: bool = False
    ) -> None:
        """Save the states of the optimizer that runs in the store."""
        raise self._missing("save_optimizer_states(fname, dump_optimizer)")

    def load_optimizer_states(self, fname: str | os.PathLike[str]) -> None:
        """Load what save_optimizer_states wrote."""
        raise self._missing("load_optimizer_states(fname)")

    # ---- what a Trainer asks for; a subclass may do better ----------------------------------

    def set_gradient_compression(self, compression_params: dict[str, Any]) -> None:
        """Refused by default."""
        raise ConfigError(f"gradient compression is not supported by {type(self).__name__}")

    def set_hyper(self, name: str, value: float) -> None:
        """A hyper-parameter of the Trainer's optimizer has changed."""
        return None

    def tick(self) -> None:
        """A step of the Trainer has ended."""
        return None

    def _broadcast(
        self, names: list[str], values: list[NDArray], outs: list[list[NDArray]]
    ) -> None:
        for name, value, targets in zip(names, values, outs, strict=True):
            self.broadcast(name, value, targets)

    def _push_pull(
        self,
        names: list[str],
        values: Sequence[list[NDArray] | None],
        outs: list[list[NDArray]],
        priorities: list[int],
        rescale_grad: float,
    ) -> None:
        for name, grads, targets, priority in zip(names, values, outs, priorities, strict=True):
            if grads is not None:
                self.pushpull(name, grads, out=targets, priority=priority)

    def _replace(self, key: Any, parameter: Any) -> None:
        return None


@KVStoreBase.register
class TestStore(KVStoreBase):
    """A store of one process that only sums; for tests of custom stores."""

    __test__ = False

    @property
    def type(self) -> str:
        """``teststore``."""
        return "teststore"

    @property
    def rank(self) -> int:
        """0."""
        return 0

    @property
    def num_workers(self) -> int:
        """1."""
        return 1

    def broadcast(self, key: Any, value: Any, out: Any, priority: int = 0) -> None:
        """Copy `value` to every array of `out`."""
        for target in out if isinstance(out, list | tuple) else [out]:
            target[:] = value

    def pushpull(self, key: Any, value: Any, out: Any = None, priority: int = 0) -> None:
        """The sum of the arrays of `value` to every array of `out`."""
        values = value if isinstance(value, list | tuple) else [value]
        total = values[0].copy()
        for other in values[1:]:
            total += other.as_in_context(total.context)
        targets = values if out is None else out
        for target in targets if isinstance(targets, list | tuple) else [targets]:
            target[:] = total

    def is_capable(self, capability: str) -> bool:
        """Not of an optimizer."""
        if str(capability).lower() == self.OPTIMIZER:
            return False
        raise ConfigError(f"Unknown capability: {capability}")

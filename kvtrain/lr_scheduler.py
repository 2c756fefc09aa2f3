# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedules: pure functions of the number of updates.

A schedule is evaluated on every server for itself, so calling one changes nothing in it.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from kvtrain.registry import Registry

schedulers: Registry[type[LRScheduler]] = Registry("learning-rate scheduler")


class LRScheduler:
    """Base of all schedules: a warm-up, then :meth:`rate`.

    Parameters
    ----------
    base_lr : float
        Learning rate after the warm-up.
    warmup_steps : int
        Number of updates of the warm-up.
    warmup_begin_lr : float
        Learning rate at its begin.
    warmup_mode : {'linear', 'constant'}
        Growing evenly to `base_lr`, or staying at `warmup_begin_lr`.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        schedulers.override(cls, cls.__name__)

    def __init__(
        self,
        base_lr: float = 0.01,
        warmup_steps: int = 0,
        warmup_begin_lr: float = 0,
        warmup_mode: str = "linear",
    ) -> None:
        if warmup_begin_lr > base_lr:
            raise ValueError(f"warmup_begin_lr={warmup_begin_lr} is above base_lr={base_lr}")
        if warmup_steps < 0:
            raise ValueError(f"warmup_steps={warmup_steps} must not be negative")
        if warmup_mode not in ("linear", "constant"):
            raise ValueError(f"warmup_mode={warmup_mode!r}; known: linear, constant")
        self.base_lr = base_lr
        self.warmup_steps = warmup_steps
        self.warmup_final_lr = base_lr
        self.warmup_begin_lr = warmup_begin_lr
        self.warmup_mode = warmup_mode

    def get_warmup_lr(self, num_update: int) -> float:
        """Learning rate during the warm-up."""
        if self.warmup_mode == "constant":
            return self.warmup_begin_lr
        span = self.warmup_final_lr - self.warmup_begin_lr
        return self.warmup_begin_lr + span * num_update / self.warmup_steps

    def __call__(self, num_update: int) -> float:
        """Learning rate at update number `num_update` (counted from 1)."""
        if num_update < self.warmup_steps:
            return self.get_warmup_lr(num_update)
        return self.rate(num_update)

    def rate(self, num_update: int) -> float:
        """Learning rate after the warm-up; a subclass says it."""
        raise NotImplementedError(f"{type(self).__name__} must define rate(num_update)")

    def to_config(self) -> dict[str, Any]:
        """Plain data from which :func:`from_config` makes an equal one."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}


def from_config(name: str, config: dict[str, Any]) -> LRScheduler:
    """A scheduler from its registered name and plain data."""
    cls = schedulers.get(name)
    made = cls.__new__(cls)
    vars(made).update(config)
    return made


class FactorScheduler(LRScheduler):
    """``base_lr * factor ** ((num_update - 1) // step)``, not below `stop_factor_lr`.

    Parameters
    ----------
    step : int
        Updates between changes.
    factor : float
        At most 1.
    stop_factor_lr : float
        Lowest learning rate.
    """

    def __init__(
        self,
        step: int,
        factor: float = 1,
        stop_factor_lr: float = 1e-8,
        base_lr: float = 0.01,
        warmup_steps: int = 0,
        warmup_begin_lr: float = 0,
        warmup_mode: str = "linear",
    ) -> None:
        super().__init__(base_lr, warmup_steps, warmup_begin_lr, warmup_mode)
        if step < 1:
            raise ValueError(f"step={step} must be at least 1")
        if factor > 1.0:
            raise ValueError(f"factor={factor} must be at most 1")
        self.step = step
        self.factor = factor
        self.stop_factor_lr = stop_factor_lr

    def rate(self, num_update: int) -> float:
        """See the class."""
        lr = self.base_lr
        if self.factor == 1 and lr >= self.stop_factor_lr:
            return lr
        for _ in range(max(0, num_update - 1) // self.step):
            lr *= self.factor
            if lr < self.stop_factor_lr:
                return self.stop_factor_lr
        return lr


class MultiFactorScheduler(LRScheduler):
    """Multiplied by `factor` after each of the given numbers of updates.

    Parameters
    ----------
    step : list of int
        Increasing numbers of updates.
    factor : float
        At most 1.
    """

    def __init__(
        self,
        step: list[int],
        factor: float = 1,
        base_lr: float = 0.01,
        warmup_steps: int = 0,
        warmup_begin_lr: float = 0,
        warmup_mode: str = "linear",
    ) -> None:
        super().__init__(base_lr, warmup_steps, warmup_begin_lr, warmup_mode)
        if not isinstance(step, list | tuple):
            raise ValueError(f"step={step!r} must be an increasing list of numbers from 1")
        if not step or any(b <= a for a, b in pairwise(step)) or step[0] < 1:
            raise ValueError(f"step={step} must be an increasing list of numbers from 1")
        if factor > 1.0:
            raise ValueError(f"factor={factor} must be at most 1")
        self.step = list(step)
        self.factor = factor

    def rate(self, num_update: int) -> float:
        """See the class."""
        lr = self.base_lr
        for bound in self.step:
            if num_update > bound:
                lr *= self.factor
        return lr


class PolyScheduler(LRScheduler):
    """From `base_lr` to `final_lr` by a power of the progress, over `max_update` updates."""

    def __init__(
        self,
        max_update: int,
        base_lr: float = 0.01,
        pwr: int = 2,
        final_lr: float = 0,
        warmup_steps: int = 0,
        warmup_begin_lr: float = 0,
        warmup_mode: str = "linear",
    ) -> None:
        super().__init__(base_lr, warmup_steps, warmup_begin_lr, warmup_mode)
        if not isinstance(max_update, int) or max_update < 1:
            raise ValueError(f"max_update={max_update} must be an integer of at least 1")
        self.power = pwr
        #: as in MXNet, an optimizer's own learning_rate does not reach this schedule
        self.base_lr_orig = base_lr
        self.final_lr = final_lr
        self.max_update = max_update

    def _progress(self, num_update: int) -> float:
        done = min(num_update, self.max_update) - self.warmup_steps
        return done / max(1, self.max_update - self.warmup_steps)

    def rate(self, num_update: int) -> float:
        """See the class."""
        left = 1 - self._progress(num_update)
        return self.final_lr + (self.base_lr_orig - self.final_lr) * left**self.power


class CosineScheduler(PolyScheduler):
    """From `base_lr` to `final_lr` by half a cosine, over `max_update` updates."""

    def __init__(
        self,
        max_update: int,
        base_lr: float = 0.01,
        final_lr: float = 0,
        warmup_steps: int = 0,
        warmup_begin_lr: float = 0,
        warmup_mode: str = "linear",
    ) -> None:
        super().__init__(
            max_update, base_lr, 1, final_lr, warmup_steps, warmup_begin_lr, warmup_mode
        )

    def rate(self, num_update: int) -> float:
        """See the class."""
        swing = (1 + math.cos(math.pi * self._progress(num_update))) / 2
        return self.final_lr + (self.base_lr_orig - self.final_lr) * swing

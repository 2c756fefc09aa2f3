# SPDX-License-Identifier: Apache-2.0
"""Optimizers with one learning rate per layer, from norms of the whole array."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from kvtrain.errors import ConfigError
from kvtrain.kernels import xp
from kvtrain.optimizer.base import Optimizer, register
from kvtrain.optimizer.record import Array, Hyper, Scope
from kvtrain.optimizer.sgd import SGD, common


def _norm(array: Array) -> float:
    return math.sqrt(xp.sum_of_squares(array))


@register
class LARS(SGD):
    """Layer-wise adaptive rates (You et al., 2017, arXiv:1708.03888) for SGD.

    The learning rate of a layer is
    ``lr * eta * norm(weight) / (norm(rescale_grad * grad) + wd * norm(weight) + eps)`` where both
    norms are above 0, except for names that end in gamma, beta or bias.

    Parameters
    ----------
    momentum : float
        0 keeps no state.
    eta : float
        Factor of the layer's rate.
    eps : float
        Added to the divisor.
    momentum_correction : bool
        Momentum is multiplied by the learning rate over that of the update before (Goyal et al.,
        2017), whether a schedule or set_learning_rate changed it; on servers only by a schedule.
    """

    scope = Scope.KEY
    own_hyper: ClassVar[tuple[str, ...]] = ("momentum", "eta", "eps")
    _decayed_names: ClassVar[tuple[str, ...]] = ("_weight",)

    def __init__(
        self,
        momentum: float = 0.0,
        lazy_update: bool = True,
        eta: float = 0.001,
        eps: float = 0,
        momentum_correction: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(momentum=momentum, lazy_update=lazy_update, **kwargs)
        self.momentum_correction = momentum_correction
        #: key -> (count of updates, learning rate at it, at the one before), without a schedule
        self._rates: dict[Any, tuple[int, float, float]] = {}
        self.eta = eta
        self.eps = eps

    @property
    def lazy_rows(self) -> bool:
        """False: norms are taken over all rows, which no table of rows has in one place."""
        return False

    def _lazy_here(self, weight: Any) -> bool:
        return self.lazy_update

    def update_rows(
        self, weight: Array, rows: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper
    ) -> None:
        """Norms of the whole weight and of the gradient; then only these rows are updated."""
        lr = hyper.lr * self._ratio(weight, grad, hyper)
        plain = SGD(self._momentum(hyper), multi_precision=self.multi_precision)
        plain.update_rows(weight, rows, grad, state, replace(hyper, lr=lr))

    def hyper(self, key: Any, count: int, schedule_at: int) -> Hyper:
        """As for all, and how much the learning rate has just changed."""
        found = super().hyper(key, count, schedule_at)
        if self.lr_scheduler is None:
            at, now, before = self._rates.get(key, (count, self.lr, self.lr))
            if count > at:
                at, now, before = count, self.lr, now
            self._rates[key] = (at, now, before)
        elif count <= self.begin_num_update + 1:
            return found
        else:
            before, now = self.lr_scheduler(schedule_at - 1), self.lr_scheduler(schedule_at)
        return replace(found, lr_change=now / before if before else 1.0)

    def _step(self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper) -> None:
        arguments = common(hyper)
        arguments["lr"] = hyper.lr * self._ratio(weight, grad, hyper)
        if state:
            momentum = self._momentum(hyper)
            xp.sgd_mom_update(weight, grad, state[0], momentum=momentum, **arguments)
        else:
            xp.sgd_update(weight, grad, **arguments)

    def _momentum(self, hyper: Hyper) -> float:
        return self.momentum * (hyper.lr_change if self.momentum_correction else 1.0)

    def _ratio(self, weight: Array, grad: Array, hyper: Hyper) -> float:
        if str(hyper.key).endswith(("gamma", "beta", "bias")):
            return 1.0
        w, g = _norm(weight), abs(hyper.rescale_grad) * _norm(grad)
        if not (w > 0 and g > 0):
            return 1.0
        return self.eta * w / (g + hyper.wd * w + self.eps)


@register
class LAMB(Optimizer):
    """Layer-wise adaptive moments (You et al., 2019, arXiv:1904.00962).

    ``d = mean / (sqrt(var) + epsilon) + wd * weight`` with Adam's moments of
    ``clip(rescale_grad * grad)``; ``weight -= lr * norm(weight) / norm(d) * d``.

    Parameters
    ----------
    beta1, beta2 : float
        Decay of the first and second moment.
    epsilon : float
        Added to the root of the second moment.
    lower_bound, upper_bound : float, optional
        Limits of the weight's norm.
    bias_correction : bool
        Whether the moments are corrected for their start at 0.
    """

    scope = Scope.KEY
    own_hyper: ClassVar[tuple[str, ...]] = ("beta1", "beta2", "epsilon")

    def __init__(
        self,
        learning_rate: float | None = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-6,
        lower_bound: float | None = None,
        upper_bound: float | None = None,
        bias_correction: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon
        self.lower_bound = lower_bound
        self.upper_bound = upper_bound
        self.bias_correction = bias_correction

    def _state(self, weight: Array) -> tuple[Array, ...]:
        return np.zeros_like(weight), np.zeros_like(weight)

    def _step(self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper) -> None:
        xp.lamb_update(
            weight,
            grad,
            *state,
            t=hyper.t,
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
            bias_correction=self.bias_correction,
            lower_bound=self.lower_bound or None,
            upper_bound=self.upper_bound or None,
            **common(hyper),
        )


@register
class LBSGD(Optimizer):
    """SGD that gathers `batch_scale` gradients before each update, with a warm-up.

    Parameters
    ----------
    momentum : float
        0 keeps no momentum.
    warmup_strategy : {'linear', 'power2', 'sqrt', 'lars'}
        How the learning rate grows to `batch_scale` times itself; 'lars': a rate per layer,
        ``sqrt(sum(weight**2) / (sum(grad**2) + wd * sum(weight**2)))`` within [0.01, 100].
    warmup_epochs, updates_per_epoch : int
        Length of the warm-up.
    batch_scale : int
        Gradients of one update.
    begin_epoch : int
        Epochs that are taken as done already.
    num_epochs : int
        Takes no part.
    """

    scope = Scope.KEY
    own_hyper: ClassVar[tuple[str, ...]] = ("momentum",)
    _strategies: ClassVar[tuple[str, ...]] = ("linear", "power2", "sqrt", "lars")

    def __init__(
        self,
        momentum: float = 0.0,
        multi_precision: bool = False,
        warmup_strategy: str = "linear",
        warmup_epochs: int = 5,
        batch_scale: int = 1,
        updates_per_epoch: int = 32,
        begin_epoch: int = 0,
        num_epochs: int = 60,
        **kwargs: Any,
    ) -> None:
        super().__init__(multi_precision=multi_precision, **kwargs)
        if warmup_strategy not in self._strategies:
            raise ConfigError(
                f"LBSGD: warmup_strategy={warmup_strategy!r}; known: {', '.join(self._strategies)}"
            )
        self.momentum = momentum
        self.warmup_strategy = warmup_strategy
        self.warmup_epochs = warmup_epochs
        self.batch_scale = batch_scale
        self.updates_per_epoch = updates_per_epoch
        self.init_updates = begin_epoch * updates_per_epoch
        self.num_epochs = num_epochs

    def _lazy_here(self, weight: Any) -> bool:
        return self.batch_scale == 1

    def update_rows(
        self, weight: Array, rows: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper
    ) -> None:
        """As SGD does, where no gradients are gathered."""
        number = self.init_updates + hyper.t - self.begin_num_update
        lr = hyper.lr * self._factor(weight, grad, hyper.wd, number)
        plain = SGD(self.momentum, multi_precision=self.multi_precision)
        plain.update_rows(weight, rows, grad, state, replace(hyper, lr=lr))

    def _state(self, weight: Array) -> tuple[Array, ...]:
        count = (1 if self.momentum else 0) + (1 if self.batch_scale > 1 else 0)
        return tuple(np.zeros_like(weight) for _ in range(count))

    def hyper(self, key: Any, count: int, schedule_at: int) -> Hyper:
        """As for all; the schedule is read before the update is counted, as in MXNet."""
        found = super().hyper(key, count, schedule_at)
        return replace(found, lr=super().hyper(key, count, schedule_at - 1).lr)

    def _step(self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper) -> None:
        number = self.init_updates + hyper.t - self.begin_num_update
        mom = state[0] if self.momentum else None
        if self.batch_scale > 1:
            gathered = state[-1]
            gathered += grad
            if number % self.batch_scale:
                return
            gathered /= gathered.dtype.type(self.batch_scale)
            grad = gathered
        arguments = common(hyper)
        arguments["lr"] = hyper.lr * self._factor(weight, grad, hyper.wd, number)
        if mom is not None:
            xp.sgd_mom_update(weight, grad, mom, momentum=self.momentum, **arguments)
        else:
            xp.sgd_update(weight, grad, **arguments)
        if self.batch_scale > 1:
            state[-1][...] = 0

    def _factor(self, weight: Array, grad: Array, wd: float, number: int) -> float:
        if self.warmup_strategy == "lars":
            w, g = xp.sum_of_squares(weight), xp.sum_of_squares(grad)
            return min(max(math.sqrt(w / (g + wd * w + 1e-18)), 0.01), 100.0)
        length = self.warmup_epochs * self.updates_per_epoch
        top = float(self.batch_scale)
        if number >= length:
            return top
        if length <= 1:
            return 1.0
        done = number / length
        grown = {"linear": done, "power2": done**2, "sqrt": math.sqrt(done)}
        return 1.0 + (top - 1) * grown[self.warmup_strategy]

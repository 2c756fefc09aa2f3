# SPDX-License-Identifier: Apache-2.0
"""Adam and its kin."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from kvtrain.kernels import xp
from kvtrain.optimizer.base import Optimizer, register
from kvtrain.optimizer.record import Array, Hyper
from kvtrain.optimizer.sgd import common


class _TwoMoments(Optimizer):
    """What Adam and its kin share: two decays and two arrays of state."""

    own_hyper: ClassVar[tuple[str, ...]] = ("beta1", "beta2", "epsilon")

    def __init__(
        self, learning_rate: float | None, beta1: float, beta2: float, epsilon: float, **kwargs: Any
    ) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon

    def _state(self, weight: Array) -> tuple[Array, ...]:
        return np.zeros_like(weight), np.zeros_like(weight)

    def _corrected(self, hyper: Hyper) -> float:
        """``lr * sqrt(1 - beta2**t) / (1 - beta1**t)``."""
        return hyper.lr * math.sqrt(1.0 - self.beta2**hyper.t) / (1.0 - self.beta1**hyper.t)


@register
class Adam(_TwoMoments):
    """Adam (Kingma and Ba, 2014, arXiv:1412.6980), as MXNet computes it.

    ``g = clip(rescale_grad * grad + wd * weight)``; the bias correction is in the learning
    rate: ``lr * sqrt(1 - beta2**t) / (1 - beta1**t)``, t the key's own number of updates.

    Parameters
    ----------
    beta1, beta2 : float
        Decay of the first and second moment.
    epsilon : float
        Added to the square root of the second moment.
    lazy_update : bool
        Of a row-sparse gradient only its rows are updated.
    """

    def __init__(
        self,
        learning_rate: float | None = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        lazy_update: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, epsilon, **kwargs)
        self.lazy_update = lazy_update

    @property
    def lazy_rows(self) -> bool:
        """As `lazy_update` says."""
        return self.lazy_update

    def _step(self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper) -> None:
        xp.adam_update(
            weight,
            grad,
            *state,
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
            **{**common(hyper), "lr": self._corrected(hyper)},
        )


@register
class AdamW(_TwoMoments):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2017, arXiv:1711.05101).

    ``g = clip(rescale_grad * grad)``, the moments as in Adam, then
    ``weight -= lr * (mean / (sqrt(var) + epsilon) + wd * weight)``, lr corrected as in Adam.

    Parameters
    ----------
    beta1, beta2 : float
        Decay of the first and second moment.
    epsilon : float
        Added to the square root of the second moment.
    correct_bias : bool
        Whether lr is corrected.
    """

    def __init__(
        self,
        learning_rate: float | None = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-6,
        correct_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, epsilon, **kwargs)
        self.correct_bias = correct_bias

    def _step(self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper) -> None:
        xp.adamw_update(
            weight,
            grad,
            *state,
            eta=self._corrected(hyper) if self.correct_bias else hyper.lr,
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
            **{**common(hyper), "lr": 1.0},
        )


@register
class Adamax(_TwoMoments):
    """Adam with the infinity norm (Kingma and Ba, 2014, section 7).

    ``g = clip(rescale_grad * grad + wd * weight)``, ``top = maximum(beta2 * top, abs(g))``,
    ``weight -= lr / (1 - beta1**t) * mean / top``.

    Parameters
    ----------
    beta1, beta2 : float
        Decay of the first moment and of the norm.
    """

    own_hyper: ClassVar[tuple[str, ...]] = ("beta1", "beta2")

    def __init__(
        self,
        learning_rate: float | None = 0.002,
        beta1: float = 0.9,
        beta2: float = 0.999,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, 0.0, **kwargs)

    def _step(self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper) -> None:
        arguments = common(hyper)
        arguments["lr"] = hyper.lr / (1.0 - self.beta1**hyper.t)
        arguments["clip_gradient"] = hyper.clip_gradient
        xp.adamax_update(weight, grad, *state, beta1=self.beta1, beta2=self.beta2, **arguments)


@register
class Nadam(_TwoMoments):
    """Adam with Nesterov's momentum (Dozat, 2015).

    Momentum at update t is ``beta1 * (1 - 0.5 * 0.96**(t * schedule_decay))``. Its product over
    the updates belongs to each key; MXNet multiplies it once more for every parameter of a
    step, so results agree with it for one parameter.

    Parameters
    ----------
    beta1, beta2 : float
        Decay of the first and second moment.
    epsilon : float
        Added to the square root of the second moment.
    schedule_decay : float
        Speed at which the momentum grows.
    """

    own_hyper: ClassVar[tuple[str, ...]] = ("beta1", "beta2", "epsilon", "schedule_decay")
    _products: tuple[Any, ...] = ()

    def __init__(
        self,
        learning_rate: float | None = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        schedule_decay: float = 0.004,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, epsilon, **kwargs)
        self.schedule_decay = schedule_decay

    def _momentum(self, t: int) -> float:
        return self.beta1 * (1.0 - 0.5 * 0.96 ** (t * self.schedule_decay))

    def _product(self, t: int) -> float:
        """Product of the momenta of updates ``begin_num_update + 1`` to `t`."""
        config = (self.beta1, self.schedule_decay, self.begin_num_update)
        last, product = self.begin_num_update, 1.0
        if self._products and self._products[0] == config and self._products[1] <= t:
            _, last, product = self._products
        for i in range(last + 1, t + 1):
            product *= self._momentum(i)
        self._products = (config, t, product)
        return product

    def _step(self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper) -> None:
        now, after = self._momentum(hyper.t), self._momentum(hyper.t + 1)
        product = self._product(hyper.t)
        arguments = common(hyper)
        arguments["clip_gradient"] = hyper.clip_gradient
        xp.nadam_update(
            weight,
            grad,
            *state,
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
            grad_factor=(1.0 - now) / (1.0 - product),
            mean_factor=after / (1.0 - product * after),
            var_factor=1.0 / (1.0 - self.beta2**hyper.t),
            **arguments,
        )

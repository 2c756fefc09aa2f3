# SPDX-License-Identifier: Apache-2.0
"""Adam."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from kvtrain.kernels import xp
from kvtrain.optimizer.base import Array, Hyper, Optimizer, register


@register
class Adam(Optimizer):
    """Adam (Kingma and Ba, 2014, arXiv:1412.6980), as MXNet computes it.

    ``g = clip(rescale_grad * grad + wd * weight)``; the bias correction is in the learning
    rate: ``lr * sqrt(1 - beta2**t) / (1 - beta1**t)``, t the key's own number of updates.

    Parameters
    ----------
    beta1, beta2 : float
        Decay of the first and second moment.
    epsilon : float
        Added to the square root of the second moment.
    """

    own_hyper: ClassVar[tuple[str, ...]] = ("beta1", "beta2", "epsilon")

    def __init__(
        self,
        learning_rate: float | None = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        lazy_update: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon
        self.lazy_update = lazy_update

    def state_arrays(self, weight: Array) -> tuple[Array, ...]:
        """First and second moment."""
        return np.zeros_like(weight), np.zeros_like(weight)

    def update_block(
        self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper
    ) -> None:
        """See the class."""
        correction = math.sqrt(1.0 - self.beta2**hyper.t) / (1.0 - self.beta1**hyper.t)
        xp.adam_update(
            weight,
            grad,
            *state,
            lr=hyper.lr * correction,
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
            wd=hyper.wd,
            rescale_grad=hyper.rescale_grad,
            clip_gradient=hyper.clip_gradient,
        )

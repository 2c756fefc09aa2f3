# SPDX-License-Identifier: Apache-2.0
"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from kvtrain.kernels import xp
from kvtrain.optimizer.base import Array, Hyper, Optimizer, register


@register
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and weight decay.

    ``g = clip(rescale_grad * grad)``; without momentum
    ``weight = (1 - lr * wd) * weight - lr * g``, with it
    ``mom = momentum * mom - lr * (g + wd * weight)`` and ``weight += mom``.

    Parameters
    ----------
    momentum : float
        0 keeps no state.
    lazy_update : bool
        For row-sparse gradients; dense ones take no notice.
    """

    own_hyper: ClassVar[tuple[str, ...]] = ("momentum",)

    def __init__(self, momentum: float = 0.0, lazy_update: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.momentum = momentum
        self.lazy_update = lazy_update

    def state_arrays(self, weight: Array) -> tuple[Array, ...]:
        """The momentum, if there is one."""
        return (np.zeros_like(weight),) if self.momentum else ()

    def update_block(
        self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper
    ) -> None:
        """See the class."""
        common: dict[str, Any] = {
            "lr": hyper.lr,
            "wd": hyper.wd,
            "rescale_grad": hyper.rescale_grad,
            "clip_gradient": hyper.clip_gradient,
        }
        if state:
            xp.sgd_mom_update(weight, grad, state[0], momentum=self.momentum, **common)
        else:
            xp.sgd_update(weight, grad, **common)


@register
class Test(Optimizer):
    """Adds ``rescale_grad * grad`` to the weight and keeps a copy of it; for tests of stores."""

    __test__ = False

    def state_arrays(self, weight: Array) -> tuple[Array, ...]:
        """A copy of the last weight."""
        return (np.zeros_like(weight),)

    def update_block(
        self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper
    ) -> None:
        """See the class."""
        weight += grad * weight.dtype.type(hyper.rescale_grad)
        state[0][...] = weight

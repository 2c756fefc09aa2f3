# SPDX-License-Identifier: Apache-2.0
"""Stochastic gradient descent and its kin."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

import numpy as np

from kvtrain import generators
from kvtrain.kernels import xp
from kvtrain.ndarray import NDArray
from kvtrain.optimizer.base import Optimizer, register
from kvtrain.optimizer.record import Array, Hyper, Scope


def common(hyper: Hyper) -> dict[str, Any]:
    """Arguments that nearly all kernels take; a clip_gradient of 0 is none, as in MXNet."""
    return {
        "lr": hyper.lr,
        "wd": hyper.wd,
        "rescale_grad": hyper.rescale_grad,
        "clip_gradient": hyper.clip_gradient or None,
    }


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
        Of a row-sparse gradient only its rows are updated.
    """

    own_hyper: ClassVar[tuple[str, ...]] = ("momentum",)
    _master_last: ClassVar[bool] = True

    def __init__(self, momentum: float = 0.0, lazy_update: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.momentum = momentum
        self.lazy_update = lazy_update

    @property
    def lazy_rows(self) -> bool:
        """As `lazy_update` says."""
        return self.lazy_update

    def _state(self, weight: Array) -> tuple[Array, ...]:
        return (np.zeros_like(weight),) if self.momentum else ()

    def _step(self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper) -> None:
        if state:
            xp.sgd_mom_update(weight, grad, state[0], momentum=self.momentum, **common(hyper))
        else:
            xp.sgd_update(weight, grad, **common(hyper))


@register
class ccSGD(SGD):
    """SGD under an old name."""


@register
class NAG(Optimizer):
    """Nesterov's accelerated gradient.

    ``g = lr * (clip(rescale_grad * grad) + wd * weight)``, ``mom = momentum * mom - g``,
    ``weight += momentum * mom - g``; plain SGD without momentum.

    Parameters
    ----------
    momentum : float
        0 keeps no state.
    """

    own_hyper: ClassVar[tuple[str, ...]] = ("momentum",)
    _master_last: ClassVar[bool] = True

    def __init__(self, momentum: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.momentum = momentum

    def _state(self, weight: Array) -> tuple[Array, ...]:
        return (np.zeros_like(weight),) if self.momentum else ()

    def _step(self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper) -> None:
        if state:
            xp.nag_mom_update(weight, grad, state[0], momentum=self.momentum, **common(hyper))
        else:
            xp.sgd_update(weight, grad, **common(hyper))


@register
class Signum(Optimizer):
    """The sign of the momentum, or of the gradient (Bernstein et al., 2018, arXiv:1802.04434).

    ``mom = momentum * mom - (1 - momentum) * (clip(rescale_grad * grad) + wd * weight)``,
    ``weight = (1 - lr * wd_lh) * weight + lr * sign(mom)``; without momentum
    ``weight = (1 - lr * wd) * weight - lr * sign(grad)``.

    Parameters
    ----------
    momentum : float
        0 keeps no state: SignSGD.
    wd_lh : float
        Decoupled weight decay.
    """

    own_hyper: ClassVar[tuple[str, ...]] = ("momentum", "wd_lh")

    def __init__(
        self,
        learning_rate: float | None = 0.01,
        momentum: float = 0.9,
        wd_lh: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.momentum = momentum
        self.wd_lh = wd_lh

    def _state(self, weight: Array) -> tuple[Array, ...]:
        return (np.zeros_like(weight),) if self.momentum else ()

    def _step(self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper) -> None:
        if state:
            xp.signum_update(
                weight,
                grad,
                state[0],
                momentum=self.momentum,
                wd_lh=self.wd_lh,
                **common(hyper),
            )
        else:
            xp.signsgd_update(weight, grad, **common(hyper))


@register
class DCASGD(Optimizer):
    """Asynchronous SGD with compensation of delay (Zheng et al., 2016, arXiv:1609.08326).

    ``d = -lr * (g + wd * weight + lamda * g * g * (weight - previous weight))`` with
    ``g = clip(rescale_grad * grad)``; with momentum ``mom = momentum * mom + d`` is added.

    Parameters
    ----------
    momentum : float
    lamda : float
        Strength of the compensation.
    """

    own_hyper: ClassVar[tuple[str, ...]] = ("momentum", "lamda")

    def __init__(self, momentum: float = 0.0, lamda: float = 0.04, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.momentum = momentum
        self.lamda = lamda

    def _state(self, weight: Array) -> tuple[Array, ...]:
        mom = (np.zeros_like(weight),) if self.momentum else ()
        return (*mom, weight.copy())

    def _pack(self, arrays: list[NDArray]) -> Any:
        return tuple(arrays) if len(arrays) == 2 else (None, arrays[0])

    def _step(self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper) -> None:
        xp.dcasgd_update(
            weight,
            grad,
            state[-1],
            state[0] if len(state) == 2 else None,
            lamda=self.lamda,
            momentum=self.momentum,
            **common(hyper),
        )


@register
class SGLD(Optimizer):
    """Stochastic gradient Langevin dynamics (Welling and Teh, 2011; Patterson and Teh, 2013).

    ``weight -= lr / 2 * (clip(rescale_grad * grad) + wd * weight)``, then noise of variance lr
    is added. The noise depends on the seed, the key's name and the number of the update, so
    workers, servers and their replacements draw the same.

    Parameters
    ----------
    seed : int, optional
        Default: the seed of ``mx.random.seed`` in force when the optimizer is made.
    """

    scope = Scope.KEY

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = generators.last_seed() if seed is None else int(seed)

    def noise(self, key: Any, t: int) -> np.random.Generator:
        """The generator for update `t` of `key`."""
        text = f"{self.seed}/{key}".encode()
        words = np.frombuffer(hashlib.blake2b(text, digest_size=16).digest(), np.uint64)
        return np.random.Generator(np.random.Philox(key=words, counter=[0, 0, 0, t]))

    def _step(self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper) -> None:
        xp.sgld_update(weight, grad, self.noise(hyper.key, hyper.t), **common(hyper))


@register
class Test(Optimizer):
    """Adds ``rescale_grad * grad`` to the weight and keeps a copy of it; for tests of stores."""

    __test__ = False

    def _state(self, weight: Array) -> tuple[Array, ...]:
        return (np.zeros_like(weight),)

    def _step(self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper) -> None:
        weight += grad * weight.dtype.type(hyper.rescale_grad)
        state[0][...] = weight

# SPDX-License-Identifier: Apache-2.0
"""Optimizers that divide by a root of past gradients: AdaGrad, AdaDelta, RMSProp, FTRL, FTML."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from kvtrain.errors import ConfigError
from kvtrain.kernels import xp
from kvtrain.ndarray import NDArray
from kvtrain.optimizer.base import Optimizer, register
from kvtrain.optimizer.record import Array, Hyper, Scope
from kvtrain.optimizer.sgd import common


def _clipped(hyper: Hyper) -> dict[str, Any]:
    """As `common`, but a clip_gradient of 0 limits everything to 0, as in MXNet."""
    return {**common(hyper), "clip_gradient": hyper.clip_gradient}


@register
class AdaGrad(Optimizer):
    """AdaGrad (Duchi et al., 2011).

    ``g = clip(rescale_grad * grad)``, ``history += g * g``,
    ``weight -= lr * (g / sqrt(history + eps) + wd * weight)``. Of a row-sparse gradient only
    its rows are updated.

    Parameters
    ----------
    eps : float
        Added under the root.
    """

    own_hyper: ClassVar[tuple[str, ...]] = ("float_stable_eps",)

    def __init__(self, eps: float = 1e-7, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.float_stable_eps = eps

    @property
    def lazy_rows(self) -> bool:
        """True."""
        return True

    def _state(self, weight: Array) -> tuple[Array, ...]:
        return (np.zeros_like(weight),)

    def _step(self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper) -> None:
        xp.adagrad_update(weight, grad, state[0], epsilon=self.float_stable_eps, **_clipped(hyper))


@register
class GroupAdaGrad(Optimizer):
    """AdaGrad with one learning rate per row, for weights of two dimensions.

    ``history += mean(g * g, axis=1)``, ``weight -= lr * g / sqrt(history + eps)``. Of a
    row-sparse gradient only its rows are updated.

    Parameters
    ----------
    eps : float
        Added under the root.

    Raises
    ------
    ConfigError
        The weight has not two dimensions, or there is weight decay.
    """

    scope = Scope.ROW
    own_hyper: ClassVar[tuple[str, ...]] = ("float_stable_eps",)

    def __init__(self, eps: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.float_stable_eps = eps

    @property
    def lazy_rows(self) -> bool:
        """True."""
        return True

    def _state(self, weight: Array) -> tuple[Array, ...]:
        if weight.ndim != 2:
            raise ConfigError(f"GroupAdaGrad: weight of shape {weight.shape}; two dimensions only")
        return (np.zeros((len(weight), 1), weight.dtype),)

    def _step(self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper) -> None:
        if hyper.wd:
            raise ConfigError(f"GroupAdaGrad: wd={hyper.wd}; weight decay is not supported")
        arguments = _clipped(hyper)
        del arguments["wd"]
        xp.group_adagrad_update(weight, grad, state[0], epsilon=self.float_stable_eps, **arguments)


@register
class AdaDelta(Optimizer):
    """AdaDelta (Zeiler, 2012, arXiv:1212.5701); the learning rate takes no part.

    ``acc_g = rho * acc_g + (1 - rho) * g * g``,
    ``d = sqrt(acc_delta + epsilon) / sqrt(acc_g + epsilon) * g``,
    ``acc_delta = rho * acc_delta + (1 - rho) * d * d``, ``weight -= d + wd * weight``.

    Parameters
    ----------
    rho : float
        Decay of both averages.
    epsilon : float
        Added under the roots.
    """

    own_hyper: ClassVar[tuple[str, ...]] = ("rho", "epsilon")

    def __init__(self, rho: float = 0.9, epsilon: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rho = rho
        self.epsilon = epsilon

    def _state(self, weight: Array) -> tuple[Array, ...]:
        return np.zeros_like(weight), np.zeros_like(weight)

    def _step(self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper) -> None:
        arguments = _clipped(hyper)
        del arguments["lr"]
        xp.adadelta_update(weight, grad, *state, rho=self.rho, epsilon=self.epsilon, **arguments)


@register
class RMSProp(Optimizer):
    """RMSProp (Tieleman and Hinton, 2012), or Graves's centered one (2013, arXiv:1308.0850).

    ``n = gamma1 * n + (1 - gamma1) * g * g``, ``weight -= lr * g / sqrt(n + epsilon)``;
    centered ``delta = gamma2 * delta - lr * g / sqrt(n - mean * mean + epsilon)``,
    ``weight += delta``, mean the average of g.

    Parameters
    ----------
    gamma1 : float
        Decay of the averages.
    gamma2 : float
        Momentum, if centered.
    epsilon : float
        Added under the root.
    centered : bool
    clip_weights : float, optional
        Weights are limited to ``[-clip_weights, clip_weights]``.
    """

    own_hyper: ClassVar[tuple[str, ...]] = ("gamma1", "gamma2", "epsilon", "clip_weights")

    def __init__(
        self,
        learning_rate: float | None = 0.001,
        gamma1: float = 0.9,
        gamma2: float = 0.9,
        epsilon: float = 1e-8,
        centered: bool = False,
        clip_weights: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.gamma1 = gamma1
        self.gamma2 = gamma2
        self.centered = centered
        self.epsilon = epsilon
        self.clip_weights = clip_weights

    def _state(self, weight: Array) -> tuple[Array, ...]:
        return tuple(np.zeros_like(weight) for _ in range(3 if self.centered else 1))

    def _pack(self, arrays: list[NDArray]) -> Any:
        return tuple(arrays)

    def _step(self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper) -> None:
        arguments = {
            **common(hyper),
            "gamma1": self.gamma1,
            "epsilon": self.epsilon,
            "clip_weights": self.clip_weights or None,
        }
        if self.centered:
            xp.rmspropalex_update(weight, grad, *state, gamma2=self.gamma2, **arguments)
        else:
            xp.rmsprop_update(weight, grad, *state, **arguments)


@register
class Ftrl(Optimizer):
    """Follow the regularized leader (McMahan et al., 2013).

    ``z += g - (sqrt(n + g * g) - sqrt(n)) * weight / lr``, ``n += g * g``,
    ``weight = (sign(z) * lamda1 - z) / ((beta + sqrt(n)) / lr + wd) * (abs(z) > lamda1)``.
    Of a row-sparse gradient of a row-sparse weight only its rows are updated.

    Parameters
    ----------
    lamda1 : float
        L1 coefficient.
    beta : float
        Added to the root.
    """

    own_hyper: ClassVar[tuple[str, ...]] = ("lamda1", "beta")

    def __init__(
        self,
        lamda1: float = 0.01,
        learning_rate: float | None = 0.1,
        beta: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.lamda1 = lamda1
        self.beta = beta
        if learning_rate is not None:
            self.lr = learning_rate

    @property
    def lazy_rows(self) -> bool:
        """True."""
        return True

    def _lazy_here(self, weight: Any) -> bool:
        return getattr(weight, "stype", "default") == "row_sparse"

    def _state(self, weight: Array) -> tuple[Array, ...]:
        return np.zeros_like(weight), np.zeros_like(weight)

    def _step(self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper) -> None:
        xp.ftrl_update(weight, grad, *state, lamda1=self.lamda1, beta=self.beta, **common(hyper))


@register
class FTML(Optimizer):
    """Follow the moving leader (Zheng and Kwok, 2017).

    ``g = clip(rescale_grad * grad + wd * weight)``,
    ``v = beta2 * v + (1 - beta2) * g * g``,
    ``new = (1 - beta1**t) / lr * (sqrt(v / (1 - beta2**t)) + epsilon)``,
    ``z = beta1 * z + (1 - beta1) * g - (new - beta1 * d) * weight``, ``weight = -z / new``.

    Parameters
    ----------
    beta1, beta2 : float
        Decay of z and v.
    epsilon : float
        Added to the root.
    """

    own_hyper: ClassVar[tuple[str, ...]] = ("beta1", "beta2", "epsilon")

    def __init__(
        self, beta1: float = 0.6, beta2: float = 0.999, epsilon: float = 1e-8, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon

    def _state(self, weight: Array) -> tuple[Array, ...]:
        return np.zeros_like(weight), np.zeros_like(weight), np.zeros_like(weight)

    def _step(self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper) -> None:
        arguments = common(hyper)
        arguments["clip_grad"] = arguments.pop("clip_gradient")
        xp.ftml_update(
            weight,
            grad,
            *state,
            t=hyper.t,
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
            **arguments,
        )

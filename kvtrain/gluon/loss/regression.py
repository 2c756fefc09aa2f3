# SPDX-License-Identifier: Apache-2.0
"""Losses of numbers: squared, absolute, Huber, hinge, Poisson."""

from __future__ import annotations

import math
from typing import Any

from kvtrain.gluon.loss.base import Loss, weighted


class L2Loss(Loss):
    """``weight / 2 * (label - pred)**2``, mean per sample."""

    def __init__(self, weight: float | None = 1.0, batch_axis: int = 0, **kwargs: Any) -> None:
        super().__init__(weight, batch_axis, **kwargs)

    def hybrid_forward(self, F: Any, pred: Any, label: Any, sample_weight: Any = None) -> Any:
        """Predictions and labels of as many elements."""
        loss = F.square(label.reshape(pred.shape) - pred)
        weight = None if self._weight is None else self._weight / 2
        return self._mean(F, weighted(F, loss, weight, sample_weight))


class L1Loss(Loss):
    """``weight * |label - pred|``, mean per sample."""

    def __init__(self, weight: float | None = None, batch_axis: int = 0, **kwargs: Any) -> None:
        super().__init__(weight, batch_axis, **kwargs)

    def hybrid_forward(self, F: Any, pred: Any, label: Any, sample_weight: Any = None) -> Any:
        """Predictions and labels of as many elements."""
        loss = F.abs(label.reshape(pred.shape) - pred)
        return self._mean(F, weighted(F, loss, self._weight, sample_weight))


class HuberLoss(Loss):
    """Squared error up to `rho`, absolute error beyond."""

    def __init__(
        self, rho: float = 1, weight: float | None = None, batch_axis: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self._rho = rho

    def hybrid_forward(self, F: Any, pred: Any, label: Any, sample_weight: Any = None) -> Any:
        """Predictions and labels of as many elements."""
        loss = F.abs(label.reshape(pred.shape) - pred)
        far = loss - 0.5 * self._rho
        near = (0.5 / self._rho) * F.square(loss)
        loss = F.where(loss > self._rho, far, near)
        return self._mean(F, weighted(F, loss, self._weight, sample_weight))


class HingeLoss(Loss):
    """``max(0, margin - pred * label)``; labels are -1 and 1."""

    def __init__(
        self, margin: float = 1, weight: float | None = None, batch_axis: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self._margin = margin

    def hybrid_forward(self, F: Any, pred: Any, label: Any, sample_weight: Any = None) -> Any:
        """Predictions and labels of as many elements."""
        loss = F.relu(self._margin - pred * label.reshape(pred.shape))
        return self._mean(F, weighted(F, loss, self._weight, sample_weight))


class SquaredHingeLoss(Loss):
    """``max(0, margin - pred * label)**2``; labels are -1 and 1."""

    def __init__(
        self, margin: float = 1, weight: float | None = None, batch_axis: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self._margin = margin

    def hybrid_forward(self, F: Any, pred: Any, label: Any, sample_weight: Any = None) -> Any:
        """Predictions and labels of as many elements."""
        loss = F.square(F.relu(self._margin - pred * label.reshape(pred.shape)))
        return self._mean(F, weighted(F, loss, self._weight, sample_weight))


class PoissonNLLLoss(Loss):
    """Negative log-likelihood of counts under a Poisson distribution; one number in all.

    Parameters
    ----------
    from_logits : bool
        Predictions are logarithms of rates.
    compute_full : bool
        Add Stirling's approximation of the label's factorial.
    """

    def __init__(
        self,
        weight: float | None = None,
        from_logits: bool = True,
        batch_axis: int = 0,
        compute_full: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self._from_logits = from_logits
        self._compute_full = compute_full

    def hybrid_forward(
        self, F: Any, pred: Any, target: Any, sample_weight: Any = None, epsilon: float = 1e-8
    ) -> Any:
        """Predictions and counts of as many elements."""
        target = target.reshape(pred.shape)
        if self._from_logits:
            loss = F.exp(pred) - target * pred
        else:
            loss = pred - target * F.log(pred + epsilon)
        if self._compute_full:
            stirling = target * F.log(target) - target + 0.5 * F.log(2 * target * math.pi)
            loss = loss + F.where(target > 1, stirling, F.zeros_like(target))
        return F.mean(weighted(F, loss, self._weight, sample_weight))

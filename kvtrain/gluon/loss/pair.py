# SPDX-License-Identifier: Apache-2.0
"""Losses of pairs and triples of vectors."""

from __future__ import annotations

from typing import Any

from kvtrain.errors import ConfigError
from kvtrain.gluon.loss.base import Loss, weighted


class TripletLoss(Loss):
    """``max(0, |positive - pred|^2 - |negative - pred|^2 + margin)`` per sample."""

    def __init__(
        self, margin: float = 1, weight: float | None = None, batch_axis: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self._margin = margin

    def hybrid_forward(
        self, F: Any, pred: Any, positive: Any, negative: Any, sample_weight: Any = None
    ) -> Any:
        """Three arrays of as many elements."""
        positive = positive.reshape(pred.shape)
        negative = negative.reshape(pred.shape)
        loss = F.sum(
            F.square(positive - pred) - F.square(negative - pred),
            axis=self._batch_axis,
            exclude=True,
        )
        return weighted(F, F.relu(loss + self._margin), self._weight, sample_weight)


class CosineEmbeddingLoss(Loss):
    """``1 - cos`` of two vectors with label 1, ``max(0, cos - margin)`` with label -1.

    Parameters
    ----------
    margin : float
        Cosine that unlike vectors may have.
    """

    def __init__(
        self, weight: float | None = None, batch_axis: int = 0, margin: float = 0, **kwargs: Any
    ) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self._margin = margin

    def hybrid_forward(
        self, F: Any, input1: Any, input2: Any, label: Any, sample_weight: Any = None
    ) -> Any:
        """Two arrays of vectors along the last dimension, labels -1 and 1; (n, 1) in return."""
        input1 = input1.reshape(input2.shape)
        label = label.reshape((-1, 1))
        norms = [F.sqrt(F.sum(F.square(a), axis=-1)).reshape((-1, 1)) for a in (input1, input2)]
        product = F.sum(input1 * input2, axis=-1).reshape((-1, 1))
        cosine = product / F.maximum(norms[0] * norms[1], 1e-12)
        loss = (1 - cosine) * (label == 1) + F.maximum(cosine - self._margin, 0.0) * (label == -1)
        return weighted(F, loss, self._weight, sample_weight)


class SDMLLoss(Loss):
    """Smoothed deep metric learning (Bonadiman et al., 2019).

    The softmax of negative squared distances of each vector of one batch to all of the other
    is compared with the smoothed identity: ``x1[i]`` belongs to ``x2[i]``.

    Parameters
    ----------
    smoothing_parameter : float
        Probability that is shared by the vectors that do not belong.
    """

    def __init__(
        self,
        smoothing_parameter: float = 0.3,
        weight: float | None = 1.0,
        batch_axis: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self.smoothing_parameter = smoothing_parameter

    def hybrid_forward(self, F: Any, x1: Any, x2: Any) -> Any:
        """Two batches of n vectors, (n, dim); one number per pair, (n,)."""
        n = x1.shape[0]
        if x1.shape != x2.shape or x1.ndim != 2 or n < 2:
            raise ConfigError(
                f"SDMLLoss: shapes {x1.shape} and {x2.shape}; two equal ones (n, dim), n > 1, "
                "are needed"
            )
        gaps = F.expand_dims(x1, 1) - F.expand_dims(x2, 0)  # (n, n, dim)
        log_probs = F.log_softmax(-F.sum(F.square(gaps), axis=2), axis=1)
        share = self.smoothing_parameter
        eye = F.eye(n, ctx=x1.context, dtype=x1.dtype)
        labels = eye * (1 - share) + (1 - eye) * share / (n - 1)
        loss = F.sum(labels * (F.log(labels + 1e-12) - log_probs), axis=1)
        return weighted(F, loss, self._weight, None)

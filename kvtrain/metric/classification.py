# SPDX-License-Identifier: Apache-2.0
"""Metrics of classifiers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kvtrain.metric.base import EvalMetric, as_list, metrics, pairs, plain, register


@register
class Accuracy(EvalMetric):
    """Share of labels that the prediction hits.

    Parameters
    ----------
    axis : int
        Dimension of the classes, where predictions are scores.
    """

    def __init__(self, axis: int = 1, name: str = "accuracy", **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.axis = axis

    def update(self, labels: Any, preds: Any) -> None:
        """Labels are class numbers; predictions scores, or class numbers of equal shape."""
        for label, pred in pairs(labels, preds):
            if pred.shape != label.shape:
                pred = pred.argmax(axis=self.axis)
            hit = pred.astype(np.int64).reshape(-1) == _same(label, pred)
            self.sum_metric += int(hit.sum())
            self.num_inst += hit.size


def _same(label: Any, pred: Any) -> Any:
    if label.size != pred.size:
        raise ValueError(f"labels of shape {label.shape} for predictions of shape {pred.shape}")
    return label.astype(np.int64).reshape(-1)


metrics.register(Accuracy, "acc")


@register
class TopKAccuracy(EvalMetric):
    """Share of labels among the `top_k` highest scores."""

    def __init__(self, top_k: int = 1, name: str = "top_k_accuracy", **kwargs: Any) -> None:
        if top_k <= 1:
            raise ValueError("TopKAccuracy: top_k must be above 1; use Accuracy for 1")
        super().__init__(f"{name}_{top_k}", **kwargs)
        self.top_k = top_k

    def update(self, labels: Any, preds: Any) -> None:
        """Labels (n,), scores (n, classes)."""
        for label, pred in pairs(labels, preds):
            best = np.argsort(pred, axis=1)[:, -self.top_k :]
            self.sum_metric += int((best == label.astype(np.int64).reshape(-1, 1)).sum())
            self.num_inst += len(best)


metrics.register(TopKAccuracy, "top_k_accuracy", "top_k_acc")


@register
class F1(EvalMetric):
    """Harmonic mean of precision and recall of class 1 against class 0."""

    def __init__(self, name: str = "f1", average: str = "macro", **kwargs: Any) -> None:
        self.average = average
        super().__init__(name, **kwargs)

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._counts = np.zeros(3)

    def update(self, labels: Any, preds: Any) -> None:
        """Labels 0 and 1, scores (n, 2) or class numbers."""
        for label, pred in pairs(labels, preds):
            guess = pred.argmax(axis=1) if pred.ndim > 1 else (pred > 0.5)
            truth = label.reshape(-1).astype(bool)
            guess = guess.reshape(-1).astype(bool)
            counts = np.array(
                [(guess & truth).sum(), (guess & ~truth).sum(), (~guess & truth).sum()], float
            )
            if self.average == "macro":
                self.sum_metric += _f1(counts)
                self.num_inst += 1
            else:
                self._counts += counts
                self.num_inst += truth.size
                self.sum_metric = _f1(self._counts) * self.num_inst


def _f1(counts: Any) -> float:
    total = 2 * counts[0] + counts[1] + counts[2]
    return float(2 * counts[0] / total) if total else 0.0


@register
class CrossEntropy(EvalMetric):
    """Mean of minus the logarithm of the probability given to the label."""

    def __init__(self, eps: float = 1e-12, name: str = "cross-entropy", **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.eps = eps

    def update(self, labels: Any, preds: Any) -> None:
        """Labels (n,), probabilities (n, classes)."""
        for label, pred in pairs(labels, preds):
            rows = label.reshape(-1).astype(np.int64)
            given = pred.reshape(rows.size, -1)[np.arange(rows.size), rows]
            self.sum_metric += float((-np.log(given + self.eps)).sum())
            self.num_inst += rows.size


metrics.register(CrossEntropy, "ce", "cross-entropy")


@register
class NegativeLogLikelihood(CrossEntropy):
    """As CrossEntropy, under another name."""

    def __init__(self, eps: float = 1e-12, name: str = "nll-loss", **kwargs: Any) -> None:
        super().__init__(eps, name, **kwargs)


metrics.register(NegativeLogLikelihood, "nll_loss", "nll-loss")


@register
class Perplexity(EvalMetric):
    """e to the mean of minus the log-probability of the label.

    Parameters
    ----------
    ignore_label : int or None
        Label that does not count.
    """

    def __init__(
        self,
        ignore_label: int | None = None,
        axis: int = -1,
        name: str = "perplexity",
        **kwargs: Any,
    ) -> None:
        super().__init__(name, **kwargs)
        self.ignore_label = ignore_label
        self.axis = axis

    def update(self, labels: Any, preds: Any) -> None:
        """Labels (...), probabilities (..., classes)."""
        for label, pred in pairs(labels, preds):
            moved = np.moveaxis(pred, self.axis, -1).reshape(-1, pred.shape[self.axis])
            rows = label.reshape(-1).astype(np.int64)
            given = moved[np.arange(rows.size), rows]
            if self.ignore_label is not None:
                given = given[rows != self.ignore_label]
            self.sum_metric += float(-np.log(np.maximum(given, 1e-10)).sum())
            self.num_inst += given.size

    def get(self) -> tuple[Any, Any]:
        """``(name, value)``."""
        if self.num_inst == 0:
            return self.name, float("nan")
        return self.name, math.exp(self.sum_metric / self.num_inst)


@register
class Loss(EvalMetric):
    """Mean of the predictions themselves: for networks whose output is a loss."""

    def __init__(self, name: str = "loss", **kwargs: Any) -> None:
        super().__init__(name, **kwargs)

    def update(self, labels: Any, preds: Any) -> None:
        """Labels take no part."""
        for pred in as_list(preds):
            values = plain(pred)
            self.sum_metric += float(values.sum())
            self.num_inst += values.size

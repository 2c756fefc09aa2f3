# SPDX-License-Identifier: Apache-2.0
"""Metrics of classifiers and of losses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kvtrain.metric.base import EvalMetric, alias, as_list, pairs, plain, register

Names = list[str] | None


@alias("acc")
@register
class Accuracy(EvalMetric):
    """Share of labels that the prediction hits.

    Parameters
    ----------
    axis : int
        Dimension of the classes, where predictions are scores.
    """

    def __init__(
        self,
        axis: int = 1,
        name: str = "accuracy",
        output_names: Names = None,
        label_names: Names = None,
    ) -> None:
        super().__init__(name, output_names, label_names, has_global_stats=True, axis=axis)
        self.axis = axis

    def update(self, labels: Any, preds: Any) -> None:
        """Labels are class numbers; predictions scores, or class numbers of equal shape."""
        for label, pred in pairs(labels, preds):
            if pred.shape != label.shape and pred.ndim > max(0, self.axis):
                pred = pred.argmax(axis=self.axis)
            if label.size != pred.size:
                raise ValueError(
                    f"Shape of labels {label.shape} does not match shape of predictions "
                    f"{pred.shape}"
                )
            hit = pred.astype(np.int32).reshape(-1) == label.astype(np.int32).reshape(-1)
            self._add(int(hit.sum()), hit.size)


@alias("top_k_accuracy", "top_k_acc")
@register
class TopKAccuracy(EvalMetric):
    """Share of labels among the `top_k` highest scores."""

    def __init__(
        self,
        top_k: int = 1,
        name: str = "top_k_accuracy",
        output_names: Names = None,
        label_names: Names = None,
    ) -> None:
        if top_k <= 1:
            raise ValueError("TopKAccuracy: top_k must be above 1; use Accuracy for 1")
        super().__init__(name, output_names, label_names, has_global_stats=True, top_k=top_k)
        self.top_k = top_k
        self.name += f"_{top_k}"

    def update(self, labels: Any, preds: Any) -> None:
        """Labels (n,), scores (n, classes), or class numbers (n,)."""
        for label, pred in pairs(labels, preds):
            if pred.ndim > 2 or len(label) != len(pred):
                raise ValueError(
                    f"TopKAccuracy: labels of shape {label.shape}, predictions of shape "
                    f"{pred.shape}; wanted are (n,) and (n, classes)"
                )
            rows = label.astype(np.int32).reshape(-1)
            if pred.ndim == 1:
                self._add(int((pred.astype(np.int32) == rows).sum()), len(rows))
                continue
            top = min(self.top_k, pred.shape[1])
            best = np.argpartition(pred.astype(np.float32), -top, axis=1)[:, -top:]
            self._add(int((best == rows[:, None]).sum()), len(rows))


class _Probability(EvalMetric):
    """Mean over samples of minus the logarithm of the probability given to the label."""

    def __init__(self, eps: float, name: str, output_names: Names, label_names: Names) -> None:
        super().__init__(name, output_names, label_names, has_global_stats=True, eps=eps)
        self.eps = eps

    def update(self, labels: Any, preds: Any) -> None:
        """Labels of n elements, probabilities (n, classes)."""
        for label, pred in pairs(labels, preds):
            rows = label.reshape(-1).astype(np.int64)
            if rows.size != pred.shape[0]:
                raise ValueError(
                    f"{type(self).__name__}: labels of shape {label.shape}, predictions of shape "
                    f"{pred.shape}"
                )
            given = pred[np.arange(rows.size), rows]
            self._add(float((-np.log(given + self.eps)).sum()), rows.size)


@alias("ce", "cross-entropy")
@register
class CrossEntropy(_Probability):
    """Mean of minus the logarithm of the probability given to the label."""

    def __init__(
        self,
        eps: float = 1e-12,
        name: str = "cross-entropy",
        output_names: Names = None,
        label_names: Names = None,
    ) -> None:
        super().__init__(eps, name, output_names, label_names)


@alias("nll_loss", "nll-loss")
@register
class NegativeLogLikelihood(_Probability):
    """As CrossEntropy, under another name."""

    def __init__(
        self,
        eps: float = 1e-12,
        name: str = "nll-loss",
        output_names: Names = None,
        label_names: Names = None,
    ) -> None:
        super().__init__(eps, name, output_names, label_names)


@register
class Perplexity(EvalMetric):
    """e to the mean of minus the log-probability of the label.

    Parameters
    ----------
    ignore_label : int or None
        Label that does not count.
    axis : int
        Dimension of the classes.
    """

    def __init__(
        self,
        ignore_label: int | None = None,
        axis: int = -1,
        name: str = "perplexity",
        output_names: Names = None,
        label_names: Names = None,
    ) -> None:
        super().__init__(
            name, output_names, label_names, has_global_stats=True, ignore_label=ignore_label
        )
        self.ignore_label = ignore_label
        self.axis = axis

    def update(self, labels: Any, preds: Any) -> None:
        """Labels (...), probabilities (..., classes)."""
        for label, pred in pairs(labels, preds):
            moved = np.moveaxis(pred, self.axis, -1).reshape(-1, pred.shape[self.axis])
            rows = label.reshape(-1).astype(np.int64)
            if len(moved) != rows.size:
                raise ValueError(f"shape mismatch: {label.shape} vs. {pred.shape}")
            given = moved[np.arange(rows.size), np.clip(rows, 0, moved.shape[1] - 1)]
            if self.ignore_label is not None:
                given = given[rows != self.ignore_label]
            self._add(float(-np.log(np.maximum(given, 1e-10)).sum()), given.size)

    def get(self) -> tuple[Any, Any]:
        """``(name, value)``."""
        return self._exponential(*super().get())

    def get_global(self) -> tuple[Any, Any]:
        """``(name, value)`` since the last reset."""
        return self._exponential(*super().get_global())

    @staticmethod
    def _exponential(name: Any, value: float) -> tuple[Any, float]:
        return name, math.exp(value)


@register
class Loss(EvalMetric):
    """Mean of the predictions themselves: for networks whose output is a loss."""

    def __init__(
        self, name: str = "loss", output_names: Names = None, label_names: Names = None
    ) -> None:
        super().__init__(name, output_names, label_names, has_global_stats=True)

    def update(self, labels: Any, preds: Any) -> None:
        """Labels take no part."""
        for pred in as_list(preds):
            values = plain(pred)
            self._add(float(values.sum()), values.size)


@register
class Torch(Loss):
    """Loss under an old name."""

    def __init__(
        self, name: str = "torch", output_names: Names = None, label_names: Names = None
    ) -> None:
        super().__init__(name, output_names, label_names)


@register
class Caffe(Loss):
    """Loss under an old name."""

    def __init__(
        self, name: str = "caffe", output_names: Names = None, label_names: Names = None
    ) -> None:
        super().__init__(name, output_names, label_names)

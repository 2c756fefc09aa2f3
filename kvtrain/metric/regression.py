# SPDX-License-Identifier: Apache-2.0
"""Metrics of regressions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kvtrain.metric.base import EvalMetric, alias, check_label_shapes, pairs, register
from kvtrain.metric.classification import Names


class _PerBatch(EvalMetric):
    """Mean over batches of a number per batch."""

    def __init__(self, name: str, output_names: Names, label_names: Names) -> None:
        super().__init__(name, output_names, label_names, has_global_stats=True)

    def update(self, labels: Any, preds: Any) -> None:
        """Take in a batch."""
        for label, pred in pairs(labels, preds):
            label = label.reshape(-1, 1) if label.ndim == 1 else label
            pred = pred.reshape(-1, 1) if pred.ndim == 1 else pred
            self._add(self._value(label - pred), 1)

    def _value(self, difference: Any) -> float:
        raise NotImplementedError


@register
class MAE(_PerBatch):
    """Mean absolute error."""

    def __init__(
        self, name: str = "mae", output_names: Names = None, label_names: Names = None
    ) -> None:
        super().__init__(name, output_names, label_names)

    def _value(self, difference: Any) -> float:
        return float(np.abs(difference).mean())


@register
class MSE(_PerBatch):
    """Mean squared error."""

    def __init__(
        self, name: str = "mse", output_names: Names = None, label_names: Names = None
    ) -> None:
        super().__init__(name, output_names, label_names)

    def _value(self, difference: Any) -> float:
        return float((difference**2.0).mean())


@register
class RMSE(_PerBatch):
    """Root of the mean squared error of each batch."""

    def __init__(
        self, name: str = "rmse", output_names: Names = None, label_names: Names = None
    ) -> None:
        super().__init__(name, output_names, label_names)

    def _value(self, difference: Any) -> float:
        return math.sqrt(float((difference**2.0).mean()))


class _Moments:
    """Count, means and sums of products of pairs, grown batch by batch (Chan et al., 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = np.zeros(2)
        self.products = np.zeros((2, 2))

    def add(self, values: Any) -> None:
        """Take in values (2, n)."""
        n = values.shape[1]
        mean = values.mean(axis=1)
        rest = values - mean[:, None]
        step = mean - self.mean
        total = self.count + n
        self.products += rest @ rest.T + np.outer(step, step) * (self.count * n / total)
        self.mean += step * (n / total)
        self.count = total

    def correlation(self) -> float:
        """Pearson's."""
        with np.errstate(invalid="ignore", divide="ignore"):
            scale = np.sqrt(self.products[0, 0]) * np.sqrt(self.products[1, 1])
            return float(self.products[0, 1] / scale)


@alias("pearsonr")
@register
class PearsonCorrelation(EvalMetric):
    """Pearson's correlation of labels and predictions.

    Parameters
    ----------
    average : {'macro', 'micro'}
        Mean of the batches' correlations, or correlation of all batches together.
    """

    def __init__(
        self,
        name: str = "pearsonr",
        output_names: Names = None,
        label_names: Names = None,
        average: str = "macro",
    ) -> None:
        self.average = average
        super().__init__(name, output_names, label_names, has_global_stats=True)

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._moments, self._global_moments = _Moments(), _Moments()

    def reset_local(self) -> None:
        """Forget everything but the global count."""
        super().reset_local()
        self._moments = _Moments()

    def update(self, labels: Any, preds: Any) -> None:
        """Labels and predictions of equal shape."""
        for label, pred in pairs(labels, preds):
            check_label_shapes(label, pred, shape=True)
            both = np.stack([label.reshape(-1), pred.reshape(-1)]).astype(np.float64)
            if self.average == "macro":
                alone = _Moments()
                alone.add(both)
                self._add(alone.correlation(), 1)
            else:
                self._moments.add(both)
                self._global_moments.add(both)
                self.num_inst += 1
                self.global_num_inst += 1

    def get(self) -> tuple[Any, Any]:
        """``(name, value)``."""
        if self.average == "macro" or self.num_inst == 0:
            return super().get()
        return self.name, self._moments.correlation()

    def get_global(self) -> tuple[Any, Any]:
        """``(name, value)`` since the last reset."""
        if self.average == "macro" or self.global_num_inst == 0:
            return super().get_global()
        return self.name, self._global_moments.correlation()

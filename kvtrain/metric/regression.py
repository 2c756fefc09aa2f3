# SPDX-License-Identifier: Apache-2.0
"""Metrics of regressions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kvtrain.metric.base import EvalMetric, pairs, register


class _PerBatch(EvalMetric):
    """Mean over batches of a number per batch."""

    def update(self, labels: Any, preds: Any) -> None:
        """Take in a batch."""
        for label, pred in pairs(labels, preds):
            label = label.reshape(len(label), -1)
            pred = pred.reshape(len(pred), -1)
            self.sum_metric += self._value(label, pred)
            self.num_inst += 1

    def _value(self, label: Any, pred: Any) -> float:
        raise NotImplementedError


@register
class MAE(_PerBatch):
    """Mean absolute error."""

    def __init__(self, name: str = "mae", **kwargs: Any) -> None:
        super().__init__(name, **kwargs)

    def _value(self, label: Any, pred: Any) -> float:
        return float(np.abs(label - pred).mean())


@register
class MSE(_PerBatch):
    """Mean squared error."""

    def __init__(self, name: str = "mse", **kwargs: Any) -> None:
        super().__init__(name, **kwargs)

    def _value(self, label: Any, pred: Any) -> float:
        return float(((label - pred) ** 2).mean())


@register
class RMSE(_PerBatch):
    """Root of the mean squared error of each batch."""

    def __init__(self, name: str = "rmse", **kwargs: Any) -> None:
        super().__init__(name, **kwargs)

    def _value(self, label: Any, pred: Any) -> float:
        return math.sqrt(float(((label - pred) ** 2).mean()))

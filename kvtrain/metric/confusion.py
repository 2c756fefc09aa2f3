# SPDX-License-Identifier: Apache-2.0
"""Metrics from a table of predicted and true classes: F1, MCC, PCC."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kvtrain.metric.base import EvalMetric, pairs, register
from kvtrain.metric.classification import Names

Table = np.ndarray[Any, Any]


def binary_table(label: Any, pred: Any, what: str) -> Table:
    """``table[predicted, true]`` of class 1 against the rest; scores (n, 2), labels (n,)."""
    if len(label) != len(pred):
        raise ValueError(
            f"Shape of labels {label.shape} does not match shape of predictions {pred.shape}"
        )
    truth = label.astype(np.int32).reshape(-1)
    if len(np.unique(truth)) > 2:
        raise ValueError(f"{what} currently only supports binary classification.")
    guess = pred.argmax(axis=1).reshape(-1)
    table = np.zeros((2, 2))
    np.add.at(table, ((guess == 1).astype(int), (truth == 1).astype(int)), 1)
    return table


def f_score(table: Table) -> float:
    """Harmonic mean of precision and recall; 0 without a hit."""
    hit, predicted, true = table[1, 1], table[1].sum(), table[:, 1].sum()
    precision = hit / predicted if predicted else 0.0
    recall = hit / true if true else 0.0
    total = precision + recall
    return float(2 * precision * recall / total) if total else 0.0


def matthews(table: Table) -> float:
    """Matthews's correlation; empty rows and columns are left out of the divisor."""
    if not table.sum():
        return 0.0
    sums = [*table.sum(axis=0), *table.sum(axis=1)]
    divisor = math.prod(float(s) for s in sums if s)
    top = table[1, 1] * table[0, 0] - table[1, 0] * table[0, 1]
    return float(top / math.sqrt(divisor))


class _Binary(EvalMetric):
    """A score of the table of a batch (macro) or of all batches (micro)."""

    def __init__(self, name: str, output_names: Names, label_names: Names, average: str) -> None:
        self.average = average
        super().__init__(name, output_names, label_names, has_global_stats=True)

    def _score(self, table: Table) -> float:
        raise NotImplementedError

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._table = np.zeros((2, 2))
        self._global_table = np.zeros((2, 2))

    def reset_local(self) -> None:
        """Forget everything but the global count."""
        super().reset_local()
        self._table = np.zeros((2, 2))

    def update(self, labels: Any, preds: Any) -> None:
        """Labels (n,) of 0 and 1, scores (n, 2)."""
        table = np.zeros((2, 2))
        for label, pred in pairs(labels, preds):
            table += binary_table(label, pred, type(self).__name__)
        if self.average == "macro":
            self._add(self._score(table), 1)
            return
        self._table += table
        self._global_table += table
        self.num_inst, self.global_num_inst = self._table.sum(), self._global_table.sum()
        self.sum_metric = self._score(self._table) * self.num_inst
        self.global_sum_metric = self._score(self._global_table) * self.global_num_inst


@register
class F1(_Binary):
    """Harmonic mean of precision and recall of class 1 against class 0.

    Parameters
    ----------
    average : {'macro', 'micro'}
        Mean of the batches' scores, or score of all batches together.
    """

    def __init__(
        self,
        name: str = "f1",
        output_names: Names = None,
        label_names: Names = None,
        average: str = "macro",
    ) -> None:
        super().__init__(name, output_names, label_names, average)

    def _score(self, table: Table) -> float:
        return f_score(table)


@register
class MCC(_Binary):
    """Matthews's correlation coefficient of two classes.

    Parameters
    ----------
    average : {'macro', 'micro'}
        Mean of the batches' scores, or score of all batches together.
    """

    def __init__(
        self,
        name: str = "mcc",
        output_names: Names = None,
        label_names: Names = None,
        average: str = "macro",
    ) -> None:
        super().__init__(name, output_names, label_names, average)

    def _score(self, table: Table) -> float:
        return matthews(table)


@register
class PCC(EvalMetric):
    """Correlation of predicted and true classes, for any number of classes.

    The discrete Pearson correlation (Gorodkin, 2004) of all batches together.
    """

    def __init__(
        self,
        name: str = "pcc",
        output_names: Names = None,
        label_names: Names = None,
        has_global_stats: bool = True,
    ) -> None:
        super().__init__(name, output_names, label_names, has_global_stats=has_global_stats)

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._table = np.zeros((2, 2))
        self._global_table = np.zeros((2, 2))

    def reset_local(self) -> None:
        """Forget everything but the global count."""
        super().reset_local()
        self._table = np.zeros((2, 2))

    def update(self, labels: Any, preds: Any) -> None:
        """Labels (n,), scores (n, classes) or class numbers of equal shape."""
        for label, pred in pairs(labels, preds):
            truth = label.astype(np.int32).reshape(-1)
            guess = pred.argmax(axis=1) if pred.shape != label.shape else pred.astype(np.int32)
            guess = guess.reshape(-1)
            classes = int(max(guess.max(), truth.max())) + 1
            table = np.zeros((classes, classes))
            np.add.at(table, (guess, truth), 1)
            self._table = _sum(self._table, table)
            self._global_table = _sum(self._global_table, table)
        self.num_inst += 1
        self.global_num_inst += 1
        self.sum_metric = _correlation(self._table) * self.num_inst
        self.global_sum_metric = _correlation(self._global_table) * self.global_num_inst


def _sum(a: Table, b: Table) -> Table:
    size = max(len(a), len(b))
    total = np.zeros((size, size))
    total[: len(a), : len(a)] += a
    total[: len(b), : len(b)] += b
    return total


def _correlation(table: Table) -> float:
    total, predicted, true = table.sum(), table.sum(axis=1), table.sum(axis=0)
    spread_p = (predicted * (total - predicted)).sum()
    spread_t = (true * (total - true)).sum()
    if not spread_p or not spread_t:
        return float("nan")
    together = (table.diagonal() * total - predicted * true).sum()
    return float(together / math.sqrt(spread_p * spread_t))

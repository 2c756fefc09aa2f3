# SPDX-License-Identifier: Apache-2.0
"""What an Estimator does with one batch; override it for an unusual step."""

from __future__ import annotations

from typing import Any

from kvtrain import autograd
from kvtrain.gluon.utils import split_and_load


class BatchProcessor:
    """Forward and backward of a batch that is (data, label)."""

    def _get_data_and_label(self, batch: Any, ctx: list[Any], batch_axis: int = 0) -> Any:
        data = split_and_load(batch[0], ctx_list=ctx, batch_axis=batch_axis, even_split=False)
        label = split_and_load(batch[1], ctx_list=ctx, batch_axis=batch_axis, even_split=False)
        return data, label

    def evaluate_batch(self, estimator: Any, val_batch: Any, batch_axis: int = 0) -> Any:
        """Data, labels, predictions and losses of a batch, one for each context."""
        data, label = self._get_data_and_label(val_batch, estimator.context, batch_axis)
        pred = [estimator.val_net(x) for x in data]
        loss = [estimator.val_loss(p, y) for p, y in zip(pred, label, strict=True)]
        return data, label, pred, loss

    def fit_batch(self, estimator: Any, train_batch: Any, batch_axis: int = 0) -> Any:
        """As evaluate_batch, recorded, and with the gradients computed."""
        data, label = self._get_data_and_label(train_batch, estimator.context, batch_axis)
        with autograd.record():
            pred = [estimator.net(x) for x in data]
            loss = [estimator.loss(p, y) for p, y in zip(pred, label, strict=True)]
        for each in loss:
            each.backward()
        return data, label, pred, loss

# SPDX-License-Identifier: Apache-2.0
"""Event handlers of an Estimator: what happens at the ends of batches, epochs and training.

A handler's ``priority`` orders handlers of one event, the smallest first; those without one
count as 0. A ``batch_end`` or ``epoch_end`` that returns True ends the training.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.errors import ConfigError
from kvtrain.metric import Loss


class EventHandler:
    """Base of all handlers."""


class TrainBegin(EventHandler):
    """Handlers with ``train_begin(estimator)``."""

    def train_begin(self, estimator: Any, *args: Any, **kwargs: Any) -> Any:
        """Before the first epoch."""


class TrainEnd(EventHandler):
    """Handlers with ``train_end(estimator)``."""

    def train_end(self, estimator: Any, *args: Any, **kwargs: Any) -> Any:
        """After the last epoch."""


class EpochBegin(EventHandler):
    """Handlers with ``epoch_begin(estimator)``."""

    def epoch_begin(self, estimator: Any, *args: Any, **kwargs: Any) -> Any:
        """Before the first batch of an epoch."""


class EpochEnd(EventHandler):
    """Handlers with ``epoch_end(estimator)``; True ends the training."""

    def epoch_end(self, estimator: Any, *args: Any, **kwargs: Any) -> Any:
        """After the last batch of an epoch."""


class BatchBegin(EventHandler):
    """Handlers with ``batch_begin(estimator, batch=...)``."""

    def batch_begin(self, estimator: Any, *args: Any, **kwargs: Any) -> Any:
        """Before a batch."""


class BatchEnd(EventHandler):
    """Handlers with ``batch_end(estimator, batch=, pred=, label=, loss=)``; True ends all."""

    def batch_end(self, estimator: Any, *args: Any, **kwargs: Any) -> Any:
        """After a batch."""


class StoppingHandler(TrainBegin, BatchEnd, EpochEnd):
    """Ends the training after a number of epochs or batches."""

    def __init__(self, max_epoch: int | None = None, max_batch: int | None = None) -> None:
        self.max_epoch = max_epoch
        self.max_batch = max_batch
        self.current_batch = 0
        self.current_epoch = 0
        self.stop_training = False

    def train_begin(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
        """Count from 0, to the limits of the estimator."""
        self.max_epoch = estimator.max_epoch
        self.max_batch = estimator.max_batch
        self.current_batch = self.current_epoch = 0
        self.stop_training = False

    def batch_end(self, estimator: Any, *args: Any, **kwargs: Any) -> bool:
        """Whether this was the last batch."""
        self.current_batch += 1
        if self.max_batch is not None and self.current_batch >= self.max_batch:
            self.stop_training = True
        return self.stop_training

    def epoch_end(self, estimator: Any, *args: Any, **kwargs: Any) -> bool:
        """Whether this was the last epoch."""
        self.current_epoch += 1
        if self.max_epoch is not None and self.current_epoch >= self.max_epoch:
            self.stop_training = True
        return self.stop_training


class MetricHandler(EpochBegin, BatchEnd):
    """Resets metrics at the begin of an epoch, updates them after each batch."""

    def __init__(self, metrics: Any, priority: float = -1000) -> None:
        self.metrics = metrics if isinstance(metrics, list | tuple) else [metrics]
        self.priority = priority

    def epoch_begin(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
        """Reset."""
        for metric in self.metrics:
            metric.reset()

    def batch_end(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
        """Update."""
        for metric in self.metrics:
            if isinstance(metric, Loss):
                metric.update(0, kwargs["loss"])
            else:
                metric.update(kwargs["label"], kwargs["pred"])


class ValidationHandler(TrainBegin, BatchEnd, EpochEnd):
    """Evaluates from time to time.

    Parameters
    ----------
    val_data : DataLoader
    eval_fn : callable
        ``eval_fn(val_data=, batch_axis=, event_handlers=)``, as Estimator.evaluate.
    epoch_period, batch_period : int or None
        After how many epochs or batches.
    """

    def __init__(
        self,
        val_data: Any,
        eval_fn: Callable[..., Any],
        epoch_period: int | None = 1,
        batch_period: int | None = None,
        priority: float = -1000,
        event_handlers: Any = None,
    ) -> None:
        self.val_data = val_data
        self.eval_fn = eval_fn
        self.epoch_period = epoch_period
        self.batch_period = batch_period
        self.priority = priority
        self.event_handlers = event_handlers
        self.current_batch = 0
        self.current_epoch = 0

    def train_begin(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
        """Count from 0."""
        self.current_batch = self.current_epoch = 0

    def _evaluate(self, estimator: Any) -> None:
        self.eval_fn(
            val_data=self.val_data,
            batch_axis=estimator.batch_axis,
            event_handlers=self.event_handlers,
        )

    def batch_end(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
        """Evaluate every `batch_period` batches."""
        self.current_batch += 1
        if self.batch_period and self.current_batch % self.batch_period == 0:
            self._evaluate(estimator)

    def epoch_end(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
        """Evaluate every `epoch_period` epochs."""
        self.current_epoch += 1
        if self.epoch_period and self.current_epoch % self.epoch_period == 0:
            self._evaluate(estimator)


def _values(metrics: Any) -> str:
    parts = []
    for metric in metrics:
        names, values = metric.get()
        pairs = zip(names, values, strict=True) if isinstance(names, list) else [(names, values)]
        parts += [f"{name}: {value:.4f}" for name, value in pairs]
    return ", ".join(parts)


class LoggingHandler(TrainBegin, TrainEnd, EpochBegin, EpochEnd, BatchBegin, BatchEnd):
    """Logs progress and metrics through the estimator's logger.

    Parameters
    ----------
    log_interval : 'epoch' or int
        Each epoch, or every so many batches too.
    metrics : list of EvalMetric, optional
        Whose values are shown.
    """

    def __init__(
        self, log_interval: Any = "epoch", metrics: Any = None, priority: float = np.inf
    ) -> None:
        if log_interval != "epoch" and not isinstance(log_interval, int):
            raise ConfigError("log_interval must be either an integer or string 'epoch'")
        self.log_interval = log_interval
        self.metrics = [] if metrics is None else metrics
        self.priority = priority
        self.batch_index = self.current_epoch = self.processed_samples = 0
        self.log_interval_time = 0.0
        self.train_start = self.epoch_start = self.batch_start = 0.0

    def train_begin(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
        """Optimizer, learning rate and length."""
        self.train_start = time.time()
        self.batch_index = self.current_epoch = self.processed_samples = 0
        name = type(estimator.trainer.optimizer).__name__
        estimator.logger.info(
            "Training begin: using optimizer %s with current learning rate %.4f",
            name,
            estimator.trainer.learning_rate,
        )
        if estimator.max_epoch:
            estimator.logger.info("Train for %d epochs.", estimator.max_epoch)
        else:
            estimator.logger.info("Train for %d batches.", estimator.max_batch)

    def train_end(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
        """Time and metrics."""
        estimator.logger.info(
            "Train finished using total %ds with %d epochs. %s",
            time.time() - self.train_start,
            self.current_epoch,
            _values(self.metrics),
        )

    def batch_begin(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
        """Note the time."""
        self.batch_start = time.time()

    def batch_end(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
        """Every `log_interval` batches: samples, time, metrics."""
        if isinstance(self.log_interval, int):
            self.log_interval_time += time.time() - self.batch_start
            self.processed_samples += kwargs["batch"][0].shape[0]
            if self.batch_index % self.log_interval == 0:
                estimator.logger.info(
                    "[Epoch %d][Batch %d][Samples %d] time/interval: %.3fs %s",
                    self.current_epoch,
                    self.batch_index,
                    self.processed_samples,
                    self.log_interval_time,
                    _values(self.metrics),
                )
                self.log_interval_time = 0.0
        self.batch_index += 1

    def epoch_begin(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
        """Epoch and learning rate; of an evaluation: that it begins."""
        self.epoch_start = time.time()
        if any("training" in m.name for m in self.metrics) or not self.metrics:
            estimator.logger.info(
                "[Epoch %d] Begin, current learning rate: %.4f",
                self.current_epoch,
                estimator.trainer.learning_rate,
            )
        else:
            estimator.logger.info("Validation Begin")

    def epoch_end(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
        """Epoch, time, metrics."""
        estimator.logger.info(
            "[Epoch %d] Finished in %.3fs, %s",
            self.current_epoch,
            time.time() - self.epoch_start,
            _values(self.metrics),
        )
        self.current_epoch += 1
        self.batch_index = 0


def comparison(monitor: Any, mode: str, who: str) -> Callable[[float, float], bool]:
    """The operator that tells whether a monitored value is better than another."""
    if mode not in ("auto", "min", "max"):
        raise ConfigError(f"{who}: mode={mode!r}; known: auto, min, max")
    if mode == "auto":
        name = str(monitor.get()[0]).lower()
        mode = "max" if "acc" in name or "f1" in name else "min"
    return operator.gt if mode == "max" else operator.lt


class EarlyStoppingHandler(TrainBegin, EpochEnd, TrainEnd):
    """Ends the training when a metric stops getting better.

    Parameters
    ----------
    monitor : EvalMetric
    min_delta : float
        Less than this is no improvement.
    patience : int
        Epochs without an improvement that are allowed.
    mode : {'auto', 'min', 'max'}
        What is better; auto: 'max' for accuracy and F1, else 'min'.
    baseline : float, optional
        What the first value must beat.
    """

    def __init__(
        self,
        monitor: Any,
        min_delta: float = 0,
        patience: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
    ) -> None:
        self.monitor = monitor
        self.baseline = baseline
        self.patience = patience
        self.min_delta = abs(min_delta)
        self.monitor_op = comparison(monitor, mode, "EarlyStoppingHandler")
        self._reset()

    def _reset(self) -> None:
        worst = -np.inf if self.monitor_op is operator.gt else np.inf
        self.best = worst if self.baseline is None else self.baseline
        self.wait = self.current_epoch = self.stopped_epoch = 0
        self.stop_training = False

    def train_begin(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
        """Forget the best value."""
        self._reset()

    def epoch_end(self, estimator: Any, *args: Any, **kwargs: Any) -> bool:
        """Whether the patience is at its end."""
        _, value = self.monitor.get()
        margin = self.min_delta if self.monitor_op is operator.gt else -self.min_delta
        if self.monitor_op(value - margin, self.best):
            self.best = value
            self.wait = 0
        else:
            self.wait += 1
            if self.wait >= self.patience:
                self.stopped_epoch = self.current_epoch
                self.stop_training = True
        self.current_epoch += 1
        return self.stop_training

    def train_end(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
        """Say when and why it ended."""
        if self.stop_training:
            estimator.logger.info(
                "[Epoch %d] EarlyStoppingHandler: early stopping due to %s not improving",
                self.stopped_epoch,
                self.monitor.get()[0],
            )


class GradientUpdateHandler(BatchEnd):
    """Updates the parameters after each batch, before metrics are."""

    def __init__(self, priority: float = -2000) -> None:
        self.priority = priority

    def batch_end(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
        """``trainer.step`` with the number of samples."""
        loss = kwargs["loss"]
        losses = loss if isinstance(loss, list | tuple) else [loss]
        estimator.trainer.step(sum(each.shape[0] for each in losses))

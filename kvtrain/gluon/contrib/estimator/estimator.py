# SPDX-License-Identifier: Apache-2.0
"""The Estimator: fit and evaluate a network with a DataLoader."""

from __future__ import annotations

import copy
import logging
import sys
import warnings
from typing import Any

from kvtrain.context import Context, cpu
from kvtrain.errors import ConfigError
from kvtrain.gluon.contrib.estimator.batch_processor import BatchProcessor
from kvtrain.gluon.contrib.estimator.checkpoint import CheckpointHandler
from kvtrain.gluon.contrib.estimator.handlers import (
    BatchBegin,
    BatchEnd,
    EarlyStoppingHandler,
    EpochBegin,
    EpochEnd,
    EventHandler,
    GradientUpdateHandler,
    LoggingHandler,
    MetricHandler,
    StoppingHandler,
    TrainBegin,
    TrainEnd,
    ValidationHandler,
)
from kvtrain.gluon.data import DataLoader
from kvtrain.gluon.loss import Loss as GluonLoss
from kvtrain.gluon.loss import SoftmaxCrossEntropyLoss
from kvtrain.gluon.trainer import Trainer
from kvtrain.metric import Accuracy, CompositeEvalMetric, EvalMetric
from kvtrain.metric import Loss as LossMetric

#: method -> class of the handlers that have it
EVENTS = {
    "train_begin": TrainBegin,
    "epoch_begin": EpochBegin,
    "batch_begin": BatchBegin,
    "batch_end": BatchEnd,
    "epoch_end": EpochEnd,
    "train_end": TrainEnd,
}


def _metrics(given: Any) -> list[EvalMetric]:
    if given is None:
        return []
    if isinstance(given, CompositeEvalMetric):
        given = given.metrics
    found = list(given) if isinstance(given, list | tuple) else [given]
    for metric in found:
        if not isinstance(metric, EvalMetric):
            raise ConfigError(
                "metrics must be an EvalMetric, or a list of EvalMetric; got "
                f"{type(metric).__name__}"
            )
    return found


class Estimator:
    """Trains and evaluates a network.

    Parameters
    ----------
    net : Block
    loss : gluon.loss.Loss
    train_metrics, val_metrics : EvalMetric or list of EvalMetric, optional
        Default: accuracy for cross-entropy, and the loss; for validation copies of them.
    initializer : Initializer, optional
        For parameters that have no values yet.
    trainer : Trainer, optional
        Default: SGD with a learning rate of 0.001.
    context : Context or list of Context, optional
        Batches are split over them.
    val_net, val_loss : optional
        For evaluation; default: `net` and `loss`.
    batch_processor : BatchProcessor, optional
        What is done with a batch.
    """

    def __init__(
        self,
        net: Any,
        loss: Any,
        train_metrics: Any = None,
        val_metrics: Any = None,
        initializer: Any = None,
        trainer: Any = None,
        context: Any = None,
        val_net: Any = None,
        val_loss: Any = None,
        batch_processor: Any = None,
    ) -> None:
        self.net = net
        for each in (loss, val_loss):
            if each is not None and not isinstance(each, GluonLoss):
                raise ValueError(f"loss must be a Loss, refer to gluon.loss.Loss:{each}")
        self.loss = loss
        self.val_net = net if val_net is None else val_net
        self.val_loss = loss if val_loss is None else val_loss
        self._train_metrics = _metrics(train_metrics)
        self._val_metrics = _metrics(val_metrics)
        self._add_default_metrics()
        if batch_processor is not None and not (
            hasattr(batch_processor, "fit_batch") and hasattr(batch_processor, "evaluate_batch")
        ):
            raise ValueError(
                "Customized Batch Processor must contain fit_batch() and evaluate_batch() methods"
            )
        self.batch_processor = batch_processor or BatchProcessor()
        self.logger = logging.Logger("Estimator", logging.INFO)
        self.logger.addHandler(logging.StreamHandler(sys.stdout))
        self.context = self._check_context(context)
        self._initialize(initializer)
        self.trainer = self._check_trainer(trainer)
        self.max_epoch: int | None = None
        self.max_batch: int | None = None
        self.batch_axis = 0

    @property
    def train_metrics(self) -> list[EvalMetric]:
        """Metrics of the training."""
        return self._train_metrics

    @property
    def val_metrics(self) -> list[EvalMetric]:
        """Metrics of the validation."""
        return self._val_metrics

    def _add_default_metrics(self) -> None:
        if not self._train_metrics:
            if isinstance(self.loss, SoftmaxCrossEntropyLoss):
                self._train_metrics.append(Accuracy())
            self._train_metrics.append(LossMetric(self.loss.name.rstrip("0123456789")))
        for metric in self._train_metrics:
            if not metric.name.startswith("training "):
                metric.name = f"training {metric.name}"
        if not self._val_metrics:
            self._val_metrics = [copy.deepcopy(metric) for metric in self._train_metrics]
        for metric in self._val_metrics:
            metric.name = f"validation {metric.name.removeprefix('training ')}".replace(
                "validation validation", "validation"
            )

    def _check_context(self, context: Any) -> list[Context]:
        if context is None:
            return [cpu()]
        found = list(context) if isinstance(context, list | tuple) else [context]
        for ctx in found:
            if not isinstance(ctx, Context):
                raise ValueError(
                    f"context must be a Context or a list of Context, got {type(ctx).__name__}"
                )
        return found

    def _initialize(self, initializer: Any) -> None:
        params = self.net.collect_params().values()
        missing = [p for p in params if p._data is None and not p._deferred_init]
        if missing and len(missing) == len(params):
            self.net.initialize(init=initializer, ctx=self.context)
        elif missing:
            for parameter in missing:
                parameter.initialize(init=initializer, ctx=self.context)
        elif initializer is not None:
            warnings.warn(
                "Network already fully initialized, skipping initialization: pass "
                "initializer=None, or call net.initialize(force_reinit=True)",
                stacklevel=3,
            )
        for parameter in params:
            if set(parameter.list_ctx()) != set(self.context):
                parameter.reset_ctx(self.context)

    def _check_trainer(self, trainer: Any) -> Trainer:
        if trainer is None:
            warnings.warn(
                "No trainer specified, default SGD optimizer with learning rate 0.001 is used.",
                stacklevel=3,
            )
            return Trainer(self.net.collect_params(), "sgd", {"learning_rate": 0.001})
        if not isinstance(trainer, Trainer):
            raise ValueError(
                "Trainer must be a Gluon Trainer instance, refer to gluon.Trainer:"
                f"{type(trainer).__name__}"
            )
        return trainer

    # ---- evaluation and training ----------------------------------------------------------

    def evaluate(self, val_data: Any, batch_axis: int = 0, event_handlers: Any = None) -> None:
        """Update `val_metrics` with all batches of `val_data`.

        Parameters
        ----------
        val_data : DataLoader
        batch_axis : int
            Dimension of the samples.
        event_handlers : EventHandler or list of EventHandler, optional
        """
        self._need_loader(val_data)
        handlers = self._handlers(event_handlers)
        if not any(isinstance(h, MetricHandler) for h in handlers):
            handlers.append(MetricHandler(self.val_metrics))
        if not any(isinstance(h, LoggingHandler) for h in handlers):
            handlers.append(LoggingHandler(metrics=self.val_metrics))
        handlers.sort(key=lambda h: getattr(h, "priority", 0))
        self._tell(handlers, "epoch_begin")
        for batch in val_data:
            self._tell(handlers, "batch_begin", batch=batch)
            _, label, pred, loss = self.batch_processor.evaluate_batch(self, batch, batch_axis)
            self._tell(handlers, "batch_end", batch=batch, pred=pred, label=label, loss=loss)
        self._tell(handlers, "epoch_end")

    def fit(
        self,
        train_data: Any,
        val_data: Any = None,
        epochs: int | None = None,
        event_handlers: Any = None,
        batches: int | None = None,
        batch_axis: int = 0,
    ) -> None:
        """Train for a number of epochs, or of batches.

        Parameters
        ----------
        train_data, val_data : DataLoader
        epochs, batches : int, optional
            Exactly one of them.
        event_handlers : EventHandler or list of EventHandler, optional
            Besides those for stopping, updates, metrics, validation and logging, of which each
            is added unless one of its kind is given.
        batch_axis : int
            Dimension of the samples.
        """
        self._need_loader(train_data)
        if (epochs is None) == (batches is None):
            raise ValueError(
                "Fit only support exactly one type of iteration, train by number of epochs or "
                "number of batches. Please specify one and only one of: epochs or batches."
            )
        self.max_epoch = epochs
        self.max_batch = batches
        self.batch_axis = batch_axis
        handlers = self._training_handlers(val_data, event_handlers)
        self._tell(handlers, "train_begin")
        stop = False
        while not stop:
            self._tell(handlers, "epoch_begin")
            for batch in train_data:
                self._tell(handlers, "batch_begin", batch=batch)
                _, label, pred, loss = self.batch_processor.fit_batch(self, batch, batch_axis)
                stop = self._tell(
                    handlers, "batch_end", batch=batch, pred=pred, label=label, loss=loss
                )
                if stop:
                    break
            stop = self._tell(handlers, "epoch_end") or stop
        self._tell(handlers, "train_end")

    def _need_loader(self, data: Any) -> None:
        if not isinstance(data, DataLoader):
            raise ValueError(
                "Estimator only support input as Gluon DataLoader. Alternatively, you can "
                "transform your DataIter or any NDArray into Gluon DataLoader. Refer to "
                "gluon.data.DataLoader"
            )

    def _handlers(self, given: Any) -> list[Any]:
        found = [] if given is None else given
        found = list(found) if isinstance(found, list | tuple) else [found]
        for handler in found:
            if not isinstance(handler, EventHandler):
                raise ValueError(
                    f"handlers must be an EventHandler or a list of EventHandler, got: {handler}"
                )
        return found

    def _training_handlers(self, val_data: Any, given: Any) -> list[Any]:
        handlers = self._handlers(given)
        kinds = (GradientUpdateHandler, MetricHandler, ValidationHandler, LoggingHandler)
        has = {kind: any(isinstance(h, kind) for h in handlers) for kind in kinds}
        # first of all: a resuming CheckpointHandler has changed the limits by then
        handlers.append(StoppingHandler(self.max_epoch, self.max_batch))
        if not has[GradientUpdateHandler]:
            handlers.append(GradientUpdateHandler())
        if not has[MetricHandler]:
            handlers.append(MetricHandler(self.train_metrics))
        if val_data is not None and not has[ValidationHandler]:
            handlers.append(ValidationHandler(val_data, self.evaluate))
        if not has[LoggingHandler]:
            handlers.append(LoggingHandler(metrics=self.train_metrics))
        self._check_monitors(handlers, val_data)
        handlers.sort(key=lambda h: getattr(h, "priority", 0))
        return handlers

    def _check_monitors(self, handlers: list[Any], val_data: Any) -> None:
        """A handler that watches a metric which nothing updates would never act."""
        known = [*self.train_metrics, *self.val_metrics]
        for handler in handlers:
            if isinstance(handler, CheckpointHandler | EarlyStoppingHandler):
                monitor = handler.monitor
                if monitor is not None and not any(monitor is m for m in known):
                    raise ValueError(
                        f"{type(handler).__name__}: the monitored metric {monitor.name!r} is none "
                        "of the estimator's; take it from estimator.train_metrics or val_metrics"
                    )

    def _tell(self, handlers: list[Any], event: str, **values: Any) -> bool:
        """Call all handlers of an event; whether one wants to end the training."""
        kind = EVENTS[event]
        # every handler runs, also after one that wants to stop
        results = [getattr(h, event)(self, **values) for h in handlers if isinstance(h, kind)]
        return any(bool(result) for result in results)

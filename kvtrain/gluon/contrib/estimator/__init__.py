# SPDX-License-Identifier: Apache-2.0
"""``mx.gluon.contrib.estimator``: a training loop with event handlers."""

from kvtrain.gluon.contrib.estimator import event_handler
from kvtrain.gluon.contrib.estimator.batch_processor import BatchProcessor
from kvtrain.gluon.contrib.estimator.checkpoint import CheckpointHandler
from kvtrain.gluon.contrib.estimator.estimator import Estimator
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

__all__ = [
    "BatchBegin",
    "BatchEnd",
    "BatchProcessor",
    "CheckpointHandler",
    "EarlyStoppingHandler",
    "EpochBegin",
    "EpochEnd",
    "Estimator",
    "EventHandler",
    "GradientUpdateHandler",
    "LoggingHandler",
    "MetricHandler",
    "StoppingHandler",
    "TrainBegin",
    "TrainEnd",
    "ValidationHandler",
    "event_handler",
]

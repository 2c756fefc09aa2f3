# SPDX-License-Identifier: Apache-2.0
"""Saves a model while it is trained, and goes on from what was saved."""

from __future__ import annotations

import operator
import re
from pathlib import Path
from typing import Any

import numpy as np

from kvtrain.errors import ConfigError
from kvtrain.gluon.contrib.estimator.handlers import (
    BatchEnd,
    EpochEnd,
    TrainBegin,
    comparison,
)


class CheckpointHandler(TrainBegin, BatchEnd, EpochEnd):
    """Saves parameters (``.params``) and the Trainer's states (``.states``).

    Files are called ``<prefix>-epoch<e>batch<b>`` and ``<prefix>-best``.

    Parameters
    ----------
    model_dir : path
    model_prefix : str
    monitor : EvalMetric, optional
        Decides what is best.
    verbose : int
        1: log each save.
    save_best : bool
        Also save whenever `monitor` is better than ever.
    mode : {'auto', 'min', 'max'}
        What is better; auto: 'max' for accuracy and F1, else 'min'.
    epoch_period, batch_period : int or None
        After how many epochs or batches.
    max_checkpoints : int
        Older ones are deleted; the best one stays.
    resume_from_checkpoint : bool
        Begin with the newest files of that prefix, and train the rest only.
    """

    def __init__(
        self,
        model_dir: Any,
        model_prefix: str = "model",
        monitor: Any = None,
        verbose: int = 0,
        save_best: bool = False,
        mode: str = "auto",
        epoch_period: int | None = 1,
        batch_period: int | None = None,
        max_checkpoints: int = 5,
        resume_from_checkpoint: bool = False,
    ) -> None:
        if save_best and monitor is None:
            raise ConfigError(
                "To save best model only, please provide one of the metric objects from "
                "estimator.train_metrics and estimator.val_metrics as monitor."
            )
        self.model_dir = Path(model_dir)
        self.model_dir.mkdir(parents=True, exist_ok=True)
        self.model_prefix = model_prefix
        self.monitor = monitor
        self.verbose = verbose
        self.save_best = save_best
        self.epoch_period = epoch_period
        self.batch_period = batch_period
        self.max_checkpoints = max_checkpoints
        self.resume_from_checkpoint = resume_from_checkpoint
        self.current_epoch = self.current_batch = 0
        self.trained_epoch = self.trained_batch = -1
        self.saved_checkpoints: list[str] = []
        self.monitor_op: Any = None
        self.best = np.inf
        if save_best:
            self.monitor_op = comparison(monitor, mode, "CheckpointHandler")
            self.best = -np.inf if self.monitor_op is operator.gt else np.inf

    def train_begin(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
        """Count from 0, or load what was saved."""
        self.current_epoch = self.current_batch = 0
        if self.resume_from_checkpoint:
            self._resume(estimator)

    def batch_end(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
        """Save every `batch_period` batches."""
        self.current_batch += 1
        if self.batch_period and self.current_batch % self.batch_period == 0:
            self._save_checkpoint(estimator)

    def epoch_end(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
        """Save every `epoch_period` epochs."""
        if self.epoch_period and (self.current_epoch + 1) % self.epoch_period == 0:
            self._save_checkpoint(estimator)
        self.current_epoch += 1

    def _log(self, estimator: Any, text: str) -> None:
        if self.verbose > 0:
            estimator.logger.info("[Epoch %d] CheckpointHandler: %s", self.current_epoch, text)

    def _save_checkpoint(self, estimator: Any) -> None:
        name = f"{self.model_prefix}-epoch{self.current_epoch}batch{self.current_batch}"
        self._save(estimator, name)
        self._log(
            estimator,
            f"trained total {self.current_batch} batches, saving model at {self.model_dir} with "
            f"prefix: {name}",
        )
        if name not in self.saved_checkpoints:
            self.saved_checkpoints.append(name)
        while len(self.saved_checkpoints) > self.max_checkpoints:
            old = self.saved_checkpoints.pop(0)
            for suffix in (".params", ".states"):
                (self.model_dir / (old + suffix)).unlink(missing_ok=True)
        if self.save_best:
            self._save_if_best(estimator)

    def _save_if_best(self, estimator: Any) -> None:
        name, value = self.monitor.get()
        if np.isnan(value):
            raise ConfigError(
                f"{name} is not updated: set the monitor of CheckpointHandler to one of the "
                "metrics of the estimator, and validate before it saves"
            )
        if not self.monitor_op(value, self.best):
            self._log(estimator, f"{name} did not improve from {self.best:.5f}")
            return
        self._log(estimator, f"{name} improved from {self.best:.5f} to {value:.5f}")
        self.best = value
        self._save(estimator, f"{self.model_prefix}-best")

    def _save(self, estimator: Any, name: str) -> None:
        estimator.net.save_parameters(str(self.model_dir / f"{name}.params"))
        estimator.trainer.save_states(str(self.model_dir / f"{name}.states"))

    def _resume(self, estimator: Any) -> None:
        pattern = re.compile(re.escape(self.model_prefix) + r"-epoch(\d+)batch(\d+)\.params\Z")
        found = []
        for path in self.model_dir.iterdir():
            match = pattern.match(path.name)
            if match and path.with_suffix(".states").is_file():
                found.append((int(match[1]), int(match[2]), path))
        if not found:
            estimator.logger.info(
                "CheckpointHandler: No checkpoint found, training from scratch for %s",
                estimator.max_epoch or estimator.max_batch,
            )
            return
        found.sort()
        self.saved_checkpoints = [path.stem for _, _, path in found]
        self.trained_epoch, self.trained_batch, newest = found[-1]
        done = self.trained_epoch + 1
        if estimator.max_epoch is not None and done >= estimator.max_epoch:
            raise ConfigError(
                f"Found checkpoint with maximum number of epoch {done} reached, please specify "
                f"resume_from_checkpoint=False (default value) if you wan to train from scratch."
            )
        if estimator.max_batch is not None and self.trained_batch >= estimator.max_batch:
            raise ConfigError(
                f"Found checkpoint with maximum number of batch {self.trained_batch} reached, "
                "please specify resume_from_checkpoint=False to train from scratch."
            )
        estimator.net.load_parameters(str(newest), ctx=estimator.context)
        estimator.trainer.load_states(str(newest.with_suffix(".states")))
        if estimator.max_epoch is not None:
            estimator.max_epoch -= done
        if estimator.max_batch is not None:
            estimator.max_batch -= self.trained_batch
        self.current_epoch = done
        self.current_batch = self.trained_batch
        estimator.logger.info(
            "CheckpointHandler: Checkpoint resumed from epoch %d batch %d, continue to train for "
            "%s",
            self.trained_epoch,
            self.trained_batch,
            f"{estimator.max_epoch} epochs." if estimator.max_epoch else "the rest.",
        )

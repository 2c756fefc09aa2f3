# SPDX-License-Identifier: Apache-2.0
"""``mx.callback``: what may be called at the end of a batch or an epoch.

At the end of a batch a callback gets ``epoch, nbatch, eval_metric`` (mx.model.BatchEndParam).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from kvtrain.model import save_checkpoint as save_checkpoint


def do_checkpoint(prefix: str, period: int = 1) -> Callable[..., None]:
    """At the end of every `period`-th epoch: save_checkpoint(prefix, ...).

    The callback takes ``(epoch, symbol, arg_params, aux_params)``.
    """
    period = max(1, int(period))

    def callback(iter_no: int, sym: Any, arg: Any, aux: Any) -> None:
        if (iter_no + 1) % period == 0:
            save_checkpoint(prefix, iter_no + 1, sym, arg, aux)

    return callback


def module_checkpoint(
    mod: Any, prefix: str, period: int = 1, save_optimizer_states: bool = False
) -> Callable[..., None]:
    """At the end of every `period`-th epoch: ``mod.save_checkpoint(prefix, ...)``."""
    period = max(1, int(period))

    def callback(iter_no: int, sym: Any = None, arg: Any = None, aux: Any = None) -> None:
        if (iter_no + 1) % period == 0:
            mod.save_checkpoint(prefix, iter_no + 1, save_optimizer_states)

    return callback


def log_train_metric(period: int, auto_reset: bool = False) -> Callable[[Any], None]:
    """Log the metric every `period` batches; with `auto_reset` count anew after that."""

    def callback(param: Any) -> None:
        if param.nbatch % period or param.eval_metric is None:
            return
        for name, value in param.eval_metric.get_name_value():
            logging.info("Iter[%d] Batch[%d] Train-%s=%f", param.epoch, param.nbatch, name, value)
        if auto_reset:
            param.eval_metric.reset_local()

    return callback


class Speedometer:
    """Logs samples per second, and the metric, every `frequent` batches.

    Parameters
    ----------
    batch_size : int
    frequent : int
    auto_reset : bool
        Count the metric anew after each message.
    """

    def __init__(self, batch_size: int, frequent: int = 50, auto_reset: bool = True) -> None:
        self.batch_size = batch_size
        self.frequent = frequent
        self.init = False
        self.tic = 0.0
        self.last_count = 0
        self.auto_reset = auto_reset

    def __call__(self, param: Any) -> None:
        """At the end of a batch."""
        count = param.nbatch
        if self.last_count > count:  # a new epoch
            self.init = False
        self.last_count = count
        if not self.init:
            self.init = True
            self.tic = time.perf_counter()
            return
        if count % self.frequent:
            return
        spent = time.perf_counter() - self.tic
        speed = self.frequent * self.batch_size / spent if spent else math.inf
        self._log(param, count, speed)
        self.tic = time.perf_counter()

    def _log(self, param: Any, count: int, speed: float) -> None:
        if param.eval_metric is None:
            logging.info("Iter[%d] Batch [%d]\tSpeed: %.2f samples/sec", param.epoch, count, speed)
            return
        pairs = param.eval_metric.get_name_value()
        first = count - self.frequent if self.auto_reset else 0
        if self.auto_reset:
            param.eval_metric.reset_local()
        logging.info(
            "Epoch[%d] Batch [%d-%d]\tSpeed: %.2f samples/sec" + "\t%s=%f" * len(pairs),
            param.epoch,
            first,
            count,
            speed,
            *(part for pair in pairs for part in pair),
        )


class ProgressBar:
    """Logs a bar.

    Parameters
    ----------
    total : int
        Batches of an epoch.
    length : int
        Characters of the bar.
    """

    def __init__(self, total: int, length: int = 80) -> None:
        self.bar_len = length
        self.total = total

    def __call__(self, param: Any) -> None:
        """At the end of a batch."""
        share = param.nbatch / float(self.total)
        filled = round(self.bar_len * share)
        bar = "=" * filled + "-" * (self.bar_len - filled)
        logging.info("[%s] %s%s\r", bar, math.ceil(100.0 * share), "%")


class LogValidationMetricsCallback:
    """Logs the metric at the end of a validation."""

    def __call__(self, param: Any) -> None:
        """At the end of the validation."""
        if not param.eval_metric:
            return
        for name, value in param.eval_metric.get_name_value():
            logging.info("Epoch[%d] Validation-%s=%f", param.epoch, name, value)

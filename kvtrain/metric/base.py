# SPDX-License-Identifier: Apache-2.0
"""What all metrics share: a running sum over a running count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.ndarray import NDArray
from kvtrain.registry import Registry

metrics: Registry[Any] = Registry("metric")


def register(klass: Any) -> Any:
    """``@mx.metric.register``: make a class known by its name, in any case."""
    return metrics.register(klass, klass.__name__)


def as_list(value: Any) -> list[Any]:
    """A list or tuple as a list, anything else as a list of one."""
    return list(value) if isinstance(value, list | tuple) else [value]


def plain(array: Any) -> np.ndarray[Any, Any]:
    """Values as a NumPy array."""
    return array.asnumpy() if isinstance(array, NDArray) else np.asarray(array)


def pairs(labels: Any, preds: Any) -> list[tuple[Any, Any]]:
    """Labels and predictions as NumPy arrays, in pairs; as many of one as of the other."""
    labels, preds = as_list(labels), as_list(preds)
    if len(labels) != len(preds):
        raise ValueError(
            f"Shape of labels {len(labels)} does not match shape of predictions {len(preds)}"
        )
    return [(plain(a), plain(b)) for a, b in zip(labels, preds, strict=True)]


class EvalMetric:
    """Base of all metrics.

    Parameters
    ----------
    name : str
        Shown name.
    output_names, label_names : list of str, optional
        Which entries :meth:`update_dict` uses.
    """

    def __init__(
        self,
        name: str,
        output_names: list[str] | None = None,
        label_names: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.name = str(name)
        self.output_names = output_names
        self.label_names = label_names
        self._kwargs = kwargs
        self.num_inst: float = 0
        self.sum_metric: float = 0.0
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.num_inst = 0
        self.sum_metric = 0.0

    def reset_local(self) -> None:
        """Forget everything since the last local reset."""
        self.reset()

    def update(self, labels: Any, preds: Any) -> None:
        """Take in a batch: arrays, or lists of them per device."""
        raise NotImplementedError

    def update_dict(self, label: dict[str, Any], pred: dict[str, Any]) -> None:
        """Take in a batch given by names."""
        names = self.output_names
        preds = list(pred.values()) if names is None else [pred[n] for n in names if n in pred]
        names = self.label_names
        labels = list(label.values()) if names is None else [label[n] for n in names if n in label]
        self.update(labels, preds)

    def get(self) -> tuple[Any, Any]:
        """``(name, value)``; NaN before the first batch."""
        if self.num_inst == 0:
            return self.name, float("nan")
        return self.name, self.sum_metric / self.num_inst

    def get_global(self) -> tuple[Any, Any]:
        """As :meth:`get`."""
        return self.get()

    def get_name_value(self) -> list[tuple[str, float]]:
        """``[(name, value), ...]``."""
        name, value = self.get()
        return list(zip(as_list(name), as_list(value), strict=True))

    def get_config(self) -> dict[str, Any]:
        """Plain description."""
        return {
            **self._kwargs,
            "metric": type(self).__name__,
            "name": self.name,
            "output_names": self.output_names,
            "label_names": self.label_names,
        }

    def __str__(self) -> str:
        return f"EvalMetric: {dict(self.get_name_value())}"


class CompositeEvalMetric(EvalMetric):
    """Several metrics at once."""

    def __init__(
        self, metrics: list[Any] | None = None, name: str = "composite", **kwargs: Any
    ) -> None:
        self.metrics = [create(m) for m in metrics or []]
        super().__init__(name, **kwargs)

    def add(self, metric: Any) -> None:
        """One more."""
        self.metrics.append(create(metric))

    def get_metric(self, index: int) -> EvalMetric:
        """The one at `index`."""
        return self.metrics[index]

    def update(self, labels: Any, preds: Any) -> None:
        """Take in a batch."""
        for metric in self.metrics:
            metric.update(labels, preds)

    def reset(self) -> None:
        """Forget everything."""
        for metric in self.metrics:
            metric.reset()

    def get(self) -> tuple[Any, Any]:
        """Lists of names and values."""
        names: list[Any] = []
        values: list[Any] = []
        for metric in self.metrics:
            name, value = metric.get()
            names += as_list(name)
            values += as_list(value)
        return names, values


class CustomMetric(EvalMetric):
    """A function ``feval(label, pred)`` of NumPy arrays: a value, or (sum, count)."""

    def __init__(
        self,
        feval: Callable[..., Any],
        name: str | None = None,
        allow_extra_outputs: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(name or f"custom({getattr(feval, '__name__', 'function')})", **kwargs)
        self._feval = feval
        self._allow_extra_outputs = allow_extra_outputs

    def update(self, labels: Any, preds: Any) -> None:
        """Take in a batch."""
        labels, preds = as_list(labels), as_list(preds)
        if self._allow_extra_outputs:
            preds = preds[: len(labels)]
        for label, pred in pairs(labels, preds):
            found = self._feval(label, pred)
            if isinstance(found, tuple):
                self.sum_metric += found[0]
                self.num_inst += found[1]
            else:
                self.sum_metric += found
                self.num_inst += 1


metrics.register(CompositeEvalMetric, "composite", "CompositeEvalMetric")


def create(metric: Any, *args: Any, **kwargs: Any) -> Any:
    """A metric from a name, a function, a list of them, or itself."""
    if isinstance(metric, EvalMetric):
        return metric
    if isinstance(metric, list):
        return CompositeEvalMetric([create(m, *args, **kwargs) for m in metric])
    if callable(metric):
        return CustomMetric(metric, *args, **kwargs)
    return metrics.create(metric, *args, **kwargs)


def np_metric(
    numpy_feval: Callable[..., Any], name: str | None = None, allow_extra_outputs: bool = False
) -> CustomMetric:
    """A metric from a function of NumPy arrays."""
    return CustomMetric(numpy_feval, name or numpy_feval.__name__, allow_extra_outputs)

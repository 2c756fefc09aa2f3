# SPDX-License-Identifier: Apache-2.0
"""What all metrics share: a running sum over a running count, local and global."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.ndarray import NDArray
from kvtrain.registry import Registry

metrics: Registry[Any] = Registry("metric")


def register(klass: Any, name: str | None = None) -> Any:
    """``@mx.metric.register``: make a class known by its name, in any case."""
    return metrics.override(klass, name or klass.__name__)


def alias(*names: str) -> Callable[[Any], Any]:
    """``@mx.metric.alias("a", "b")``: more names for a class."""
    return lambda klass: metrics.override(klass, *names)


def as_list(value: Any) -> list[Any]:
    """A list or tuple as a list, anything else as a list of one."""
    return list(value) if isinstance(value, list | tuple) else [value]


def plain(array: Any) -> np.ndarray[Any, Any]:
    """Values as a NumPy array."""
    return array.asnumpy() if isinstance(array, NDArray) else np.asarray(array)


def check_label_shapes(
    labels: Any, preds: Any, wrap: bool = False, shape: bool = False
) -> tuple[Any, Any]:
    """Check that labels and predictions are as many, or with `shape` of equal shape.

    With `wrap` single arrays come back in lists.

    Raises
    ------
    ValueError
        They are not.
    """
    sizes = (labels.shape, preds.shape) if shape else (len(labels), len(preds))
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"Shape of labels {sizes[0]} does not match shape of predictions {sizes[1]}"
        )
    if wrap:
        labels = [labels] if isinstance(labels, NDArray) else labels
        preds = [preds] if isinstance(preds, NDArray) else preds
    return labels, preds


def pairs(labels: Any, preds: Any) -> list[tuple[Any, Any]]:
    """Labels and predictions as NumPy arrays, in pairs; as many of one as of the other."""
    labels, preds = check_label_shapes(labels, preds, wrap=True)
    return [(plain(a), plain(b)) for a, b in zip(labels, preds, strict=True)]


class EvalMetric:
    """Base of all metrics.

    A metric counts twice: since the last :meth:`reset_local` (:meth:`get`) and since the last
    :meth:`reset` (:meth:`get_global`).

    Parameters
    ----------
    name : str
        Shown name.
    output_names, label_names : list of str, optional
        Which entries :meth:`update_dict` uses.
    has_global_stats : bool
        Whether the class counts twice; else `get_global` is `get`.
    """

    num_inst: Any
    sum_metric: Any
    global_num_inst: Any
    global_sum_metric: Any

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
        self._has_global_stats = kwargs.pop("has_global_stats", False)
        self._kwargs = kwargs
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.num_inst = 0
        self.sum_metric = 0.0
        self.global_num_inst = 0
        self.global_sum_metric = 0.0

    def reset_local(self) -> None:
        """Forget everything but the global count."""
        self.num_inst = 0
        self.sum_metric = 0.0

    def _add(self, value: Any, count: Any) -> None:
        self.sum_metric += value
        self.global_sum_metric += value
        self.num_inst += count
        self.global_num_inst += count

    def update(self, labels: Any, preds: Any) -> None:
        """Take in a batch: arrays, or lists of them per device."""
        raise NotImplementedError(f"{type(self).__name__} must define update(labels, preds)")

    def update_dict(self, label: dict[str, Any], pred: dict[str, Any]) -> None:
        """Take in a batch given by names."""
        names = self.output_names
        preds = list(pred.values()) if names is None else [pred[name] for name in names]
        names = self.label_names
        labels = list(label.values()) if names is None else [label[name] for name in names]
        self.update(labels, preds)

    def get(self) -> tuple[Any, Any]:
        """``(name, value)``; NaN before the first batch."""
        if self.num_inst == 0:
            return self.name, float("nan")
        return self.name, self.sum_metric / self.num_inst

    def get_global(self) -> tuple[Any, Any]:
        """As :meth:`get`, since the last :meth:`reset`."""
        if not self._has_global_stats:
            return self.get()
        if self.global_num_inst == 0:
            return self.name, float("nan")
        return self.name, self.global_sum_metric / self.global_num_inst

    def get_name_value(self) -> list[tuple[str, Any]]:
        """``[(name, value), ...]``."""
        name, value = self.get()
        return list(zip(as_list(name), as_list(value), strict=True))

    def get_global_name_value(self) -> list[tuple[str, Any]]:
        """As :meth:`get_name_value`, since the last :meth:`reset`."""
        name, value = self.get_global()
        return list(zip(as_list(name), as_list(value), strict=True))

    def get_config(self) -> dict[str, Any]:
        """Plain description, from which :func:`create` makes an equal one."""
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
    """Several metrics at once.

    Parameters
    ----------
    metrics : list, optional
        Metrics, or what :func:`create` takes.
    """

    def __init__(
        self,
        metrics: list[Any] | None = None,
        name: str = "composite",
        output_names: list[str] | None = None,
        label_names: list[str] | None = None,
    ) -> None:
        self.metrics: list[Any] = []
        super().__init__(name, output_names, label_names, has_global_stats=True)
        self.metrics = [create(metric) for metric in metrics or []]

    def add(self, metric: Any) -> None:
        """One more."""
        self.metrics.append(create(metric))

    def get_metric(self, index: int) -> Any:
        """The one at `index`."""
        try:
            return self.metrics[index]
        except IndexError:
            raise ValueError(
                f"Metric index {index} is out of range 0 and {len(self.metrics)}"
            ) from None

    def update_dict(self, label: dict[str, Any], pred: dict[str, Any]) -> None:
        """Hand the entries that it uses to each."""
        if self.label_names is not None:
            label = {name: value for name, value in label.items() if name in self.label_names}
        if self.output_names is not None:
            pred = {name: value for name, value in pred.items() if name in self.output_names}
        for metric in self.metrics:
            metric.update_dict(label, pred)

    def update(self, labels: Any, preds: Any) -> None:
        """Take in a batch."""
        for metric in self.metrics:
            metric.update(labels, preds)

    def reset(self) -> None:
        """Forget everything."""
        for metric in self.metrics:
            metric.reset()

    def reset_local(self) -> None:
        """Forget everything but the global counts."""
        for metric in self.metrics:
            metric.reset_local()

    def get(self) -> tuple[Any, Any]:
        """Lists of names and values."""
        return self._joined([metric.get() for metric in self.metrics])

    def get_global(self) -> tuple[Any, Any]:
        """Lists of names and global values."""
        return self._joined([metric.get_global() for metric in self.metrics])

    @staticmethod
    def _joined(found: list[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
        names = [name for part, _ in found for name in as_list(part)]
        return names, [value for _, part in found for value in as_list(part)]

    def get_config(self) -> dict[str, Any]:
        """Plain description, with that of each metric."""
        return {**super().get_config(), "metrics": [m.get_config() for m in self.metrics]}


class CustomMetric(EvalMetric):
    """A function ``feval(label, pred)`` of NumPy arrays: a value, or (sum, count).

    Parameters
    ----------
    feval : callable
    name : str, optional
        Default: the function's name.
    allow_extra_outputs : bool
        There may be more predictions than labels; the rest is left out.
    """

    def __init__(
        self,
        feval: Callable[..., Any],
        name: str | None = None,
        allow_extra_outputs: bool = False,
        output_names: list[str] | None = None,
        label_names: list[str] | None = None,
    ) -> None:
        if name is None:
            name = getattr(feval, "__name__", type(feval).__name__)
            name = f"custom({name})" if "<" in name else name
        super().__init__(
            name,
            output_names,
            label_names,
            has_global_stats=True,
            feval=feval,
            allow_extra_outputs=allow_extra_outputs,
        )
        self._feval = feval
        self._allow_extra_outputs = allow_extra_outputs

    def update(self, labels: Any, preds: Any) -> None:
        """Take in a batch."""
        if not self._allow_extra_outputs:
            labels, preds = check_label_shapes(labels, preds, wrap=True)
        for label, pred in zip(as_list(labels), as_list(preds), strict=False):
            found = self._feval(plain(label), plain(pred))
            if isinstance(found, tuple):
                self._add(*found)
            else:
                self._add(found, 1)

    def get_config(self) -> dict[str, Any]:
        """Raises: a function is no plain data."""
        raise NotImplementedError("CustomMetric cannot be serialized")


metrics.register(CompositeEvalMetric, "composite", "CompositeEvalMetric")
metrics.register(CustomMetric, "CustomMetric")


def create(metric: Any, *args: Any, **kwargs: Any) -> Any:
    """A metric from a name, a function, a list of them, a dict, JSON text, or itself."""
    if isinstance(metric, list):
        made = CompositeEvalMetric()
        for one in metric:
            made.add(create(one, *args, **kwargs))
        return made
    if callable(metric):
        return CustomMetric(metric, *args, **kwargs)
    return metrics.build(EvalMetric, metric, *args, **kwargs)


def np_metric(
    numpy_feval: Callable[..., Any], name: str | None = None, allow_extra_outputs: bool = False
) -> CustomMetric:
    """``mx.metric.np``: a metric from a function of NumPy arrays."""
    return CustomMetric(numpy_feval, name, allow_extra_outputs)

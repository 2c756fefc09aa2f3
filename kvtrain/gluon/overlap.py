# SPDX-License-Identifier: Apache-2.0
"""Gradients posted while backward still runs, each when it has no more use of its weight.

A contribution carries the factor ``1 / batch size``, which ``step`` is told only later. It is
foreseen from the step before: the batch size grows with the number of elements of what
``backward`` was called on (a loss per sample).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvtrain.errors import ConfigError
from kvtrain.gluon.parameter import Parameter

Post = Callable[[Parameter, float], None]


class Overlap:
    """Watches the variables of a Trainer's parameters.

    Parameters
    ----------
    post : callable
        ``post(parameter, batch size)`` sends a gradient and makes its weight pending.
    """

    def __init__(self, post: Post) -> None:
        self._post = post
        #: parameters posted in this step -> the batch size that was foreseen
        self._posted: dict[str, float] = {}
        #: elements of the heads of this step's backward
        self._heads = 0
        #: batch size per element of the heads; None before the first step
        self._per_element: float | None = None

    def watch(self, parameters: list[Parameter]) -> None:
        """Be told when a backward is done with one of these. Called after each step, as a
        parameter may have got another array meanwhile."""
        for parameter in parameters:
            arrays = parameter._arrays() if parameter._data is not None else []
            if len(arrays) != 1 or parameter.grad_req != "write" or parameter._stype != "default":
                continue  # posted by the step
            leaf: Any = arrays[0]._entry
            if leaf is not None and leaf.ready is None:
                leaf.ready = self._watcher(parameter)

    def _watcher(self, parameter: Parameter) -> Callable[[int], None]:
        def ready(elements: int) -> None:
            self._heads = elements
            if self._per_element is None:
                return
            if parameter.name in self._posted:
                raise ConfigError(
                    f"parameter {parameter.name!r}: a second backward before step(); with "
                    "overlap=True its gradient was sent by the first. Call backward once per "
                    "step, on all losses together, or leave overlap off"
                )
            size = self._per_element * elements
            self._posted[parameter.name] = size
            self._post(parameter, size)

        return ready

    def drain(self) -> set[str]:
        """Names of what was posted in this step, whatever the batch size."""
        posted, self._posted = self._posted, {}
        return set(posted)

    def settle(self, batch_size: float) -> set[str]:
        """Names of what was posted in this step, which ends; ConfigError if the batch size is
        not the one that was foreseen."""
        posted, self._posted = self._posted, {}
        for name, size in posted.items():
            if abs(size - batch_size) > 1e-9 * abs(batch_size):
                raise ConfigError(
                    f"step({batch_size:g}): with overlap=True the gradient of {name!r} was sent "
                    f"during backward, for a batch of {size:g}. Call backward on a loss with one "
                    "element per sample, so that a smaller batch is seen, or leave overlap off"
                )
        if self._heads:
            self._per_element = batch_size / self._heads
        return set(posted)

# SPDX-License-Identifier: Apache-2.0
"""``mx.monitor``: statistics of outputs and parameters, every few batches."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.context import cpu
from kvtrain.ndarray import NDArray


def _typical_size(array: NDArray) -> NDArray:
    """``norm(x) / sqrt(size)``."""
    raw = array.asnumpy().astype(np.float64)
    return NDArray(np.array([np.sqrt(np.square(raw).mean())], np.float32), cpu())


class Monitor:
    """Collects a statistic of every output of the blocks it watches, and of their parameters.

    Parameters
    ----------
    interval : int
        Batches between two collections.
    stat_func : callable, optional
        NDArray -> NDArray, or a list of them; by default the root mean square.
    pattern : str
        Only names that this regular expression matches.
    sort : bool
        Sort the results by name.
    monitor_all : bool
        Executors also report their inputs.

    Examples
    --------
    >>> monitor = mx.mon.Monitor(100)
    >>> monitor.install(net)
    >>> monitor.tic(); net(x); monitor.toc_print()
    """

    def __init__(
        self,
        interval: int,
        stat_func: Callable[[NDArray], Any] | None = None,
        pattern: str = ".*",
        sort: bool = False,
        monitor_all: bool = False,
    ) -> None:
        self.interval = interval
        self.stat_func = stat_func or _typical_size
        self.re_prog = re.compile(pattern)
        self.sort = sort
        self.monitor_all = monitor_all
        self.activated = False
        self.step = 0
        self.queue: list[tuple[int, str, Any]] = []
        self.exes: list[Any] = []

    def stat_helper(self, name: str, array: NDArray) -> None:
        """Take in one array."""
        if self.activated and self.re_prog.match(name):
            self.queue.append((self.step, name, self.stat_func(array)))

    def install(self, exe: Any) -> None:
        """Watch a Block with everything inside it, or an executor."""
        if hasattr(exe, "set_monitor_callback"):
            exe.set_monitor_callback(self.stat_helper, self.monitor_all)
        else:
            exe.apply(lambda block: block.register_forward_hook(self._hook))
        self.exes.append(exe)

    def _hook(self, block: Any, inputs: Any, outputs: Any) -> None:
        for n, output in enumerate(outputs if isinstance(outputs, list | tuple) else [outputs]):
            if isinstance(output, NDArray):
                self.stat_helper(f"{block.name}_output{n}", output)

    def _parameters(self, exe: Any) -> list[tuple[str, NDArray]]:
        if hasattr(exe, "arg_dict"):
            return [*exe.arg_dict.items(), *exe.aux_dict.items()]
        found = exe.collect_params().items()
        return [(name, p.list_data()[0]) for name, p in found if p._data is not None]

    def tic(self) -> None:
        """Before a batch: collect in this one if it is its turn."""
        if self.step % self.interval == 0:
            self.queue = []
            self.activated = True
        self.step += 1

    def toc(self) -> list[tuple[int, str, str]]:
        """After a batch: ``(step, name, value as text)``; empty if it was not its turn."""
        if not self.activated:
            return []
        for exe in self.exes:
            for name, array in self._parameters(exe):
                self.stat_helper(name, array)
        self.activated = False
        if self.sort:
            self.queue.sort(key=lambda item: item[1])
        found = []
        for step, name, values in self.queue:
            texts = []
            for value in values if isinstance(values, list) else [values]:
                if not isinstance(value, NDArray):
                    raise TypeError(f"stat_func gave {value!r} for {name}; an NDArray is wanted")
                texts.append(str(value.asscalar() if value.shape == (1,) else value.asnumpy()))
            found.append((step, name, "".join(text + "\t" for text in texts)))
        self.queue = []
        return found

    def toc_print(self) -> None:
        """After a batch: log what :meth:`toc` gives."""
        for step, name, text in self.toc():
            logging.info("Batch: %7d %30s %s", step, name, text)

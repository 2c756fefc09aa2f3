# SPDX-License-Identifier: Apache-2.0
"""Short names for expressions about optimizers, schedules, initializers, metrics and layers."""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter
from typing import Any

import numpy as np


def helpers(mx: Any) -> dict[str, Any]:
    """The functions, over the module `mx`."""
    nd, gluon, autograd = mx.nd, mx.gluon, mx.autograd
    gradient = [[0.1, -0.2], [0.3, 1.0]]

    def steps(optimizer: Any, dtype: str, count: int, between: Any = None) -> Any:
        updater = mx.optimizer.get_updater(optimizer)
        weight = nd.array([[1.0, 2.0], [3.0, -1.0]], dtype=dtype)
        for i in range(count):
            if between:
                between(i)
            updater(0, nd.array(gradient, dtype=dtype) * (i + 1), weight)
        return weight

    def opt(name: str, dtype: str = "float32", **options: Any) -> Any:
        """The weight after five updates."""
        made = mx.optimizer.create(name, **{"learning_rate": 0.1, **options})
        return steps(made, dtype, 5)

    def optl(name: str, **options: Any) -> Any:
        """The weight after six updates by a schedule."""
        schedule = mx.lr_scheduler.FactorScheduler(2, 0.5, base_lr=0.2)
        made = mx.optimizer.create(name, lr_scheduler=schedule, learning_rate=0.1, **options)
        return steps(made, "float32", 6)

    def optset(name: str, **options: Any) -> Any:
        """The weight after six updates and two changes of the learning rate."""
        made = mx.optimizer.create(name, learning_rate=0.1, **options)

        def between(i: int) -> None:
            if i in (2, 4):
                made.set_learning_rate(made.learning_rate / 3)

        return steps(made, "float32", 6, between)

    def sched(name: str, **options: Any) -> list[float]:
        """Learning rates of the first updates."""
        schedule = getattr(mx.lr_scheduler, name)(**options)
        return [float(schedule(i)) for i in range(1, 12)]

    def init(
        kind: str, *args: Any, shape: Any = (4, 3), name: str = "w_weight", **options: Any
    ) -> Any:
        """An array filled by an initializer."""
        mx.random.seed(5)
        np.random.seed(5)
        array = nd.zeros(shape)
        getattr(mx.init, kind)(*args, **options)(mx.init.InitDesc(name), array)
        return array

    def initp(given: Any) -> Any:
        """A parameter filled by an initializer."""
        mx.random.seed(5)
        np.random.seed(5)
        shape = (3, 3, 2, 2) if given == "bilinear" else (4, 3)
        parameter = gluon.Parameter("w_weight", shape=shape)
        parameter.initialize(given)
        return parameter.data()

    def metric(name: str, label: Any, pred: Any, **options: Any) -> Any:
        """A metric after one update."""
        made = mx.metric.create(name, **options)
        made.update([nd.array(label)], [nd.array(pred)])
        return made.get()

    def metric2(name: str, labels: Any, preds: Any, **options: Any) -> Any:
        """A metric after several updates."""
        made = mx.metric.create(name, **options)
        for label, pred in zip(labels, preds, strict=True):
            made.update([nd.array(label)], [nd.array(pred)])
        return [made.get(), made.num_inst]

    def net(build: Any, *inputs: Any, **options: Any) -> Any:
        """Output of a block, gradients of its inputs and of its parameters."""
        mx.random.seed(3)
        np.random.seed(3)
        block = build()
        block.initialize(options.get("init") or mx.init.Uniform())
        arrays = [x.copy() for x in inputs]
        for x in arrays:
            x.attach_grad()
        with autograd.record():
            out = block(*arrays)
        (out[0] if isinstance(out, list | tuple) else out).backward()
        learned = [p for p in block.collect_params().values() if p.grad_req != "null"]
        return [out, [x.grad for x in arrays], [p.grad() for p in learned]]

    def D(*shape: int) -> Any:
        """Numbers of both signs below 2.3."""
        return (nd.arange(int(np.prod(shape))) * 1.7).sin().reshape(shape) * 2.3

    def Q(array: Any, kind: str = "int8") -> Any:
        """An array of eight bits, with its range."""
        return nd.contrib.quantize_v2(array, out_type=kind)

    def A1(value: float) -> Any:
        """An array of one number."""
        return nd.array([value])

    def vectors() -> str:
        """A file of token vectors."""
        path = os.path.join(tempfile.mkdtemp(), "vectors")
        with open(path, "w") as file:
            file.write("header 1\na 0.1 0.2 0.3\nb 0.4 0.5 0.6\nc 1 2 3\nb 7 7 7\n")
        return path

    def nm(thing: Any) -> str:
        """The text of a thing, without the numbers of automatic names."""
        return re.sub(r"\d+", "N", str(thing))

    return {
        "opt": opt,
        "optl": optl,
        "optset": optset,
        "sched": sched,
        "init": init,
        "initp": initp,
        "metric": metric,
        "metric2": metric2,
        "net": net,
        "nm": nm,
        "D": D,
        "Q": Q,
        "A1": A1,
        "D4": D(2, 3, 4, 4),
        "I32": nd.array([[-1000000, 500, 30000000]], dtype="int32"),
        "P8": nd.arange(576).sin().reshape((2, 8, 6, 6)),
        "RO": nd.array([[0, 0, 0, 4, 4.0], [1, 1, 1, 5, 3]]),
        "PC": (nd.arange(96) * 1.3).sin().abs().reshape((1, 6, 4, 4)),
        "PB": (nd.arange(192) * 0.7).sin().reshape((1, 12, 4, 4)) * 0.1,
        "HK": [
            nd.array([[0.5, 0.4, 0.3], [0.2, 0.1, 0.6]]),
            nd.array([0.2, 0.3, 0.4]),
            nd.array([1.0, 2, 1.5]),
            nd.zeros((2, 3)),
            nd.array([[0.1, 0.5, 0.2, 0.3], [0.4, 0.2, 0.9, 0.1]]),
            nd.array([[0, 1, 2, 0], [1, 1, 0, 2]], dtype="int32"),
            nd.array([4, 3.0]),
            nd.array([2.0, 3.0]),
        ],
        "T": mx.contrib.text,
        "CNT": Counter(["a", "b", "b", "c", "c", "c", "some_word"]),
        "EF": vectors(),
        "os": os,
        "re": re,
        "tempfile": tempfile,
    }

# SPDX-License-Identifier: Apache-2.0
"""Short names for expressions about losses, cells, loaders, stores and images."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from typing import Any

import numpy as np


def training(mx: Any, do: Callable[..., Any]) -> dict[str, Any]:
    """The functions, over the module `mx`; `do` runs statements."""
    nd, gluon, autograd = mx.nd, mx.gluon, mx.autograd

    def lossx(name: str, inputs: list[Any], **options: Any) -> Any:
        """A loss, and its gradient by the first input."""
        loss = getattr(gluon.loss, name)(**options)
        pred = inputs[0].copy()
        pred.attach_grad()
        with autograd.record():
            out = loss(pred, *inputs[1:])
        out.backward()
        return [out, pred.grad]

    def lossf(name: str, pred: Any, label: Any, sw: Any = None, **options: Any) -> Any:
        """lossx of a prediction, a label and weights of samples."""
        return lossx(name, [pred, label, *([] if sw is None else [sw])], **options)

    def unroll(build: Any, length: int = 3, layout: str = "NTC", **options: Any) -> Any:
        """Outputs, states and the gradient of the inputs of an unrolled cell."""
        mx.random.seed(3)
        np.random.seed(3)
        cell = build()
        cell.initialize(mx.init.Uniform())
        shape = (3, 2, 4) if layout == "TNC" else (2, 3, 4)
        x = nd.arange(24).sin().reshape(shape)
        x.attach_grad()
        with autograd.record():
            outputs, states = cell.unroll(length, x, layout=layout, **options)
            total = nd.add_n(*outputs) if isinstance(outputs, list) else outputs
        total.backward()
        return [outputs, states, x.grad]

    def seqc(*cells: Any) -> Any:
        """Cells on top of each other."""
        stack = gluon.rnn.SequentialRNNCell()
        for cell in cells:
            stack.add(cell)
        return stack

    def loader(**options: Any) -> Any:
        """Two epochs of a loader, and its length."""
        data = gluon.data.ArrayDataset(nd.arange(7), nd.arange(14).reshape((7, 2)))
        made = gluon.data.DataLoader(data, **options)
        return [list(made), list(made), len(made)]

    def kvdo(code: str) -> Any:
        """The variable `r` after statements on `kv`, a local and a device store."""
        return [do(f"kv=mx.kv.create({kind!r}); {code}") for kind in ("local", "device")]

    def rs(function: Any) -> Any:
        """A result with all generators seeded."""
        mx.random.seed(7)
        np.random.seed(7)
        random.seed(7)
        return function()

    image = (nd.arange(90) * 1.1).sin().abs() * 255
    return {
        "lossf": lossf,
        "lossx": lossx,
        "unroll": unroll,
        "seqc": seqc,
        "loader": loader,
        "kvdo": kvdo,
        "rs": rs,
        "pickle": pickle,
        "CT": (nd.arange(40) * 1.3).sin().reshape((2, 5, 4)),
        "IM": image.reshape((6, 5, 3)).astype("uint8"),
        "TR": gluon.data.vision.transforms,
    }

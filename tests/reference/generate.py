# SPDX-License-Identifier: Apache-2.0
"""Makes the reference data of this folder with the real MXNet 1.9.1.

python3.11 -m venv peer && peer/bin/pip install mxnet==1.9.1 numpy==1.23.5
peer/bin/python tests/reference/generate.py tests/reference
"""

import json
import sys
from pathlib import Path

import mxnet as mx
import numpy as np


def draws() -> dict:
    found = {}
    mx.random.seed(42)
    for n in (1, 63, 64, 65, 1000, 5000):
        found[f"uniform_{n}"] = mx.nd.random.uniform(-0.07, 0.07, (n,)).asnumpy()
        found[f"normal_{n}"] = mx.nd.random.normal(0, 1, (n,)).asnumpy()
    found["double"] = mx.nd.random.uniform(shape=(100,), dtype="float64").asnumpy()
    found["exponential"] = mx.nd.random.exponential(2, shape=(100,)).asnumpy()
    with mx.autograd.record():
        found["dropout"] = mx.nd.Dropout(mx.nd.ones((20, 30)), p=0.3).asnumpy()
    net = mx.gluon.nn.Dense(4, in_units=6, prefix="d_")
    net.initialize(mx.init.Xavier())
    found["xavier"] = net.weight.data().asnumpy()
    return found


def network() -> dict:
    """Forward and backward of a small network with every layer of the first issue."""
    mx.random.seed(3)
    nn = mx.gluon.nn
    net = nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(
            nn.Conv2D(4, 3, padding=1, strides=2, activation="relu"),
            nn.BatchNorm(),
            nn.MaxPool2D(2, 2),
            nn.Flatten(),
            nn.Dense(6, activation="tanh"),
            nn.Dense(3),
        )
    net.initialize(mx.init.Xavier())
    x = mx.nd.random.uniform(-1, 1, (5, 2, 8, 8))
    y = mx.nd.array([0, 2, 1, 1, 0])
    loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    with mx.autograd.record():
        out = net(x)
        error = loss(out, y)
    error.backward()
    found = {"x": x.asnumpy(), "y": y.asnumpy(), "out": out.asnumpy(), "loss": error.asnumpy()}
    for name, parameter in net.collect_params().items():
        found["data_" + name] = parameter.data().asnumpy()
        if parameter.grad_req != "null":
            found["grad_" + name] = parameter.grad().asnumpy()
    found["predicted"] = net(x).asnumpy()
    return found


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    np.savez_compressed(folder / "draws.npz", **draws())
    np.savez_compressed(folder / "network.npz", **network())
    arrays = {
        "a": mx.nd.arange(6).reshape((2, 3)),
        "b": mx.nd.array([1, -2], dtype="int32"),
        "arg:c": mx.nd.array([[[1.5]]], dtype="float16"),
        "d": mx.nd.array([1, 2, 3], dtype="float64"),
        "e": mx.nd.array([7], dtype="int64"),
        "f": mx.nd.array([1, 255], dtype="uint8"),
    }
    mx.nd.save(str(folder / "dict.params"), arrays)
    mx.nd.save(str(folder / "list.params"), [arrays["a"], arrays["d"]])
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Dense(3, in_units=2), mx.gluon.nn.Dense(1, in_units=3))
    mx.random.seed(1)
    net.initialize()
    net(mx.nd.ones((1, 2)))
    net.save_parameters(str(folder / "net.params"))
    values = {k: p.data().asnumpy().tolist() for k, p in net._collect_params_with_prefix().items()}
    (folder / "net.json").write_text(json.dumps(values))

# SPDX-License-Identifier: Apache-2.0
"""Trains two networks with one package and asks the other for their outputs.

peer/bin/python tests/reference/exchange.py train mxnet tests/reference/exchange
python tests/reference/exchange.py train kvtrain tests/reference/exchange
peer/bin/python tests/reference/exchange.py answer kvtrain tests/reference/exchange

`train` writes <package>_<net>.params, its inputs and its own outputs; `answer` (in the peer)
loads kvtrain's files and writes what MXNet computes from them. (peer: see generate.py)
"""

import importlib
import sys
from pathlib import Path

import numpy as np


def cnn(gluon):
    """A convolutional network with batch normalisation."""
    net = gluon.nn.HybridSequential()
    net.add(
        gluon.nn.Conv2D(6, 3, padding=1, activation="relu"),
        gluon.nn.BatchNorm(),
        gluon.nn.MaxPool2D(2, 2),
        gluon.nn.Conv2D(8, 3, padding=1, use_bias=False),
        gluon.nn.BatchNorm(scale=False),
        gluon.nn.Activation("relu"),
        gluon.nn.GlobalAvgPool2D(),
        gluon.nn.Dense(3),
    )
    return net


def lstm(gluon):
    """Two LSTM layers in both directions over embedded letters."""
    net = gluon.nn.HybridSequential()
    net.add(
        gluon.nn.Embedding(9, 5),
        gluon.rnn.LSTM(6, num_layers=2, layout="NTC", bidirectional=True),
        gluon.rnn.GRU(5, layout="NTC"),
        gluon.nn.Dense(3),
    )
    return net


NETS = {"cnn": cnn, "lstm": lstm}
# Adam would blow up the gradient of a bias before a norm, which is noise around 0
OPTIMIZERS = {
    "cnn": ("sgd", {"learning_rate": 0.1, "momentum": 0.9}),
    "lstm": ("adam", {"learning_rate": 0.02}),
}


def batch(name: str, seed: int) -> tuple:
    """Inputs and classes that can be told from them."""
    rng = np.random.RandomState(seed)
    y = rng.randint(0, 3, 24)
    if name == "cnn":
        x = rng.standard_normal((24, 1, 8, 8)) + y.reshape(-1, 1, 1, 1)
    else:
        x = rng.randint(0, 3, (24, 6)) + 3 * y[:, None]
    return x.astype("float32"), y.astype("float32")


def train(mx, name: str):
    """A trained network."""
    mx.random.seed(4)
    net = NETS[name](mx.gluon)
    net.initialize(mx.init.Xavier())
    loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = mx.gluon.Trainer(net.collect_params(), *OPTIMIZERS[name])
    for step in range(30):
        x, y = (mx.nd.array(a) for a in batch(name, step))
        with mx.autograd.record():
            error = loss(net(x), y)
        error.backward()
        trainer.step(24)
    return net


if __name__ == "__main__":
    what, package, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    mx = importlib.import_module(package if what == "train" else "mxnet")
    found = {}
    for name in NETS:
        file = str(folder / f"{package}_{name}.params")
        if what == "train":
            net = train(mx, name)
            net.save_parameters(file)
        else:
            net = NETS[name](mx.gluon)
            net.load_parameters(file)
        found[name] = net(mx.nd.array(batch(name, 99)[0])).asnumpy()
    np.savez(folder / f"{package}_{'own' if what == 'train' else 'peer'}.npz", **found)

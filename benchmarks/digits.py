# SPDX-License-Identifier: Apache-2.0
"""The handwritten digits of scikit-learn, cut for workers, and a network for them."""

import numpy as np
from sklearn.datasets import load_digits

import kvtrain as mx
from kvtrain import autograd, gluon, nd

HELD_OUT = 360


class Digits:
    """One worker's part of the training data, and the held-out images."""

    def __init__(self, rank: int, workers: int, batch: int, seed: int = 0) -> None:
        digits = load_digits()
        order = np.random.RandomState(0).permutation(len(digits.target))
        images = (digits.images[order].reshape(-1, 64) / 16).astype("float32")
        labels = digits.target[order].astype("float32")
        self.test = nd.array(images[:HELD_OUT]), nd.array(labels[:HELD_OUT])
        self._mine = images[HELD_OUT + rank :: workers], labels[HELD_OUT + rank :: workers]
        self._batch = batch
        self._rng = np.random.RandomState(1000 * seed + rank)

    def draw(self):
        """A batch of images and labels."""
        chosen = self._rng.randint(0, len(self._mine[1]), self._batch)
        return nd.array(self._mine[0][chosen]), nd.array(self._mine[1][chosen])


def network(hidden: int = 128):
    """Two dense layers, with the same first values everywhere."""
    mx.random.seed(7)
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Dense(hidden, activation="relu", in_units=64))
    net.add(gluon.nn.Dense(hidden, activation="relu", in_units=hidden))
    net.add(gluon.nn.Dense(10, in_units=hidden))
    net.initialize(mx.init.Xavier())
    return net


LOSS = gluon.loss.SoftmaxCrossEntropyLoss()


def step(net, trainer, data: Digits, whole: int) -> None:
    """One step on one batch; `whole` is the batch of all workers together."""
    x, y = data.draw()
    with autograd.record():
        loss = LOSS(net(x), y)
    loss.backward()
    trainer.step(whole)


def held_out(net, data: Digits) -> tuple[float, float]:
    """Loss and accuracy on the held-out images."""
    x, y = data.test
    out = net(x)
    right = (out.asnumpy().argmax(1) == y.asnumpy()).mean()
    return float(LOSS(out, y).mean().asscalar()), float(right)

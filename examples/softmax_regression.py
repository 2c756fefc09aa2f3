# SPDX-License-Identifier: Apache-2.0
"""Softmax regression on scikit-learn's digits, from scratch: no layers, no Trainer.

python examples/softmax_regression.py
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits

import kvtrain as mx
from kvtrain import autograd, gluon, nd

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=8)
args = parser.parse_args()

digits = load_digits()
order = np.random.RandomState(0).permutation(len(digits.target))
x, y = (digits.data[order] / 16).astype("float32"), digits.target[order].astype("float32")
train = gluon.data.DataLoader(gluon.data.ArrayDataset(x[360:], y[360:]), 32, shuffle=True)
test_x, test_y = nd.array(x[:360]), y[:360]

mx.random.seed(2)
np.random.seed(2)
w = nd.random.normal(scale=0.01, shape=(64, 10))
b = nd.zeros(10)
for parameter in (w, b):
    parameter.attach_grad()


def softmax(scores: nd.NDArray) -> nd.NDArray:
    """Shares from scores, row by row."""
    exp = nd.exp(scores - scores.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


def cross_entropy(shares: nd.NDArray, labels: nd.NDArray) -> nd.NDArray:
    """Minus the logarithm of the label's share."""
    return -nd.log(nd.pick(shares, labels))


for epoch in range(args.epochs):
    total = 0.0
    for data, label in train:
        with autograd.record():
            loss = cross_entropy(softmax(nd.dot(data, w) + b), label).mean()
        loss.backward()
        for parameter in (w, b):
            parameter[:] = parameter - 0.5 * parameter.grad
        total += loss.asscalar()
    print(f"epoch {epoch + 1}: loss {total / len(train):.3f}")
found = softmax(nd.dot(test_x, w) + b).argmax(axis=1).asnumpy()
print(f"held-out accuracy {(found == test_y).mean():.3f}")

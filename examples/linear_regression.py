# SPDX-License-Identifier: Apache-2.0
"""Linear regression twice: from scratch with autograd, and with Gluon.

python examples/linear_regression.py
kvtrain launch -n 2 examples/linear_regression.py      the Gluon part, on two workers
"""

import argparse

import kvtrain as mx
from kvtrain import autograd, gluon, nd

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--batch-size", type=int, default=10)
args = parser.parse_args()

mx.random.seed(1)
true_w, true_b = nd.array([[2.0], [-3.4]]), 4.2
features = nd.random.normal(scale=1, shape=(1000, 2))
labels = nd.dot(features, true_w) + true_b + nd.random.normal(scale=0.01, shape=(1000, 1))
dataset = gluon.data.ArrayDataset(features, labels)


def from_scratch() -> tuple[nd.NDArray, nd.NDArray]:
    """Minibatch gradient descent, written out."""
    w = nd.random.normal(scale=0.01, shape=(2, 1))
    b = nd.zeros(shape=(1,))
    for parameter in (w, b):
        parameter.attach_grad()
    for _ in range(args.epochs):
        for x, y in gluon.data.DataLoader(dataset, args.batch_size, shuffle=True):
            with autograd.record():
                loss = ((nd.dot(x, w) + b - y) ** 2 / 2).sum()
            loss.backward()
            for parameter in (w, b):
                parameter[:] = parameter - 0.03 * parameter.grad / len(x)
    return w, b


def with_gluon() -> tuple[nd.NDArray, nd.NDArray]:
    """The same with a Dense layer and a Trainer."""
    kv = mx.kv.create("dist_sync" if mx.launched() else "device")
    sampler = gluon.data.SplitSampler(len(dataset), kv.num_workers, kv.rank, even=True)
    loader = gluon.data.DataLoader(dataset, args.batch_size, sampler=sampler)
    net = gluon.nn.Dense(1)
    net.initialize(mx.init.Normal(sigma=0.01))
    loss = gluon.loss.L2Loss()
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.03}, kvstore=kv)
    for _ in range(args.epochs * kv.num_workers):
        for x, y in loader:
            with autograd.record():
                error = loss(net(x), y)
            error.backward()
            trainer.step(args.batch_size * kv.num_workers)
    return net.weight.data().T, net.bias.data()


for name, train in (("from scratch", from_scratch), ("with gluon", with_gluon)):
    w, b = train()
    error = max(nd.abs(w - true_w).max().asscalar(), nd.abs(b - true_b).max().asscalar())
    print(f"{name}: largest error of a parameter {error:.4f}")

# SPDX-License-Identifier: Apache-2.0
"""One process, several devices: a batch is split, gradients are summed, values stay equal.

python examples/multi_device.py
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits

import kvtrain as mx
from kvtrain import autograd, gluon, nd

parser = argparse.ArgumentParser()
parser.add_argument("--devices", type=int, default=3)
parser.add_argument("--epochs", type=int, default=6)
parser.add_argument("--update-on-kvstore", action="store_true")
args = parser.parse_args()

devices = [mx.cpu(i) for i in range(args.devices)]
digits = load_digits()
order = np.random.RandomState(0).permutation(len(digits.target))
x, y = (digits.data[order] / 16).astype("float32"), digits.target[order].astype("float32")
train = gluon.data.DataLoader(gluon.data.ArrayDataset(x[360:], y[360:]), 60, shuffle=True)

mx.random.seed(8)
np.random.seed(8)
net = gluon.nn.HybridSequential()
net.add(gluon.nn.Dense(64, activation="relu"), gluon.nn.BatchNorm(), gluon.nn.Dense(10))
net.initialize(mx.init.Xavier(), ctx=devices)
loss = gluon.loss.SoftmaxCrossEntropyLoss()
trainer = gluon.Trainer(
    net.collect_params(),
    "sgd",
    {"learning_rate": 0.2, "momentum": 0.9},
    kvstore="device",
    update_on_kvstore=args.update_on_kvstore,
)
for epoch in range(args.epochs):
    total = 0.0
    for data, label in train:
        parts = gluon.utils.split_and_load(data, devices, even_split=False)
        labels = gluon.utils.split_and_load(label, devices, even_split=False)
        with autograd.record():
            errors = [loss(net(d), t) for d, t in zip(parts, labels, strict=True)]
        for error in errors:
            error.backward()
        trainer.step(data.shape[0])
        total += sum(error.sum().asscalar() for error in errors) / data.shape[0]
    print(f"epoch {epoch + 1}: loss {total / len(train):.3f}")

weights = [net[0].weight.data(device).asnumpy() for device in devices]
print(f"equal on all devices: {all(np.array_equal(w, weights[0]) for w in weights)}")
found = net(nd.array(x[:360], ctx=devices[0])).argmax(axis=1).asnumpy()
print(f"held-out accuracy {(found == y[:360]).mean():.3f}")

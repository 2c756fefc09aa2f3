# SPDX-License-Identifier: Apache-2.0
"""Train on digits with dist_async: every push is applied at once, nobody waits for anybody.

kvtrain launch -n 4 examples/train_async.py
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits

import kvtrain as mx
from kvtrain import autograd, gluon, nd
from kvtrain.gluon import nn

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=25)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--lr", type=float, default=0.05)
args = parser.parse_args()

digits = load_digits()
order = np.random.RandomState(0).permutation(len(digits.target))
images = (digits.images[order, None] / 16).astype("float32")
labels = digits.target[order].astype("float32")
held_out = 360
train = gluon.data.ArrayDataset(nd.array(images[held_out:]), nd.array(labels[held_out:]))

kv = mx.kv.create("dist_async" if mx.launched() else "local")
sampler = gluon.data.SplitSampler(len(train), kv.num_workers, kv.rank)
loader = gluon.data.DataLoader(train, args.batch_size, sampler=sampler)

mx.random.seed(7)
net = nn.HybridSequential()
net.add(
    nn.Conv2D(16, 3, padding=1, activation="relu"),
    nn.MaxPool2D(),
    nn.Conv2D(32, 3, padding=1, activation="relu"),
    nn.MaxPool2D(),
    nn.Dropout(0.3),
    nn.Dense(64, activation="relu"),
    nn.Dense(10),
)
net.initialize(mx.init.Xavier())
loss_function = gluon.loss.SoftmaxCrossEntropyLoss()
# four workers push as often as one would with a quarter of the batch: a small step, less momentum
settings = {"learning_rate": args.lr, "momentum": 0.5, "wd": 1e-4}
trainer = gluon.Trainer(net.collect_params(), "sgd", settings, kvstore=kv)

steps = 0
for epoch in range(args.epochs):
    if epoch in (args.epochs // 2, args.epochs * 3 // 4):
        trainer.set_learning_rate(trainer.learning_rate / 3)
    losses = mx.metric.Loss()
    for x, y in loader:
        with autograd.record():
            loss = loss_function(net(x), y)
        loss.backward()
        trainer.step(len(x))
        losses.update(None, loss)
        steps += 1
    if kv.rank == 0:
        print(f"epoch {epoch + 1:2d}: loss {losses.get()[1]:.4f}")

kv.barrier()
if kv.rank == 0:
    accuracy = mx.metric.Accuracy()
    accuracy.update(nd.array(labels[:held_out]), net(nd.array(images[:held_out])))
    print(f"held-out accuracy {accuracy.get()[1]:.4f}")
    applied = sum(server["pushes"] for server in kv.stats())
    print(f"the servers applied {applied} pushes of chunks")
kv.barrier()

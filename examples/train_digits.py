# SPDX-License-Identifier: Apache-2.0
"""Train a small convolutional network on the 1,797 handwritten digits of scikit-learn.

python examples/train_digits.py                       one process, one context
python examples/train_digits.py --contexts 4          one process, four contexts
kvtrain launch -n 4 examples/train_digits.py          four workers, parameter servers

The last two compute the same bits.
"""

import argparse
import sys
import time

import numpy as np
from sklearn.datasets import load_digits

import kvtrain as mx
from kvtrain import autograd, gluon, nd
from kvtrain.gluon import nn

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=15)
parser.add_argument("--batch-size", type=int, default=16, help="per worker or context")
parser.add_argument("--lr", type=float, default=0.05)
parser.add_argument("--kvstore", default="dist_sync" if mx.launched() else "local")
parser.add_argument("--contexts", type=int, default=1)
parser.add_argument("--seed", type=int, default=7)
parser.add_argument("--save", help="write the trained parameters to this file")
args = parser.parse_args()

digits = load_digits()
order = np.random.RandomState(0).permutation(len(digits.target))
images = (digits.images[order, None] / 16).astype("float32")
labels = digits.target[order].astype("float32")
held_out = 360
train = gluon.data.ArrayDataset(nd.array(images[held_out:]), nd.array(labels[held_out:]))
test_x, test_y = nd.array(images[:held_out]), nd.array(labels[:held_out])

kv = mx.kv.create(args.kvstore)
contexts = [mx.cpu(i) for i in range(args.contexts)]
if mx.launched():  # this worker's part of the data; else one part per context
    parts, mine = kv.num_workers, [kv.rank]
else:
    parts, mine = args.contexts, list(range(args.contexts))
loaders = []
for part in mine:
    sampler = gluon.data.SplitSampler(len(train), parts, part, seed=args.seed, even=True)
    loaders.append(gluon.data.DataLoader(train, args.batch_size, sampler=sampler))

mx.random.seed(args.seed)
net = nn.HybridSequential()
net.add(
    nn.Conv2D(16, 3, padding=1, activation="relu"),
    nn.MaxPool2D(),
    nn.Conv2D(32, 3, padding=1, activation="relu"),
    nn.MaxPool2D(),
    nn.Dense(64, activation="relu"),
    nn.Dense(10),
)
net.initialize(mx.init.Xavier(), ctx=contexts)
loss_function = gluon.loss.SoftmaxCrossEntropyLoss()
schedule = mx.lr_scheduler.FactorScheduler(step=80, factor=0.5, base_lr=args.lr)
trainer = gluon.Trainer(
    net.collect_params(),
    "sgd",
    {"lr_scheduler": schedule, "momentum": 0.9, "wd": 1e-4},
    kvstore=kv,
)

for epoch in range(args.epochs):
    start, samples = time.time(), 0
    mean_loss = mx.metric.Loss()
    for step, batches in enumerate(zip(*loaders, strict=True)):
        with autograd.record():
            losses = [
                loss_function(net(x.as_in_context(ctx)), y.as_in_context(ctx))
                for (x, y), ctx in zip(batches, contexts, strict=True)
            ]
        autograd.backward(losses)
        whole = len(batches[0][0]) * parts
        trainer.step(whole)
        samples += whole
        mean_loss.update(None, losses)
        if kv.rank == 0 and mx.on_terminal():
            done = (step + 1) * 30 // len(loaders[0])
            sys.stdout.write(f"epoch {epoch + 1:2d} [{'=' * done:<30}]\r")
            sys.stdout.flush()
    seconds = time.time() - start
    if kv.rank == 0:
        accuracy = mx.metric.Accuracy()
        accuracy.update(test_y, net(test_x))
        print(
            f"epoch {epoch + 1:2d}: loss {mean_loss.get()[1]:.4f}, held-out accuracy "
            f"{accuracy.get()[1]:.4f}, {samples / seconds:.0f} samples/s"
        )

if args.save and kv.rank == 0:
    net.save_parameters(args.save)

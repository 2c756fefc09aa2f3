# SPDX-License-Identifier: Apache-2.0
"""A multilayer perceptron and LeNet on scikit-learn's digits, with metrics and a schedule.

python examples/lenet.py --net mlp
python examples/lenet.py --net lenet
kvtrain launch -n 2 examples/lenet.py
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits

import kvtrain as mx
from kvtrain import autograd, gluon
from kvtrain.gluon import nn
from kvtrain.gluon.data.vision import transforms

parser = argparse.ArgumentParser()
parser.add_argument("--net", choices=("mlp", "lenet"), default="lenet")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--batch-size", type=int, default=32)
args = parser.parse_args()


def mlp() -> nn.HybridSequential:
    """Two hidden layers with dropout."""
    net = nn.HybridSequential()
    net.add(nn.Dense(64, activation="relu"), nn.Dropout(0.2))
    net.add(nn.Dense(32, activation="relu"), nn.Dense(10))
    return net


def lenet() -> nn.HybridSequential:
    """LeNet (LeCun et al., 1998) for images of 16 x 16, with ReLU."""
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(6, kernel_size=5, padding=2, activation="relu"),
        nn.AvgPool2D(pool_size=2, strides=2),
        nn.Conv2D(16, kernel_size=5, activation="relu"),
        nn.AvgPool2D(pool_size=2, strides=2),
        nn.Dense(60, activation="relu"),
        nn.Dense(42, activation="relu"),
        nn.Dense(10),
    )
    return net


digits = load_digits()
order = np.random.RandomState(0).permutation(len(digits.target))
images = (digits.images[order, :, :, None] * 15).astype("uint8")
labels = digits.target[order].astype("int32")
enlarge = transforms.Compose([transforms.Resize(16), transforms.ToTensor()])
pairs = list(zip(map(mx.nd.from_numpy, images), labels, strict=True))
held_out, rest = (
    gluon.data.SimpleDataset(part).transform_first(enlarge, lazy=False)
    for part in (pairs[:360], pairs[360:])
)
kv = mx.kv.create("dist_sync" if mx.launched() else "device")
sampler = gluon.data.SplitSampler(len(rest), kv.num_workers, kv.rank, seed=1, even=True)
train = gluon.data.DataLoader(rest, args.batch_size, sampler=sampler)
test = gluon.data.DataLoader(held_out, 120)

mx.random.seed(3)
net = {"mlp": mlp, "lenet": lenet}[args.net]()
net.initialize(mx.init.Xavier())
net.hybridize()
loss = gluon.loss.SoftmaxCrossEntropyLoss()
schedule = mx.lr_scheduler.FactorScheduler(step=100, factor=0.8)
options = {"learning_rate": 0.01, "lr_scheduler": schedule}
trainer = gluon.Trainer(net.collect_params(), "adam", options, kvstore=kv)

metric = mx.metric.CompositeEvalMetric([mx.metric.Accuracy(), mx.metric.CrossEntropy()])
for epoch in range(args.epochs):
    metric.reset()
    for data, label in train:
        with autograd.record():
            scores = net(data)
            error = loss(scores, label)
        error.backward()
        trainer.step(args.batch_size * kv.num_workers)
        metric.update(label, mx.nd.softmax(scores))
    names, values = metric.get()
    shown = ", ".join(f"{n} {v:.3f}" for n, v in zip(names, values, strict=True))
    print(f"epoch {epoch + 1}: {shown}")
accuracy = mx.metric.Accuracy()
for data, label in test:
    accuracy.update(label, net(data))
print(f"held-out accuracy {accuracy.get()[1]:.3f}")

# SPDX-License-Identifier: Apache-2.0
"""A generative adversarial network with two Trainers: it learns to draw from a Gaussian.

python examples/gan.py
kvtrain launch -n 2 examples/gan.py      each Trainer has a store of its own
"""

import argparse

import numpy as np

import kvtrain as mx
from kvtrain import autograd, gluon, nd
from kvtrain.gluon import nn

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=500)
parser.add_argument("--batch-size", type=int, default=64)
args = parser.parse_args()

MEAN, MIX = np.array([1.0, 2.0]), np.array([[1.0, 0.5], [-0.1, 0.5]])


def network(*units: int) -> nn.HybridSequential:
    """Dense layers with tanh between them."""
    net = nn.HybridSequential()
    for width in units[:-1]:
        net.add(nn.Dense(width, activation="tanh"))
    net.add(nn.Dense(units[-1]))
    return net


store = "dist_sync" if mx.launched() else "device"
mx.random.seed(11)
generator, discriminator = network(2), network(5, 3, 1)
trainers = []
for net, rate in ((generator, 0.01), (discriminator, 0.02)):
    net.initialize(mx.init.Normal(0.1))
    net(nd.ones((1, 2)))
    params = net.collect_params()
    trainers.append(
        gluon.Trainer(params, "adam", {"learning_rate": rate}, kvstore=mx.kv.create(store))
    )
trainer_g, trainer_d = trainers
kv = trainer_d.kvstore or mx.kv.create("local")
workers = kv.num_workers

loss = gluon.loss.SigmoidBCELoss()
rng = np.random.RandomState(20 + kv.rank)
real_label, fake_label = nd.ones((args.batch_size,)), nd.zeros((args.batch_size,))
for step in range(args.steps):
    real = nd.array(rng.standard_normal((args.batch_size, 2)) @ MIX + MEAN)
    noise = nd.array(rng.standard_normal((args.batch_size, 2)))
    with autograd.record():  # tell real from made ones; the generator stays as it is
        made = generator(noise).detach()
        error_d = loss(discriminator(real), real_label) + loss(discriminator(made), fake_label)
    error_d.backward()
    trainer_d.step(args.batch_size * workers)
    with autograd.record():  # make ones that are taken for real
        error_g = loss(discriminator(generator(noise)), real_label)
    error_g.backward()
    trainer_g.step(args.batch_size * workers)
    if step % 100 == 99:
        print(
            f"step {step + 1}: discriminator {error_d.mean().asscalar():.3f}, "
            f"generator {error_g.mean().asscalar():.3f}"
        )
drawn = generator(nd.array(np.random.RandomState(0).standard_normal((2000, 2)))).asnumpy()
gap = np.abs(drawn.mean(axis=0) - MEAN).max()
print(f"distance of the means {gap:.3f}")

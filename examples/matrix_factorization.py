# SPDX-License-Identifier: Apache-2.0
"""Matrix factorisation of generated ratings; a step touches only the rows of its batch.

python examples/matrix_factorization.py
kvtrain launch -n 2 examples/matrix_factorization.py
"""

import argparse

import numpy as np

import kvtrain as mx
from kvtrain import autograd, gluon, nd

parser = argparse.ArgumentParser()
parser.add_argument("--users", type=int, default=300)
parser.add_argument("--items", type=int, default=200)
parser.add_argument("--width", type=int, default=4)
parser.add_argument("--ratings", type=int, default=12000)
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--batch-size", type=int, default=200)
args = parser.parse_args()

rng = np.random.RandomState(0)
likes = rng.standard_normal((args.users, args.width)) / args.width**0.25
traits = rng.standard_normal((args.items, args.width)) / args.width**0.25
user, item = rng.randint(0, args.users, args.ratings), rng.randint(0, args.items, args.ratings)
rating = (likes[user] * traits[item]).sum(axis=1) + rng.normal(0, 0.1, args.ratings)
columns = [a.astype("float32") for a in (user, item, rating)]
held_out = args.ratings // 6
test = [nd.array(c[:held_out]) for c in columns]


class Factors(gluon.HybridBlock):
    """Ratings from the product of a user's and an item's factors."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.user = gluon.nn.Embedding(args.users, args.width, sparse_grad=True)
            self.item = gluon.nn.Embedding(args.items, args.width, sparse_grad=True)

    def hybrid_forward(self, F, user, item):
        """(n,) and (n,) to (n,)."""
        return F.sum(self.user(user) * self.item(item), axis=1)


kv = mx.kv.create("dist_sync" if mx.launched() else "device")
dataset = gluon.data.ArrayDataset(*(c[held_out:] for c in columns))
sampler = gluon.data.SplitSampler(len(dataset), kv.num_workers, kv.rank, seed=2, even=True)
train = gluon.data.DataLoader(dataset, args.batch_size, sampler=sampler, last_batch="discard")

mx.random.seed(9)
net = Factors()
net.initialize(mx.init.Normal(0.3))
loss = gluon.loss.L2Loss()
trainer = gluon.Trainer(
    net.collect_params(), "adam", {"learning_rate": 0.03, "lazy_update": True}, kvstore=kv
)
for epoch in range(args.epochs):
    total = 0.0
    for users, items, ratings in train:
        with autograd.record():
            error = loss(net(users, items), ratings)
        error.backward()
        trainer.step(args.batch_size * kv.num_workers)
        total += error.mean().asscalar()
    print(f"epoch {epoch + 1}: loss {total / len(train):.4f}")
rows = net.user.weight.grad()
print(f"the last gradient holds {rows.indices.size} of {args.users} rows ({rows.stype})")
error = net(test[0], test[1]) - test[2]
print(f"held-out error {float(nd.sqrt((error**2).mean()).asscalar()):.3f}")

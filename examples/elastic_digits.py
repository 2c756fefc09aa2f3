# SPDX-License-Identifier: Apache-2.0
"""Train the digits although workers, servers and the scheduler may die, and workers may join.

kvtrain launch -n 4 --replicas 1 --on-worker-loss restart examples/elastic_digits.py
kvtrain launch -n 4 --checkpoint-dir ckpt --checkpoint-every 50 examples/elastic_digits.py
kvtrain launch -n 4 --resume ckpt examples/elastic_digits.py
kvtrain launch -n 2 --name digits examples/elastic_digits.py --steps 100000
kvtrain worker --join digits examples/elastic_digits.py --steps 100000     # in another terminal

A worker that is started again reads the weights from before its last step and repeats that step,
so gradients must depend on weights, rank and step only: the batch of every step follows from the
seed. Then the final weights are those of a run in which nothing died, bit for bit. A worker that
joins begins with the weights from before its first step; from that step on the data is split among
one part more, on every worker.
"""

import argparse
import hashlib

import numpy as np
from sklearn.datasets import load_digits

import kvtrain as mx
from kvtrain import autograd, gluon, nd
from kvtrain.gluon import nn

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=300)
parser.add_argument("--batch-size", type=int, default=16, help="per worker")
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--seed", type=int, default=7)
parser.add_argument("--progress", type=int, default=50, help="say so every so many steps")
args = parser.parse_args()

digits = load_digits()
order = np.random.RandomState(0).permutation(len(digits.target))
images = (digits.images[order] / 16).astype("float32").reshape(-1, 64)
labels = digits.target[order].astype("float32")
held_out = 360
train = gluon.data.ArrayDataset(nd.array(images[held_out:]), nd.array(labels[held_out:]))
test_x, test_y = nd.array(images[:held_out]), nd.array(labels[:held_out])

kv = mx.kv.create("dist_sync" if mx.launched() else "local")
mx.random.seed(args.seed)
net = nn.HybridSequential()
net.add(nn.Dense(64, activation="relu"), nn.Dense(10))
net.initialize(mx.init.Xavier())
loss_function = gluon.loss.SoftmaxCrossEntropyLoss()
trainer = gluon.Trainer(
    net.collect_params(), "sgd", {"learning_rate": args.lr, "momentum": 0.9}, kvstore=kv
)
sampler = gluon.data.SplitSampler(len(train), seed=args.seed, even=True)
loader = gluon.data.DataLoader(train, args.batch_size, sampler=sampler, last_batch="discard")

step = kv.resume_step  # 0, or where this worker goes on
if step:
    print(f"goes on at step {step}")
while step < args.steps:
    members = kv.members  # ranks of those who take part now; changes between two steps only
    sampler.split(len(members), members.index(kv.rank))
    sampler.at_step(step, args.batch_size, last_batch="discard")  # what is left of this pass
    for x, y in loader:
        with autograd.record():
            loss = loss_function(net(x), y)
        loss.backward()
        trainer.step(args.batch_size * len(members))
        step += 1
        if kv.rank == 0 and step % args.progress == 0:
            print(f"step {step}: loss {loss.mean().asscalar():.4f}")
        if step == args.steps or kv.members != members:
            break

weights = [p.data().asnumpy() for p in net.collect_params().values()]
if kv.rank == 0:
    accuracy = mx.metric.Accuracy()
    accuracy.update(test_y, net(test_x))
    print(f"held-out accuracy {accuracy.get()[1]:.4f}")
    print("weights", hashlib.sha256(b"".join(w.tobytes() for w in weights)).hexdigest()[:16])

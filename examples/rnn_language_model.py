# SPDX-License-Identifier: Apache-2.0
"""A language model of letters on the text of Python's own help, with an LSTM.

python examples/rnn_language_model.py
kvtrain launch -n 2 examples/rnn_language_model.py
"""

import argparse
import math
from pydoc_data.topics import topics

import numpy as np

import kvtrain as mx
from kvtrain import autograd, gluon, nd
from kvtrain.gluon import nn, rnn

parser = argparse.ArgumentParser()
parser.add_argument("--letters", type=int, default=20000, help="length of the text")
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--steps", type=int, default=25, help="letters of a gradient")
parser.add_argument("--rows", type=int, default=32, help="pieces read side by side")
args = parser.parse_args()

text = " ".join(" ".join(topics[name].split()) for name in sorted(topics))[: args.letters].lower()
alphabet = sorted(set(text))
letters = np.array([alphabet.index(c) for c in text], "float32")
kv = mx.kv.create("dist_sync" if mx.launched() else "device")
rows = np.array_split(letters[: len(letters) // args.rows * args.rows], args.rows)
mine = nd.array(np.stack(rows[kv.rank :: kv.num_workers], axis=1))  # (letters, rows)


class LanguageModel(gluon.Block):
    """Scores of the next letter after each letter."""

    def __init__(self, size: int, width: int, **kwargs) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.embedding = nn.Embedding(size, width)
            self.rnn = rnn.LSTM(width)
            self.decoder = nn.Dense(size, flatten=False)

    def forward(self, x, states):
        """(steps, rows) and states to (steps, rows, letters) and states."""
        out, states = self.rnn(self.embedding(x), states)
        return self.decoder(out), states


mx.random.seed(6)
net = LanguageModel(len(alphabet), 48)
net.initialize(mx.init.Xavier())
loss = gluon.loss.SoftmaxCrossEntropyLoss()
trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.02}, kvstore=kv)

for epoch in range(args.epochs):
    states = net.rnn.begin_state(mine.shape[1])
    total, count = 0.0, 0
    for start in range(0, len(mine) - 1 - args.steps, args.steps):
        x, y = mine[start : start + args.steps], mine[start + 1 : start + args.steps + 1]
        states = [state.detach() for state in states]
        with autograd.record():
            scores, states = net(x, states)
            error = loss(scores.reshape((-1, len(alphabet))), y.reshape((-1,)))
        error.backward()
        grads = [p.grad() for p in net.collect_params().values()]
        gluon.utils.clip_global_norm(grads, 5 * x.size)
        trainer.step(x.size * kv.num_workers)
        total += error.sum().asscalar()
        count += x.size
    print(f"epoch {epoch + 1}: perplexity {math.exp(total / count):.2f}")

scores, states = net(nd.array([[alphabet.index(c)] for c in "the "]), net.rnn.begin_state(1))
written = "the "
for _ in range(60):
    shares = nd.softmax(scores[-1, 0] * 2)
    found = int(nd.random.multinomial(shares).asscalar())
    written += alphabet[found]
    scores, states = net(nd.array([[found]]), states)
print(f"it writes: {written}")

# SPDX-License-Identifier: Apache-2.0
"""Layers, a loss and a function with its own gradient, all written here.

python examples/custom_layers.py
"""

import kvtrain as mx
from kvtrain import autograd, gluon, nd


class Centred(gluon.Block):
    """Takes the mean away; no parameters."""

    def forward(self, x):
        """Of any shape."""
        return x - x.mean()


class Gated(gluon.HybridBlock):
    """A dense layer times a learned gate; the width of the input is told by the first batch."""

    def __init__(self, units: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.units = units
        with self.name_scope():
            self.weight = self.params.get("weight", shape=(units, 0), allow_deferred_init=True)
            self.gate = self.params.get("gate", shape=(1, units), init="ones")
            self.scale = self.params.get_constant("scale", nd.array([0.5]))

    def hybrid_forward(self, F, x, weight, gate, scale):
        """(n, inputs) to (n, units)."""
        out = F.FullyConnected(x, weight, num_hidden=self.units, no_bias=True)
        return F.broadcast_mul(F.relu(F.broadcast_mul(out, gate)), scale)


class StraightThrough(autograd.Function):
    """Rounds forwards, and passes the gradient on backwards."""

    def forward(self, x):
        """Whole numbers."""
        return nd.round(x)

    def backward(self, grad):
        """As if nothing had been done."""
        return grad


class LogCosh(gluon.loss.Loss):
    """Smooth absolute error."""

    def __init__(self, weight=None, batch_axis=0, **kwargs) -> None:
        super().__init__(weight, batch_axis, **kwargs)

    def hybrid_forward(self, F, pred, label):
        """Predictions and labels of one shape."""
        gap = F.abs(pred - label)
        return F.mean(
            gap + F.log(1 + F.exp(-2 * gap)) - 0.6931472, axis=self._batch_axis, exclude=True
        )


mx.random.seed(5)
x = nd.random.uniform(-1, 1, (256, 4))
y = nd.round(3 * x[:, 0:1] + 2 * nd.relu(x[:, 1:2]))

net = gluon.nn.Sequential()
net.add(Centred(), Gated(32), gluon.nn.Dense(1))
net.initialize(mx.init.Xavier())
print(f"before the first batch: {net[1].weight.shape}")
net(x[:2])
print(f"after it: {net[1].weight.shape}")
loss = LogCosh()
trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.02})
for step in range(400):
    with autograd.record():
        soft = net(x)
        error = loss(StraightThrough()(soft), y) + 0.1 * loss(soft, y)
    error.backward()
    trainer.step(len(x))
    if step % 100 == 99:
        print(f"step {step + 1}: loss {error.mean().asscalar():.4f}")
right = (nd.round(net(x)) == y).mean().asscalar()
print(f"share of exact answers {right:.3f}")

# SPDX-License-Identifier: Apache-2.0
"""Two dense layers and one backward pass, in the words of the Gluon API."""

from kvtrain import autograd, gluon, nd
from kvtrain.gluon import nn

net = nn.HybridSequential()
net.add(nn.Dense(units=3), nn.Dense(units=1))
net.initialize()
loss = gluon.loss.L2Loss()

x = nd.array([[0.5, 0.9]])
y = nd.array([[1.5]])
with autograd.record():
    error = loss(net(x), y)
error.backward()

print(net[0].weight.grad())

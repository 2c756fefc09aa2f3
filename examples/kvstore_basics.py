# SPDX-License-Identifier: Apache-2.0
"""init, push, pull, a list of keys, an updater.

python examples/kvstore_basics.py
kvtrain launch -n 2 examples/kvstore_basics.py
"""

import kvtrain as mx

kv = mx.kv.create("dist_sync" if mx.launched() else "local")
shape = (2, 3)

# a key is initialised once; rank 0's value counts
kv.init(3, mx.nd.ones(shape) * 2)
a = mx.nd.zeros(shape)
kv.pull(3, out=a)
print("initialised:", a.asnumpy().tolist())

# without an updater a push replaces the value by the sum over all workers
kv.push(3, mx.nd.ones(shape) * 8)
kv.pull(3, out=a)
print(f"sum over {kv.num_workers} workers:", a.asnumpy().tolist())

# several arrays for one key (one per device) are summed first
contexts = [mx.cpu(i) for i in range(4)]
kv.push(3, [mx.nd.ones(shape, ctx) for ctx in contexts])
kv.pull(3, out=a)
print("sum over devices and workers:", a.asnumpy().tolist())

# several keys at once
keys = [5, 7, 9]
kv.init(keys, [mx.nd.ones(shape)] * len(keys))
kv.push(keys, [mx.nd.ones(shape) * k for k in keys])
outs = [mx.nd.zeros(shape) for _ in keys]
kv.pull(keys, out=outs)
print("three keys:", [o.asnumpy()[0, 0].item() for o in outs])

# an updater decides what a push does; servers take an optimizer, which travels as plain data
if kv.type == "local":

    def update(key, pushed, stored):
        """Add twice what is pushed."""
        stored += pushed * 2

    kv.set_updater(update)
else:
    kv.set_optimizer(mx.optimizer.create("test", rescale_grad=2.0))
kv.push(3, mx.nd.ones(shape))
kv.pull(3, out=a)
print("with an updater:", a.asnumpy().tolist())

# SPDX-License-Identifier: Apache-2.0
"""Reference answers of gradient compression; run with the real MXNet 1.9.1, never by the tests.

    OMP_NUM_THREADS=1 python tests/reference/generate_compression.py tests/reference/compression.npz

A `device` store with two contexts quantises each context's gradient with a residual of its own.
"""

import sys

import mxnet as mx
import numpy as np

STEPS, SIZE = 12, 103


def main(path):
    found = {}
    for name, threshold in (("a", 0.5), ("b", 0.1), ("c", 2.25)):
        rng = np.random.RandomState(7)
        grads = (rng.standard_normal((STEPS, 2, SIZE)) * threshold).astype(np.float32)
        grads[0, :, 0] = threshold
        grads[0, :, 1] = -threshold
        grads[0, :, 2] = -0.0
        kv = mx.kv.create("device")
        kv.set_gradient_compression({"type": "2bit", "threshold": threshold})
        kv.init("w", mx.nd.zeros((SIZE,)))
        outs = []
        for step in range(STEPS):
            kv.push("w", [mx.nd.array(grads[step, i], ctx=mx.cpu(i)) for i in range(2)])
            out = mx.nd.zeros((SIZE,))
            kv.pull("w", out=out)
            outs.append(out.asnumpy())
        found[f"{name}_threshold"] = np.float32(threshold)
        found[f"{name}_grads"] = grads
        found[f"{name}_sums"] = np.stack(outs)
    np.savez_compressed(path, **found)


main(sys.argv[1])

# SPDX-License-Identifier: Apache-2.0
"""Weights after twenty steps of every optimizer, by the real MXNet 1.9.1.

peer/bin/python tests/reference/generate_optimizers.py tests/reference
(the environment `peer` is made as generate.py says)
"""

import importlib.util
import math
import sys
from pathlib import Path

import mxnet as mx
import numpy as np

path = Path(__file__).resolve().parents[1] / "optimizer" / "cases.py"
spec = importlib.util.spec_from_file_location("cases", path)
cases = importlib.util.module_from_spec(spec)
sys.modules["cases"] = cases
spec.loader.exec_module(cases)


class AdamW(mx.optimizer.Optimizer):
    """MXNet has the operator, ``contrib.adamw_update``, and no class for it."""

    def __init__(self, beta1=0.9, beta2=0.999, epsilon=1e-6, **kwargs):
        super().__init__(**{"learning_rate": 0.001, **kwargs})
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon

    def create_state(self, index, weight):
        return mx.nd.zeros(weight.shape), mx.nd.zeros(weight.shape)

    def update(self, index, weight, grad, state):
        self._update_count(index)
        t = self._index_update_count[index]
        lr = self._get_lr(index) * math.sqrt(1 - self.beta2**t) / (1 - self.beta1**t)
        clip = {"clip_gradient": self.clip_gradient} if self.clip_gradient else {}
        mx.nd.contrib.adamw_update(
            weight,
            grad,
            *state,
            mx.nd.array([self.rescale_grad]),
            lr=1,
            eta=lr,
            wd=self._get_wd(index),
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
            out=weight,
            **clip,
        )


mx.optimizer.register(AdamW)


def run(case, weight, grads):
    options = dict(case.options)
    if case.schedule:
        kind, arguments = case.schedule
        options["lr_scheduler"] = getattr(mx.lr_scheduler, kind)(**arguments)
    if case.parameter:
        options["param_idx2name"] = {0: case.parameter}
    updater = mx.optimizer.get_updater(mx.optimizer.create(case.kind, **options))
    held = mx.nd.array(weight, dtype=case.dtype)
    for grad in grads:
        updater(0, mx.nd.array(grad, dtype=case.dtype), held)
    return held.asnumpy()


def sgld(weight, grads):
    """Only the drift: the noise is replaced by zeros."""
    module = sys.modules["mxnet.optimizer.optimizer"]
    held, module.normal = module.normal, lambda *a, shape, **k: mx.nd.zeros(shape)
    plain = cases.Case("sgld", "sgld", {"learning_rate": 0.05, **cases.ALL})
    try:
        return run(plain, weight, grads)
    finally:
        module.normal = held


def sparse(number, stype):
    """Four steps of a case with row-sparse gradients, half of the rows each."""
    kind, options = cases.SPARSE[number]
    rng = np.random.RandomState(number)
    options = {"learning_rate": 0.1, **options}
    updater = mx.optimizer.get_updater(mx.optimizer.create(kind, **options))
    weight = mx.nd.array(rng.standard_normal((6, 3)).astype("float32")).tostype(stype)
    for _ in range(4):
        rows = np.sort(rng.choice(6, 3, replace=False))
        values = rng.standard_normal((3, 3)).astype("float32")
        grad = mx.nd.sparse.row_sparse_array((values, rows), shape=(6, 3))
        updater(0, grad, weight)
    return weight.asnumpy()


if __name__ == "__main__":
    rng = np.random.RandomState(5)
    weight = rng.standard_normal(cases.SHAPE).astype("float32")
    grads = rng.standard_normal((cases.STEPS, *cases.SHAPE)).astype("float32")
    found = {"weight": weight, "grads": grads}
    for case in cases.CASES:
        found[case.name] = run(case, weight, grads)
    found["sgld"] = sgld(weight, grads)
    for number in range(len(cases.SPARSE)):
        for stype in ("default", "row_sparse"):
            found[f"sparse_{number}_{stype}"] = sparse(number, stype)
    np.savez_compressed(Path(sys.argv[1]) / "optimizers.npz", **found)

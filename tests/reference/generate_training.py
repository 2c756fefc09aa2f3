# SPDX-License-Identifier: Apache-2.0
"""Values of metrics, learning rates of schedules and first weights, by the real MXNet 1.9.1.

peer/bin/python tests/reference/generate_training.py tests/reference
(the environment `peer` is made as generate.py says)
"""

import importlib.util
import json
import sys
from pathlib import Path

import mxnet as mx
import numpy as np

path = Path(__file__).resolve().parents[1] / "training" / "cases.py"
spec = importlib.util.spec_from_file_location("training_cases", path)
cases = importlib.util.module_from_spec(spec)
sys.modules["training_cases"] = cases
spec.loader.exec_module(cases)


def batches():
    """Three batches of (label, prediction) of each kind."""
    rng = np.random.RandomState(3)
    found = {}
    for b in range(3):
        scores = rng.standard_normal((12, 5)).astype("float32")
        parts = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        two = rng.uniform(size=(12, 2)).astype("float32")
        line = rng.standard_normal((12, 1)).astype("float32")
        made = {
            "classes": (rng.randint(0, 5, 12), scores),
            "sequences": (rng.randint(0, 4, (3, 6)), rng.uniform(size=(3, 6, 4))),
            "numbers": (rng.randint(0, 2, 12), rng.randint(0, 2, 12)),
            "binary": (rng.randint(0, 2, 12), two),
            "probabilities": (rng.randint(0, 5, 12), parts),
            "regression": (line, line * 0.7 + rng.standard_normal((12, 1)) * 0.2),
            "flat": (line[:, 0], line[:, 0] + 0.5),
        }
        for kind, (label, pred) in made.items():
            found[f"{kind}_{b}_label"] = np.asarray(label, "float32")
            found[f"{kind}_{b}_pred"] = np.asarray(pred, "float32")
    return found


def metric_values(held):
    """After two batches, and after a local reset and one more: name, value, global value."""
    found = {}
    for name, (kind, arguments, food) in cases.METRICS.items():
        metric = mx.metric.create(kind, **arguments)
        for b in range(3):
            if b == 2:
                metric.reset_local()
            label, pred = (mx.nd.array(held[f"{food}_{b}_{x}"]) for x in ("label", "pred"))
            metric.update([label], [pred])
            if b == 1:
                found[name] = [*metric.get()]
        found[name] += [metric.get()[1], metric.get_global()[1]]
    return {k: [v[0], *(float(x) for x in v[1:])] for k, v in found.items()}


def schedules():
    found = {}
    for name, (kind, arguments) in cases.SCHEDULES.items():
        schedule = getattr(mx.lr_scheduler, kind)(**arguments)
        found[name] = [float(schedule(i)) for i in range(50)]
    return found


def initializers():
    found = {}
    for name, (kind, arguments, parameter, shape, dtype) in cases.INITIALIZERS.items():
        mx.random.seed(7)
        array = mx.nd.zeros(shape, dtype=dtype)
        getattr(mx.init, kind)(**arguments)(mx.init.InitDesc(parameter), array)
        found[name] = array.asnumpy()
    for name, (inner, mode, both, size) in cases.FUSED.items():
        mx.random.seed(7)
        array = mx.nd.zeros((size,))
        init = None if inner is None else getattr(mx.init, inner[0])(**inner[1])
        fused = mx.init.FusedRNN(init, 3, 2, mode, both, 1.5)
        # from its JSON text MXNet cannot make one: a wrong key in its registry
        fused._init_weight(mx.init.InitDesc("a", global_init=mx.init.Uniform(0.2)), array)
        found[name] = array.asnumpy()
    return found


def dumps():
    return {
        name: getattr(mx.init, kind)(**arguments).dumps()
        for name, (kind, arguments, *_) in cases.INITIALIZERS.items()
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    held = batches()
    np.savez_compressed(folder / "training.npz", **held, **initializers())
    facts = {"metrics": metric_values(held), "schedules": schedules(), "dumps": dumps()}
    (folder / "training.json").write_text(json.dumps(facts, indent=0) + "\n")

# SPDX-License-Identifier: Apache-2.0
"""Structure and outputs of the networks of the real MXNet 1.9.1's model zoo: models.json.

peer/bin/python tests/reference/models.py tests/reference   (peer: see generate.py)
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

#: networks whose outputs are compared, with the size of the image and options
RUN = {
    "resnet18_v1": (32, {"thumbnail": True}),
    "resnet18_v2": (32, {"thumbnail": True}),
    "resnet50_v1": (16, {"thumbnail": True}),
    "mobilenet0.25": (32, {}),
    "mobilenetv2_0.25": (32, {}),
}


def structure(net) -> dict:
    """The prefix, and hashes of names, names by structure, and ``repr``."""
    params = net.collect_params()
    rows = [f"{name} {tuple(p.shape)}" for name, p in params.items()]
    texts = {"names": rows, "structure": list(net._collect_params_with_prefix())}
    texts["repr"] = repr(net).splitlines()
    hashes = {k: hashlib.sha256("\n".join(v).encode()).hexdigest()[:16] for k, v in texts.items()}
    return {"count": len(rows), **hashes}


def outputs(mx, name: str) -> list:
    """Scores of two images, and norms of gradients, with weights of a fixed seed.

    In prediction mode: statistics of a small batch would blow up the last bits.
    """
    size, options = RUN[name]
    net = mx.gluon.model_zoo.vision.get_model(name, classes=5, **options)
    mx.random.seed(2)
    net.initialize(mx.init.Xavier(magnitude=2))
    x = mx.nd.array(np.random.RandomState(1).uniform(-1, 1, (2, 3, size, size)))
    with mx.autograd.record(train_mode=False):
        out = net(x)
    out.backward(mx.nd.array(np.cos(np.arange(10)).reshape(2, 5)), train_mode=False)
    params = net.collect_params().values()
    return [
        out.asnumpy().ravel().tolist(),
        [float(p.grad().norm().asscalar()) for p in params if p.grad_req != "null"],
    ]


if __name__ == "__main__":
    import mxnet as mx

    zoo = mx.gluon.model_zoo.vision
    try:
        zoo.get_model("")
    except ValueError as error:
        names = str(error).split("\n\t")[1:]
    found = {}
    for name in names:
        with mx.gluon.Block(prefix="zoo_").name_scope():
            found[name] = structure(zoo.get_model(name, classes=7))
    for name in RUN:
        found[name]["outputs"] = outputs(mx, name)
    Path(sys.argv[1], "models.json").write_text(json.dumps(found, indent=0))

# SPDX-License-Identifier: Apache-2.0
"""Random bits, files and a network against data made by the real MXNet 1.9.1.

The data and the command that made it are in tests/reference.
"""

import json
from pathlib import Path

import numpy as np

import kvtrain as mx
from kvtrain import autograd, gluon, nd

REFERENCE = Path(__file__).resolve().parents[1] / "reference"


def test_random_draws() -> None:
    held = np.load(REFERENCE / "draws.npz")
    mx.random.seed(42)
    for n in (1, 63, 64, 65, 1000, 5000):
        uniform = nd.random.uniform(-0.07, 0.07, (n,)).asnumpy()
        np.testing.assert_array_equal(uniform, held[f"uniform_{n}"])
        normal = nd.random.normal(0, 1, (n,)).asnumpy()
        np.testing.assert_array_equal(normal, held[f"normal_{n}"])
    double = nd.random.uniform(shape=(100,), dtype="float64").asnumpy()
    np.testing.assert_array_equal(double, held["double"])
    exponential = nd.random.exponential(2, shape=(100,)).asnumpy()
    np.testing.assert_array_equal(exponential, held["exponential"])
    with autograd.record():
        dropped = nd.Dropout(nd.ones((20, 30)), p=0.3).asnumpy()
    np.testing.assert_allclose(dropped, held["dropout"], rtol=3e-7)
    net = gluon.nn.Dense(4, in_units=6, prefix="d_")
    net.initialize(mx.init.Xavier())
    np.testing.assert_allclose(net.weight.data().asnumpy(), held["xavier"], rtol=3e-7)


def test_a_network_forward_and_backward() -> None:
    held = np.load(REFERENCE / "network.npz")
    mx.random.seed(3)
    nn = gluon.nn
    net = nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(
            nn.Conv2D(4, 3, padding=1, strides=2, activation="relu"),
            nn.BatchNorm(),
            nn.MaxPool2D(2, 2),
            nn.Flatten(),
            nn.Dense(6, activation="tanh"),
            nn.Dense(3),
        )
    net.initialize(mx.init.Xavier())
    net(nd.array(held["x"]))
    params = net.collect_params()
    assert sorted(params) == sorted(n[5:] for n in held.files if n.startswith("data_"))
    for name, parameter in params.items():
        if "running" not in name:
            parameter.set_data(nd.array(held["data_" + name]))
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    with autograd.record():
        out = net(nd.array(held["x"]))
        error = loss(out, nd.array(held["y"]))
    error.backward()
    close = {"rtol": 2e-4, "atol": 1e-5}
    np.testing.assert_allclose(out.asnumpy(), held["out"], **close)
    np.testing.assert_allclose(error.asnumpy(), held["loss"], **close)
    for name, parameter in params.items():
        np.testing.assert_allclose(parameter.data().asnumpy(), held["data_" + name], **close)
        if parameter.grad_req != "null":
            grad = parameter.grad().asnumpy()
            np.testing.assert_allclose(grad, held["grad_" + name], err_msg=name, **close)
    np.testing.assert_allclose(net(nd.array(held["x"])).asnumpy(), held["predicted"], **close)


def test_files_that_mxnet_wrote_and_the_same_bytes_back(tmp_path: Path) -> None:
    for name in ("dict.params", "list.params"):
        loaded = nd.load(str(REFERENCE / name))
        nd.save(str(tmp_path / name), loaded)
        assert (tmp_path / name).read_bytes() == (REFERENCE / name).read_bytes()
    loaded = nd.load(str(REFERENCE / "dict.params"))
    assert loaded["a"].asnumpy().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert loaded["b"].dtype is np.int32 and loaded["b"].asnumpy().tolist() == [1, -2]
    assert loaded["arg:c"].dtype is np.float16
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Dense(3), gluon.nn.Dense(1))
    net.load_parameters(str(REFERENCE / "net.params"))
    values = json.loads((REFERENCE / "net.json").read_text())
    assert net[0].weight.data().asnumpy().tolist() == values["0.weight"]
    net(nd.ones((1, 2)))
    net.save_parameters(str(tmp_path / "net.params"))
    assert (tmp_path / "net.params").read_bytes() == (REFERENCE / "net.params").read_bytes()

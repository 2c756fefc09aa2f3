# SPDX-License-Identifier: Apache-2.0
"""Networks trained and saved by the real MXNet give its outputs here, and the other way round."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import kvtrain as mx

FOLDER = Path(__file__).resolve().parents[1] / "reference"
spec = importlib.util.spec_from_file_location("exchange", FOLDER / "exchange.py")
assert spec is not None and spec.loader is not None
exchange = importlib.util.module_from_spec(spec)
spec.loader.exec_module(exchange)
FILES = FOLDER / "exchange"


def outputs(file: str, name: str) -> np.ndarray:
    net = exchange.NETS[name](mx.gluon)
    net.load_parameters(str(FILES / file))
    return net(mx.nd.array(exchange.batch(name, 99)[0])).asnumpy()


@pytest.mark.parametrize("name", exchange.NETS)
def test_mxnets_file_gives_mxnets_outputs(name: str) -> None:
    expected = np.load(FILES / "mxnet_own.npz")[name]
    np.testing.assert_allclose(outputs(f"mxnet_{name}.params", name), expected, rtol=0, atol=1e-5)
    labels = exchange.batch(name, 99)[1]
    assert (expected.argmax(axis=1) == labels).mean() > 0.8  # it has learned something


@pytest.mark.parametrize("name", exchange.NETS)
def test_mxnet_reads_our_file_and_gives_our_outputs(name: str) -> None:
    ours = outputs(f"kvtrain_{name}.params", name)
    np.testing.assert_allclose(np.load(FILES / "kvtrain_peer.npz")[name], ours, rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.load(FILES / "kvtrain_own.npz")[name], ours, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", exchange.NETS)
def test_the_same_training_ends_at_the_same_values(name: str) -> None:
    theirs = mx.nd.load(str(FILES / f"mxnet_{name}.params"))
    net = exchange.train(mx, name)
    for key, parameter in net._collect_params_with_prefix().items():
        np.testing.assert_allclose(
            parameter.data().asnumpy(), theirs[key].asnumpy(), rtol=1e-2, atol=2e-3, err_msg=key
        )
    file = f"kvtrain_{name}.params"
    assert mx.nd.load(str(FILES / file)).keys() == theirs.keys()

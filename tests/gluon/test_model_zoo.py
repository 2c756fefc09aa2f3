# SPDX-License-Identifier: Apache-2.0
"""Networks of the model zoo have the names, structure and outputs of the real MXNet 1.9.1's."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import kvtrain as mx
from kvtrain import gluon, nd

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
sys.path.insert(0, str(REFERENCE))
import models  # noqa: E402

sys.path.remove(str(REFERENCE))
KNOWN = json.loads((REFERENCE / "models.json").read_text())


@pytest.mark.parametrize("name", KNOWN)
def test_structure(name: str) -> None:
    with gluon.Block(prefix="zoo_").name_scope():
        net = gluon.model_zoo.vision.get_model(name, classes=7)
    expected = {k: v for k, v in KNOWN[name].items() if k != "outputs"}
    assert models.structure(net) == expected


@pytest.mark.parametrize("name", models.RUN)
def test_outputs(name: str) -> None:
    for got, expected in zip(models.outputs(mx, name), KNOWN[name]["outputs"], strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(got, expected, rtol=2e-3, atol=1e-5 * scale)


def test_trained_values_come_from_files(tmp_path: Path) -> None:
    zoo = gluon.model_zoo.vision
    with pytest.raises(FileNotFoundError, match="Nothing is downloaded"):
        zoo.mobilenet0_25(pretrained=True, root=tmp_path)
    net = zoo.mobilenet0_25(classes=3)
    net.initialize()
    out = net(nd.ones((1, 3, 32, 32)))
    net.save_parameters(str(tmp_path / "mobilenet0.25-9f83e440.params"))
    other = zoo.get_model("MobileNet0.25", classes=3, pretrained=True, root=tmp_path)
    np.testing.assert_array_equal(other(nd.ones((1, 3, 32, 32))).asnumpy(), out.asnumpy())
    with pytest.raises(ValueError, match="nope is not supported"):
        zoo.get_model("nope")
    with pytest.raises(ValueError, match="number of layers: 19"):
        zoo.get_resnet(1, 19)

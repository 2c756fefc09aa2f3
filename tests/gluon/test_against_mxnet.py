# SPDX-License-Identifier: Apache-2.0
"""Every layer, cell and loss gives the numbers, names and ``repr`` of the real MXNet 1.9.1."""

import json
from pathlib import Path

import numpy as np
import pytest

import kvtrain as mx
from tests.gluon import cases

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
VALUES = dict(np.load(REFERENCE / "layers.npz"))
TEXTS = json.loads((REFERENCE / "layers.json").read_text())


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_block(case: cases.Case) -> None:
    found = cases.run(mx, case)
    assert found.pop("text") == TEXTS[case.name]
    expected = {
        key.split("/", 1)[1]: value
        for key, value in VALUES.items()
        if key.startswith(case.name + "/")
    }
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        # initial weights are equal to the bit; running statistics were computed
        exact = key.startswith("data_") and "running" not in key
        np.testing.assert_allclose(
            found[key], value, rtol=0 if exact else 2e-5, atol=0 if exact else 2e-6, err_msg=key
        )
        assert found[key].dtype == value.dtype, key

# SPDX-License-Identifier: Apache-2.0
"""Outputs and gradients equal those of the real MXNet 1.9.1; see tests/reference/rows."""

import importlib
import pkgutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtrain as mx
from tests.reference import rows
from tests.reference.rows.base import Row, run, unpack

FOLDER = Path(rows.__file__).parents[1]
KINDS = [m.name for m in pkgutil.iter_modules(rows.__path__) if m.name != "base"]


def pairs() -> list[Any]:
    found = []
    for kind in KINDS:
        module = importlib.import_module(f"tests.reference.rows.{kind}")
        with np.load(FOLDER / f"ops_{kind}.npz") as held:
            answers = unpack(held)
        assert len(answers) == len(module.ROWS), f"run tests/reference/generate_ops.py {kind}"
        for n, (row, answer) in enumerate(zip(module.ROWS, answers, strict=True)):
            found.append(pytest.param(row, answer, id=f"{kind}-{row.name}-{n}"))
    return found


@pytest.mark.parametrize(("row", "answer"), pairs())
def test_as_mxnet(row: Row, answer: dict[str, Any]) -> None:
    if answer.get("raises") == "MXNet crashes":
        return
    mine = run(mx, row)
    if "raises" in answer:
        assert "raises" in mine, f"MXNet raises {answer['raises']!r}, here {mine}"
        return
    assert "raises" not in mine, mine
    assert mine.keys() == answer.keys()
    for name, expected in answer.items():
        got = mine[name]
        assert (got.shape, got.dtype) == (expected.shape, expected.dtype), name
        np.testing.assert_allclose(got, expected, rtol=row.rtol, atol=row.atol, err_msg=name)

# SPDX-License-Identifier: Apache-2.0
"""Operators on sparse arrays and sparse gradients: storage, shape, type and values of MXNet."""

import json
from pathlib import Path

import numpy as np
import pytest

import kvtrain as mx
from tests.reference import sparse_cases

ANSWERS = json.loads((Path(sparse_cases.__file__).with_name("sparse.json")).read_text())
NAMES = {
    "mx": mx,
    "np": np,
    "nd": mx.nd,
    "sparse": mx.nd.sparse,
    "autograd": mx.autograd,
}


def test_the_answers_are_those_of_the_programs() -> None:
    assert list(ANSWERS) == list(dict.fromkeys(sparse_cases.programs()))


@pytest.mark.parametrize("program", ANSWERS)
def test_program(program: str) -> None:
    got = sparse_cases.run(program, NAMES)
    assert len(got) == len(ANSWERS[program])
    for mine, theirs in zip(got, ANSWERS[program], strict=True):
        for name in ("stype", "shape", "dtype"):
            assert mine[name] == theirs[name], name
        assert mine.get("rows") == theirs.get("rows")
        values, wanted = (np.array(x["values"], float) for x in (mine, theirs))
        np.testing.assert_allclose(values, wanted, rtol=2e-6, atol=1e-7)

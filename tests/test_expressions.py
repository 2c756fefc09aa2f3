# SPDX-License-Identifier: Apache-2.0
"""Expressions give what the real MXNet gave for them; what it refuses is one clear error here."""

from __future__ import annotations

import json

import pytest

import kvtrain as mx
from tests.reference.expressions import FOLDER, World, difference, kinds, lines


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.filterwarnings("ignore")
def test_as_mxnet(kind: str) -> None:
    kept = json.loads((FOLDER / f"{kind}.json").read_text())
    asked = list(lines(kind))
    assert asked == list(kept), "run tests/reference/generate_expressions.py"
    world = World(mx)
    found = {line: difference(world.answer(line), kept[line]) for line in asked}
    wrong = [f"{line}\n    {text}" for line, text in found.items() if text]
    assert not wrong, "\n".join(wrong)

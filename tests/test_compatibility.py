# SPDX-License-Identifier: Apache-2.0
"""The page on compatibility with MXNet says what is so."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
REFERENCE = Path(__file__).resolve().parent / "reference"


@pytest.fixture(scope="module")
def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate_compatibility.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_generator_writes() -> None:
    # in a process of its own: which submodules others have imported must not count
    command = [sys.executable, str(DOCS / "generate_compatibility.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, f"run `python docs/generate_compatibility.py`\n{done.stdout}"


def test_every_name_of_the_peer_has_a_state_and_a_reason(generator: Any) -> None:
    for space, held in generator.rows().items():
        for name, _, state, why in held:
            assert state in generator.STATES[:-1], f"{space}.{name} is missing"
            assert why or state == "works", f"{space}.{name}: {state}, but why?"


def test_what_real_code_calls_is_there(generator: Any) -> None:
    here, absent = generator.surface()
    assert len(here) >= 0.95 * (len(here) + len(absent)), absent


#: parameters whose defaults are written in another way and mean the same, by pattern of names
SAME = {
    "gluon.nn.*": {"layout", "strides", "padding", "dilation", "output_padding", "pool_size"},
    "gluon.contrib.rnn.*": {"i2h_pad", "i2h_dilate", "h2h_dilate", "conv_layout"},
    "gluon.data.vision.*": {"root"},
    "test_utils.get_?tol": {"dtype"},
    "kv.KVStore": {"handle"},  # made by kv.create
}


def test_signatures_are_mxnets(generator: Any) -> None:
    facts = json.loads((REFERENCE / "mxnet_names.json").read_text())["signatures"]
    wrong = []
    for name, parameters in facts.items():
        if generator.exists(name):
            wrong += [f"{name}: {text}" for text in differences(name, parameters, generator)]
    assert not wrong, "\n".join(wrong)


def differences(name: str, parameters: list[list[Any]], generator: Any) -> Iterator[str]:
    """What calls by MXNet's signature would notice."""
    found = generator.resolve(name)
    try:
        mine = inspect.signature(found).parameters
    except (TypeError, ValueError):
        return
    loose = any(p.kind is p.VAR_KEYWORD for p in mine.values())
    same = {p for pattern, held in SAME.items() if fnmatchcase(name, pattern) for p in held}
    shared = [p for p, _ in parameters if p in mine]
    if [p for p in mine if p in shared] != shared:
        yield f"the order is {list(mine)}, MXNet's {[p for p, _ in parameters]}"
    for parameter, default in parameters:
        if parameter not in mine:
            if not loose and parameter not in same:
                yield f"{parameter} is missing"
        elif default is not None and parameter not in same:
            ours = mine[parameter].default
            theirs = float(default) if default in ("inf", "nan") else ast.literal_eval(default)
            if ours is inspect.Parameter.empty or ours != theirs:
                yield f"{parameter}={ours!r}, MXNet's default is {default}"

# SPDX-License-Identifier: Apache-2.0
"""The page on compatibility with MXNet says what is so."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture(scope="module")
def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate_compatibility.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_lists_every_name_and_what_it_says_works_is_there(generator: Any) -> None:
    page = (DOCS / "mxnet-compatibility.md").read_text()
    written = {}
    for section in page.split("\n## mx")[1:]:
        space = section.split("\n", 1)[0].lstrip(".")
        for name, state in re.findall(r"^\| `(\w+)` \| \w+ \| ([\w, ]+) \|", section, re.M):
            written[f"{space}.{name}" if space else name] = state
    names = [
        f"{space}.{row[0]}".lstrip(".") for space, held in generator.rows().items() for row in held
    ]
    assert sorted(written) == sorted(names)
    gone = [n for n, s in written.items() if s.startswith("works") and not generator.exists(n)]
    assert not gone

# SPDX-License-Identifier: Apache-2.0
"""Every example is under 100 lines and runs in one process; jobs: tests/integration."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
#: example, arguments, what it must print
CASES = [
    ("autograd_two_layers.py", [], "[-0.03640365 -0.06552657]"),
    ("kvstore_basics.py", [], "with an updater:"),
    ("train_async.py", ["--epochs", "1"], "epoch  1: loss"),
    ("train_digits.py", ["--epochs", "1"], "held-out accuracy"),
]


@pytest.mark.parametrize(("name", "arguments", "printed"), CASES, ids=[c[0] for c in CASES])
def test_example(name: str, arguments: list[str], printed: str) -> None:
    command = [sys.executable, str(ROOT / "examples" / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert printed in done.stdout


def test_every_example_has_a_row_and_is_short() -> None:
    files = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert files == {case[0] for case in CASES}
    for path in (ROOT / "examples").glob("*.py"):
        assert len(path.read_text().splitlines()) < 100, path.name

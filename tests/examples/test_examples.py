# SPDX-License-Identifier: Apache-2.0
"""Every example is under 100 lines and runs in one process; jobs: tests/integration."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
#: example, arguments, what it must print
CASES = [
    ("autograd_two_layers.py", [], "[-0.03640365 -0.06552657]"),
    ("kvstore_basics.py", [], "with an updater:"),
    ("elastic_digits.py", ["--steps", "20", "--progress", "10"], "held-out accuracy"),
    ("train_async.py", ["--epochs", "1"], "epoch  1: loss"),
    ("train_digits.py", ["--epochs", "1"], "held-out accuracy"),
]


@pytest.mark.parametrize(("name", "arguments", "printed"), CASES, ids=[c[0] for c in CASES])
def test_example(name: str, arguments: list[str], printed: str) -> None:
    command = [sys.executable, str(ROOT / "examples" / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert printed in done.stdout


#: example, arguments, pattern of the figure that it prints, least and most that it may be
PROGRAMS = [
    ("linear_regression.py", [], r"from scratch: .* ([\d.]+)", 0, 0.02),
    ("linear_regression.py", [], r"with gluon: .* ([\d.]+)", 0, 0.02),
    ("softmax_regression.py", [], r"accuracy ([\d.]+)", 0.92, 1),
    ("lenet.py", ["--net", "mlp"], r"held-out accuracy ([\d.]+)", 0.9, 1),
    ("lenet.py", ["--net", "lenet"], r"held-out accuracy ([\d.]+)", 0.9, 1),
    ("resnet.py", [], r"held-out accuracy ([\d.]+)", 0.7, 1),
    ("rnn_language_model.py", ["--epochs", "3"], r"epoch 3: perplexity ([\d.]+)", 1, 11),
    ("matrix_factorization.py", [], r"held-out error ([\d.]+)", 0.05, 0.2),
    ("custom_layers.py", [], r"exact answers ([\d.]+)", 0.9, 1),
    ("multi_device.py", [], r"held-out accuracy ([\d.]+)", 0.92, 1),
    ("multi_device.py", ["--update-on-kvstore"], r"held-out accuracy ([\d.]+)", 0.92, 1),
    ("gan.py", [], r"distance of the means ([\d.]+)", 0, 0.6),
]


@pytest.mark.parametrize(("name", "arguments", "pattern", "least", "most"), PROGRAMS)
def test_program_converges(
    name: str,
    arguments: list[str],
    pattern: str,
    least: float,
    most: float,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    printed = capsys.readouterr().out
    found = re.search(pattern, printed)
    assert found, printed
    assert least <= float(found[1]) <= most, printed
    if name == "multi_device.py":
        assert "equal on all devices: True" in printed
    if name == "matrix_factorization.py":
        assert "(row_sparse)" in printed


def test_every_example_has_a_row_and_is_short() -> None:
    files = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert files == {case[0] for case in [*CASES, *PROGRAMS]}
    for path in (ROOT / "examples").glob("*.py"):
        assert len(path.read_text().splitlines()) < 100, path.name

# SPDX-License-Identifier: Apache-2.0
"""The example programs converge on two workers, too, and the workers agree."""

import re
from pathlib import Path

import pytest

from tests.integration import jobs

pytestmark = pytest.mark.integration
#: example, arguments, pattern of a figure, its most and least, whether all print the same one
PROGRAMS = [
    ("linear_regression.py", [], r"with gluon: .* ([\d.]+)", 0, 0.02, True),
    ("lenet.py", ["--epochs", "4"], r"held-out accuracy ([\d.]+)", 0.85, 1, True),
    ("resnet.py", [], r"held-out accuracy ([\d.]+)", 0.7, 1, False),
    ("rnn_language_model.py", ["--epochs", "3"], r"epoch 3: perplexity ([\d.]+)", 1, 11, False),
    ("matrix_factorization.py", [], r"held-out error ([\d.]+)", 0.05, 0.4, True),
    ("gan.py", [], r"distance of the means ([\d.]+)", 0, 0.6, True),
]


@pytest.mark.parametrize(
    ("name", "arguments", "pattern", "least", "most", "same"), PROGRAMS, ids=lambda v: str(v)[:24]
)
def test_program_on_two_workers(
    run_base: Path,
    name: str,
    arguments: list[str],
    pattern: str,
    least: float,
    most: float,
    same: bool,
) -> None:
    script = str(jobs.ROOT / "examples" / name)
    result = jobs.launch(run_base, "-n", "2", script, *arguments, timeout=110)
    assert result.code == 0, result.out + result.err
    figures = []
    for worker in ("worker-0", "worker-1"):
        found = re.search(pattern, "\n".join(result.lines(worker)))
        assert found, result.out
        figures.append(float(found[1]))
        assert least <= figures[-1] <= most, result.out
    assert not same or figures[0] == figures[1]
    assert not jobs.left_over(run_base)

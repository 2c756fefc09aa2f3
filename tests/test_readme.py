# SPDX-License-Identifier: Apache-2.0
"""What README says: its script runs, its paths and commands exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SCRIPT = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]


def test_the_script_finds_the_weights(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    numbers = [float(n) for n in re.findall(r"-?\d+\.\d*", done.stdout)]
    assert numbers == pytest.approx([2.0, -3.4, 1.0, 0.5, 4.2], abs=0.05)


@pytest.mark.integration
def test_the_script_in_a_job(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "kvtrain", "launch", "-n", "4", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(re.findall(r"worker-\d +\| weights", done.stdout)) == 4


def test_paths_exist() -> None:
    folders = "docs|kvtrain|launcher|configs|examples|tests|benchmarks"
    names = re.findall(rf"`((?:{folders})/[\w./]*)`", README)
    assert len(names) >= 6
    for name in names:
        assert (ROOT / name).exists(), name


def test_commands_exist() -> None:
    from launcher.cli import cli

    shown = re.findall(r"^kvtrain ([a-z]+(?:(?: JOB)? ?\| ?[a-z]+)*)", README, re.MULTILINE)
    named = {name for group in shown for name in re.findall(r"[a-z]+", group)}
    assert len(named) >= 8
    assert named <= set(cli.commands)

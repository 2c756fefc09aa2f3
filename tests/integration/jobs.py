# SPDX-License-Identifier: Apache-2.0
"""Starts real jobs for tests, and looks for what they leave behind."""

import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Result:
    code: int
    out: str
    err: str

    def lines(self, label: str) -> list[str]:
        """What a process wrote to standard output."""
        prefix = f"{label:<9} | "
        return [x[len(prefix) :] for x in self.out.splitlines() if x.startswith(prefix)]


def environment(base: Path, **more: str) -> dict[str, str]:
    """The test's own environment with one thread per process and an own run directory."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("KVTRAIN_", "DMLC_"))}
    threads = {k: "1" for k in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    return {**kept, **threads, "XDG_RUNTIME_DIR": str(base), **more}


def write(tmp_path: Path, text: str, name: str = "script.py") -> str:
    """A script in the test's directory."""
    path = tmp_path / name
    path.write_text("import kvtrain as mx\nfrom kvtrain import nd\n" + textwrap.dedent(text))
    return str(path)


def launch(base: Path, *arguments: str, timeout: float = 60, **env: str) -> Result:
    """Run ``kvtrain launch`` to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "kvtrain", "launch", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(base, **env),
        cwd=ROOT,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def left_over(base: Path) -> list[str]:
    """Run directories, and processes that were started with this base."""
    found = [str(p) for p in base.rglob("*")]
    needle = f"XDG_RUNTIME_DIR={base}".encode()
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or process.name == str(os.getpid()):
            continue
        try:
            if needle in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found

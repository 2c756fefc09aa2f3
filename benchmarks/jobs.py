# SPDX-License-Identifier: Apache-2.0
"""Runs a benchmark's script as the workers of a job and collects what they report."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

MARK = "RESULT "


def report(**values: object) -> None:
    """In a worker: hand figures to the process that started the job."""
    print(MARK + json.dumps(values), flush=True)


def run(script: str, arguments: list[str], workers: int, servers: int, *options: str, **env: str):
    """Start ``script arguments`` on `workers` workers; reports by rank."""
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    command = [sys.executable, "-m", "kvtrain", "launch", "-n", str(workers), "-s", str(servers)]
    done = subprocess.run(
        [*command, *options, script, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **threads, **env},
        cwd=Path(script).parent,
        check=False,
    )
    found = re.findall(rf"worker-(\d+) +\| {MARK}(.*)", done.stdout)
    if done.returncode or len(found) != workers:
        raise SystemExit(f"the job failed ({done.returncode}):\n{done.stdout}\n{done.stderr}")
    return [json.loads(text) for _, text in sorted(found, key=lambda item: int(item[0]))]


def table(heads: list[str], rows: list[list[object]]) -> None:
    """Print a Markdown table."""
    print("| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |", flush=True)

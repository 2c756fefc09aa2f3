# SPDX-License-Identifier: Apache-2.0
"""Asks the real MXNet 1.9.1 for the answers to all rows; see generate.py for its environment.

OMP_NUM_THREADS=1 peer/bin/python -m tests.reference.generate_ops [kind ...]
"""

import importlib
import multiprocessing
import pkgutil
import sys
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np

from tests.reference import rows
from tests.reference.rows.base import Row, pack, run

FOLDER = Path(__file__).parent


def apart(row: Row) -> dict[str, Any]:
    """The answer of a process of its own: some calls crash the real one."""
    ours, theirs = multiprocessing.Pipe(False)
    process = multiprocessing.get_context("fork").Process(target=lambda: theirs.send(run(mx, row)))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        return {"raises": np.array("MXNet crashes")}
    finally:
        process.join()


if __name__ == "__main__":
    known = [m.name for m in pkgutil.iter_modules(rows.__path__) if m.name != "base"]
    for kind in sys.argv[1:] or known:
        module = importlib.import_module(f"tests.reference.rows.{kind}")
        answers = [apart(row) for row in module.ROWS]
        np.savez_compressed(FOLDER / f"ops_{kind}.npz", **pack(answers))
        for row, answer in zip(module.ROWS, answers, strict=True):
            if "raises" in answer:
                sys.stdout.write(f"{kind} {row.name} {row.attrs} raises {answer['raises']}\n")

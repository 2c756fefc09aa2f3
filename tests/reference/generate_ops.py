# SPDX-License-Identifier: Apache-2.0
"""Asks the real MXNet 1.9.1 for the answers to all rows; see generate.py for its environment.

OMP_NUM_THREADS=1 peer/bin/python -m tests.reference.generate_ops [kind ...]
"""

import importlib
import pkgutil
import sys
from pathlib import Path

import mxnet as mx
import numpy as np

from tests.reference import rows
from tests.reference.rows.base import pack, run

FOLDER = Path(__file__).parent

if __name__ == "__main__":
    known = [m.name for m in pkgutil.iter_modules(rows.__path__) if m.name != "base"]
    for kind in sys.argv[1:] or known:
        module = importlib.import_module(f"tests.reference.rows.{kind}")
        answers = [run(mx, row) for row in module.ROWS]
        np.savez_compressed(FOLDER / f"ops_{kind}.npz", **pack(answers))
        for row, answer in zip(module.ROWS, answers, strict=True):
            if "raises" in answer:
                sys.stdout.write(f"{kind} {row.name} {row.attrs} raises {answer['raises']}\n")

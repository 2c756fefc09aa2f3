# SPDX-License-Identifier: Apache-2.0
"""Seeded generators, and nothing left behind: no thread, process or run directory."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import kvtrain as mx

# bits depend on the number of BLAS threads; children inherit it
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seeds", type=int, default=1000, help="seeds of the simulation")


@pytest.fixture(autouse=True)
def seeded() -> None:
    np.random.seed(0)
    mx.random.seed(0)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=5)
    left = [t.name for t in set(threading.enumerate()) - before if t.is_alive()]
    assert not left, f"threads left behind: {left}"


@pytest.fixture
def run_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own place for run directories, short enough for sockets."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="kt", dir="/tmp") as short:
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        yield Path(short)

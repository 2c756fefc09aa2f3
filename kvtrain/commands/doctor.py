# SPDX-License-Identifier: Apache-2.0
"""``kvtrain doctor``: what this installation and machine can do."""

from __future__ import annotations

import platform as python_platform
import sys

import msgpack
import numpy as np
import zmq

from kvtrain import __version__, platform
from kvtrain.config import run_base
from kvtrain.kernels import BACKENDS, identity, problems


def lines() -> list[str]:
    """The report."""
    return [
        f"kvtrain   {__version__}",
        f"python    {python_platform.python_version()} ({sys.executable})",
        f"numpy     {np.__version__}",
        f"pyzmq     {zmq.pyzmq_version()} (libzmq {zmq.zmq_version()}, ipc: "
        f"{'yes' if zmq.has('ipc') else 'no'})",
        f"msgpack   {'.'.join(map(str, msgpack.version))}",
        f"kernels   {', then '.join(BACKENDS)} (identity {identity()})",
        *(f"          not {name}: {reason}" for name, reason in problems.items()),
        f"machine   {python_platform.system()} {python_platform.machine()}, "
        f"{platform.cores()} cores",
        f"run dirs  {run_base()}",
    ]


def main() -> None:
    """Print the report."""
    sys.stdout.write("\n".join(lines()) + "\n")

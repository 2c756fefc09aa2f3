# SPDX-License-Identifier: Apache-2.0
"""Chooses the arithmetic behind operators and servers.

One folder per backend with the same function names and signatures; ``numpy`` is always there
and complete. ``xp`` is what operators are given: NumPy's names plus the kernel functions of
the chosen backend. ``KVTRAIN_BACKEND`` forces one.
"""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import numpy as np

from kvtrain.config import Config
from kvtrain.errors import ConfigError

#: fastest first; a function that a backend lacks falls to the next
BACKENDS = ("numpy",)


def _choose(forced: str | None) -> str:
    if forced is None:
        return BACKENDS[0]
    if forced not in BACKENDS:
        known = ", ".join(BACKENDS)
        raise ConfigError(f"KVTRAIN_BACKEND={forced!r}: this installation has {known}")
    return forced


def _namespace(name: str) -> Any:
    names = {n: getattr(np, n) for n in np.__all__ if not n.startswith("_")}
    for fallback in reversed(BACKENDS[BACKENDS.index(name) :]):
        module = importlib.import_module(f"kvtrain.kernels.{fallback}")
        names.update({n: getattr(module, n) for n in module.__all__})
    # built on the kernels of the folders, so it comes after them
    stored = importlib.import_module("kvtrain.kernels.stored")
    names["cast_storage"] = stored.cast_storage
    return SimpleNamespace(**names)


_NAME = _choose(Config.from_environ().backend)
xp: Any = _namespace(_NAME)


def backend() -> str:
    """Name of the backend in use."""
    return _NAME


def identity() -> str:
    """Backend and version: servers of equal identity give equal bits (PROTOCOL R8)."""
    return f"{_NAME}-{np.__version__}"

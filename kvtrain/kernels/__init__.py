# SPDX-License-Identifier: Apache-2.0
"""Chooses the arithmetic behind operators and servers.

One folder per backend with the same function names and signatures; ``numpy`` is always there
and complete. ``xp`` is what operators are given: NumPy's names plus the kernel functions of
the chosen backend. ``KVTRAIN_BACKEND`` forces one.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import SimpleNamespace
from typing import Any

import numpy as np

from kvtrain.config import Config
from kvtrain.errors import ConfigError

#: what a backend needs beyond NumPy; fastest first
_NEEDS = {"numba": "numba", "numpy": None}
#: why a backend that is installed cannot be used
problems: dict[str, str] = {}


def _usable(name: str) -> bool:
    """Whether what the backend needs is installed and can be imported."""
    needed = _NEEDS[name]
    if needed is None:
        return True
    if importlib.util.find_spec(needed) is None:
        problems[name] = f"{needed} is not installed; pip install 'kvtrain[fast]'"
        return False
    try:
        importlib.import_module(needed)
    except Exception as error:  # it may lag behind the installed NumPy or Python
        problems[name] = f"{needed} cannot be imported: {error}"
        return False
    return True


def _choose(forced: str | None) -> tuple[str, ...]:
    """Backends to look in, one after another."""
    names = tuple(_NEEDS)
    if forced is not None and forced not in names:
        raise ConfigError(f"KVTRAIN_BACKEND={forced!r}; known: {', '.join(names)}")
    if forced is not None:
        if not _usable(forced):
            raise ConfigError(f"KVTRAIN_BACKEND={forced!r}: {problems[forced]}")
        return names[names.index(forced) :]
    return tuple(name for name in names if _usable(name))


def _namespace() -> Any:
    # only what is there: asking NumPy for its other parts (testing, f2py, ...) imports them
    there, known = vars(np), set(np.__all__)
    names = {n: v for n, v in there.items() if n in known and not n.startswith("_")}
    for fallback in reversed(BACKENDS):
        module = importlib.import_module(f"kvtrain.kernels.{fallback}")
        names.update({n: getattr(module, n) for n in module.__all__})
    # built on the kernels of the folders, so it comes after them
    stored = importlib.import_module("kvtrain.kernels.stored")
    names["cast_storage"] = stored.cast_storage
    return SimpleNamespace(**names)


#: the chosen one first; a function that it lacks falls to the next
BACKENDS = _choose(Config.from_environ().backend)
_NAME = BACKENDS[0]
xp: Any = _namespace()


def backend() -> str:
    """Name of the backend in use."""
    return _NAME


def identity() -> str:
    """Backend and version: servers of equal identity give equal bits (PROTOCOL R8)."""
    needed = _NEEDS[_NAME]
    more = "" if needed is None else f"-{importlib.import_module(needed).__version__}"
    return f"{_NAME}{more}-{np.__version__}"

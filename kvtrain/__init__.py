# SPDX-License-Identifier: Apache-2.0
"""kvtrain: the parameter server for Python, with MXNet's Gluon API.

``import kvtrain as mx`` runs Gluon code. Sub-packages are loaded on first use, so that the
command line starts without NumPy.
"""

from __future__ import annotations

import importlib
from typing import Any

from kvtrain._version import __version__
from kvtrain.config import foreign_role, is_command

#: public name -> (module, attribute or None for the module itself)
_LAZY: dict[str, tuple[str, str | None]] = {
    "nd": ("kvtrain.ndarray", None),
    "ndarray": ("kvtrain.ndarray", None),
    "autograd": ("kvtrain.autograd", None),
    "gluon": ("kvtrain.gluon", None),
    "kv": ("kvtrain.kvstore", None),
    "kvstore": ("kvtrain.kvstore", None),
    "operator": ("kvtrain.operator", None),
    "optimizer": ("kvtrain.optimizer", None),
    "image": ("kvtrain.image", None),
    "img": ("kvtrain.image", None),
    "init": ("kvtrain.initializer", None),
    "initializer": ("kvtrain.initializer", None),
    "lr_scheduler": ("kvtrain.lr_scheduler", None),
    "metric": ("kvtrain.metric", None),
    "random": ("kvtrain.random", None),
    "rnd": ("kvtrain.random", None),
    "recordio": ("kvtrain.recordio", None),
    "registry": ("kvtrain.registry", None),
    "context": ("kvtrain.context", None),
    "errors": ("kvtrain.errors", None),
    "testing": ("kvtrain.testing", None),
    "attribute": ("kvtrain.attribute", None),
    "AttrScope": ("kvtrain.attribute", "AttrScope"),
    "base": ("kvtrain.base", None),
    "callback": ("kvtrain.callback", None),
    "contrib": ("kvtrain.contrib", None),
    "engine": ("kvtrain.engine", None),
    "is_np_array": ("kvtrain.util", "is_np_array"),
    "is_np_shape": ("kvtrain.util", "is_np_shape"),
    "model": ("kvtrain.model", None),
    "mon": ("kvtrain.monitor", None),
    "monitor": ("kvtrain.monitor", None),
    "name": ("kvtrain.name", None),
    "np_shape": ("kvtrain.util", "np_shape"),
    "runtime": ("kvtrain.runtime", None),
    "set_np_shape": ("kvtrain.util", "set_np_shape"),
    "test_utils": ("kvtrain.test_utils", None),
    "use_np_shape": ("kvtrain.util", "use_np_shape"),
    "util": ("kvtrain.util", None),
    "Context": ("kvtrain.context", "Context"),
    "cpu": ("kvtrain.context", "cpu"),
    "cpu_pinned": ("kvtrain.context", "cpu_pinned"),
    "gpu": ("kvtrain.context", "gpu"),
    "num_gpus": ("kvtrain.context", "num_gpus"),
    "current_context": ("kvtrain.context", "current_context"),
    "KVTrainError": ("kvtrain.errors", "KVTrainError"),
    "MXNetError": ("kvtrain.errors", "MXNetError"),
    "install_as_mxnet": ("kvtrain.alias", "install"),
    "launched": ("kvtrain.config", "launched"),
    "on_terminal": ("kvtrain.config", "on_terminal"),
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    try:
        module, attribute = _LAZY[name]
    except KeyError:
        raise AttributeError(f"module 'kvtrain' has no attribute {name!r}") from None
    found: Any = importlib.import_module(module)
    if attribute is not None:
        found = getattr(found, attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])


def _become_a_role() -> None:
    """MXNet's own launchers start schedulers and servers by the user's script."""
    if not is_command() and foreign_role() is not None:
        importlib.import_module("kvtrain.commands.foreign").become()


_become_a_role()

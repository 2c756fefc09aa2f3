# SPDX-License-Identifier: Apache-2.0
"""``import mxnet`` in other people's modules: a module of that name that is kvtrain.

Nothing happens unless it is asked for: :func:`install`, which is ``kvtrain.install_as_mxnet``,
or ``kvtrain run --as-mxnet script.py``.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from kvtrain.errors import ConfigError

#: version of the interface
VERSION = "1.9.1"
#: modules of MXNet whose names are found in others here
_ELSEWHERE = {
    "kvstore.kvstore": "kvstore",
    "ndarray.ndarray": "ndarray",
    "ndarray.op": "ndarray",
    "optimizer.optimizer": "optimizer",
}


class _Alias(ModuleType):
    """The module ``mxnet``: everything is looked up in kvtrain when it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module 'mxnet' has no attribute {name!r}")
        try:
            return getattr(sys.modules["kvtrain"], name)
        except AttributeError:
            raise AttributeError(
                f"module 'mxnet' has no attribute {name!r}: kvtrain stands in for it, and has no "
                "such name; docs/mxnet-compatibility.md lists what there is"
            ) from None

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(sys.modules["kvtrain"])})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds ``mxnet.gluon.nn`` as ``kvtrain.gluon.nn``: the same module under two names."""

    def __init__(self) -> None:
        #: what importing writes into parent modules: (parent, name, what was there)
        self.written: list[tuple[ModuleType, str, Any]] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith("mxnet."):
            return None
        module = _module(fullname.removeprefix("mxnet."))
        if module is None:
            raise ModuleNotFoundError(
                f"No module named {fullname!r}: kvtrain stands in for mxnet and has no such module",
                name=fullname,
            )
        above, _, name = fullname.rpartition(".")
        self.written.append((sys.modules[above], name, vars(sys.modules[above]).get(name)))
        spec = importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        spec.loader_state = (module, module.__spec__)
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module: ModuleType = spec.loader_state[0]
        return module

    def exec_module(self, module: ModuleType) -> None:
        # importing has put the spec of the other name there
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state[1]


def _module(name: str) -> ModuleType | None:
    """The module of kvtrain that stands for ``mxnet.<name>``."""
    found: ModuleType = sys.modules["kvtrain"]
    for part in _ELSEWHERE.get(name, name).split("."):
        here = found.__name__
        inner = getattr(found, part, None)
        if inner is None:
            try:
                inner = importlib.import_module(f"{here}.{part}")
            except ModuleNotFoundError:
                return None
        if not isinstance(inner, ModuleType):
            return None
        found = inner
    return found


def install() -> ModuleType:
    """Make ``import mxnet`` in this process give kvtrain; returns the module.

    ``import mxnet as mx``, ``from mxnet import gluon, nd`` and imports of submodules work, in
    modules of other people too. ``mxnet.__version__`` is 1.9.1, the version whose interface is
    meant. A second call changes nothing.

    Raises
    ------
    ConfigError
        The real mxnet is imported already.
    """
    held = sys.modules.get("mxnet")
    if isinstance(held, _Alias):
        return held
    if held is not None:
        raise ConfigError(
            "install_as_mxnet: another mxnet is imported already, from "
            f"{getattr(held, '__file__', 'an unknown place')}; call it before the first import"
        )
    module = _Alias("mxnet", "kvtrain under MXNet's name.")
    module.__path__ = []
    vars(module)["__version__"] = VERSION
    spec = importlib.machinery.ModuleSpec("mxnet", None, is_package=True)
    module.__spec__ = spec
    sys.modules["mxnet"] = module
    sys.meta_path.insert(0, _Finder())
    return module


def uninstall() -> None:
    """Take the module ``mxnet`` and its parts away again."""
    if not isinstance(sys.modules.get("mxnet"), _Alias):
        return
    for name in [n for n in sys.modules if n == "mxnet" or n.startswith("mxnet.")]:
        del sys.modules[name]
    for finder in [f for f in sys.meta_path if isinstance(f, _Finder)]:
        sys.meta_path.remove(finder)
        for module, name, before in reversed(finder.written):
            if before is None:
                vars(module).pop(name, None)
            else:
                setattr(module, name, before)

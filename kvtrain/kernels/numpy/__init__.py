# SPDX-License-Identifier: Apache-2.0
"""The NumPy backend: always there, complete. Every public function of its modules is a kernel."""

import importlib
import pkgutil

from kvtrain.kernels.stored import cast_storage

__all__: list[str] = ["cast_storage"]
for _found in pkgutil.iter_modules(__path__):
    _module = importlib.import_module(f"{__name__}.{_found.name}")
    for _name, _value in vars(_module).items():
        if callable(_value) and getattr(_value, "__module__", "") == _module.__name__:
            if not _name.startswith("_"):
                globals()[_name] = _value
                __all__.append(_name)

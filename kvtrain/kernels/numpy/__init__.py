# SPDX-License-Identifier: Apache-2.0
"""The NumPy backend: always there, complete.

Every public function of its modules is a kernel, but for names that NumPy has (a kernel never
changes what NumPy's own functions mean).
"""

import importlib
import pkgutil

import numpy as np

__all__: list[str] = []
for _found in pkgutil.iter_modules(__path__):
    _module = importlib.import_module(f"{__name__}.{_found.name}")
    for _name, _value in vars(_module).items():
        own = callable(_value) and getattr(_value, "__module__", "") == _module.__name__
        if own and not _name.startswith("_") and not hasattr(np, _name):
            globals()[_name] = _value
            __all__.append(_name)

# SPDX-License-Identifier: Apache-2.0
"""The numba backend: loops that NumPy can only write as several passes over memory.

Each function has the name and signature of its NumPy twin, calls it for arrays that it does
not take (small, strided, of another type), and is compared with it by a test. Loops are
compiled at their first call and kept on disk. Without fast-math, so that an element-wise
kernel gives its twin's bits.
"""

import importlib
import pkgutil

__all__: list[str] = []
for _found in pkgutil.iter_modules(__path__):
    _module = importlib.import_module(f"{__name__}.{_found.name}")
    for _name in _module.__all__:
        globals()[_name] = getattr(_module, _name)
        __all__.append(_name)

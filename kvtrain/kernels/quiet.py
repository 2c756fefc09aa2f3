# SPDX-License-Identifier: Apache-2.0
"""NumPy's floating-point warnings off and on again, for less than ``np.errstate`` costs.

Operators give inf and NaN where arithmetic does, without a warning, and leave the user's own
error state alone. ``np.errstate`` takes longer than a small operator does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

try:
    from numpy._core.umath import (  # type: ignore[attr-defined]
        _extobj_contextvar,
        _make_extobj,
    )
except ImportError:  # NumPy 1, or a later one that keeps it elsewhere

    def hush() -> Any:
        """No warnings until :func:`restore` gets what this returns."""
        return np.seterr(all="ignore")

    def restore(before: Any) -> None:
        """The error state as it was."""
        np.seterr(**before)

else:
    _IGNORE = _make_extobj(all="ignore")

    def hush() -> Any:
        """No warnings until :func:`restore` gets what this returns."""
        return _extobj_contextvar.set(_IGNORE)

    def restore(before: Any) -> None:
        """The error state as it was."""
        _extobj_contextvar.reset(before)

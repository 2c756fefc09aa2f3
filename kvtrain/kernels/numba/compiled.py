# SPDX-License-Identifier: Apache-2.0
"""How loops are compiled here."""

from __future__ import annotations

from typing import Any

from numba import njit

__all__: list[str] = []


def _probe() -> None:
    """Compiled by no one; numba looks for a place to keep it."""


def _can_keep() -> bool:
    """Whether compiled code can be kept on disk: the package or the home may be read-only."""
    try:
        njit(cache=True)(_probe)
    except RuntimeError:
        return False
    return True


#: division by zero gives infinity as in NumPy, which also lets loops be vectorised
_OPTIONS: dict[str, Any] = {"cache": _can_keep(), "nogil": True, "error_model": "numpy"}
loop = njit(**_OPTIONS)
#: for sums: their terms may be added in another order
summing = njit(**_OPTIONS, fastmath={"reassoc", "nsz"})

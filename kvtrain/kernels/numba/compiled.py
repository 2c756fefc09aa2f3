# SPDX-License-Identifier: Apache-2.0
"""How loops are compiled here."""

from __future__ import annotations

from numba import njit

__all__: list[str] = []
#: division by zero gives infinity as in NumPy, which also lets loops be vectorised
loop = njit(cache=True, nogil=True, error_model="numpy")
#: for sums: their terms may be added in another order
summing = njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "nsz"})

# SPDX-License-Identifier: Apache-2.0
"""Rows of products and factorisations of matrices."""

from typing import Any

import numpy as np

from tests.ops.case import Case, x


def _symmetric(a: Any) -> Any:
    """A symmetric matrix from any."""
    return a + a.transpose()


def _full(n: int) -> Any:
    return x(n, n) + 6 * np.eye(n)


CASES = [
    Case("_linalg_gemm2", [x(2, 3), x(4, 3)], {"transpose_b": True, "alpha": 1.5}),
    Case("_linalg_gemm2", [x(3, 2, 2), x(2, 2, 3)], {"axis": 0}),
    Case("_linalg_gemm", [x(2, 3), x(3, 2), x(2, 2)], {"beta": 0.5}),
    Case("_linalg_syrk", [x(2, 3)], {"transpose": True, "alpha": 2.0}),
    *[
        Case(f"_linalg_{n}", [_full(2), x(2, 2)], {"transpose": t, "rightside": t, "lower": t})
        for n in ("trmm", "trsm")
        for t in (True, False)
    ],
    Case("_linalg_potrf", [_full(3)], {}, before=_symmetric),
    Case("_linalg_potrf", [_full(2)], {"lower": False}, before=_symmetric),
    Case("_linalg_potri", [_full(3)]),
    Case("_linalg_gelqf", [x(2, 3)]),
    Case("_linalg_syevd", [x(3, 3)], {}, before=_symmetric),
    Case("_linalg_inverse", [_full(3)]),
    Case("_linalg_det", [_full(3)]),
    Case("_linalg_slogdet", [_full(3)]),
    Case("_linalg_sumlogdiag", [_full(3)]),
    Case("_linalg_extractdiag", [x(3, 3)], {"offset": 1}),
    Case("_linalg_makediag", [x(2, 2)], {"offset": -1}),
    Case("_linalg_extracttrian", [x(3, 3)], {"lower": False}),
    Case("_linalg_maketrian", [x(2, 3)], {"offset": -1}),
    Case("khatri_rao", [x(2, 3), x(1, 3), x(2, 3)]),
]

# SPDX-License-Identifier: Apache-2.0
"""Products and factorisations of matrices."""

from typing import Any

import numpy as np

from tests.reference.rows.base import Row, r, u


def spd(*shape: int) -> Any:
    """Symmetric positive definite matrices."""
    a = r(*shape, seed=5)
    return (a @ a.swapaxes(-1, -2) + 2 * np.eye(shape[-1])).astype("float32")


def low(*shape: int) -> Any:
    """Lower triangular matrices with a large diagonal."""
    return (np.tril(r(*shape, seed=6)) + 3 * np.eye(shape[-1])).astype("float32")


def full(*shape: int) -> Any:
    return (r(*shape, seed=7) + 3 * np.eye(shape[-1])).astype("float32")


def row(name: str, inputs: list[Any], attrs: Any = None, grads: Any = None, **more: Any) -> Row:
    grads = tuple(range(len(inputs))) if grads is None else grads
    return Row(f"linalg.{name}", inputs, attrs or {}, grads, rtol=2e-3, atol=2e-4, **more)


FLAGS = [
    {"transpose": t, "rightside": s, "lower": low_}
    for t in (0, 1)
    for s in (0, 1)
    for low_ in (0, 1)
]
ROWS = [
    row("gemm", [r(2, 3, 4), r(2, 4, 5, seed=2), r(2, 3, 5, seed=3)], {"alpha": 2.0, "beta": 0.5}),
    row(
        "gemm",
        [r(4, 3), r(5, 4, seed=2), r(3, 5, seed=3)],
        {"transpose_a": True, "transpose_b": True},
    ),
    row("gemm2", [r(3, 4), r(4, 5, seed=2)], {"alpha": 3.0}),
    row("gemm2", [r(2, 4, 3), r(2, 4, 5, seed=2)], {"transpose_a": True}),
    row("gemm2", [r(3, 2, 4), r(4, 2, 5, seed=2)], {"axis": 0}),
    row("gemm2", [r(2, 3, 4), r(2, 3, 5, seed=2)]),
    *[row("potrf", [spd(*s)]) for s in ((3, 3), (2, 4, 4))],
    row("potrf", [spd(3, 3)], {"lower": False}),
    row("potrf", [-spd(3, 3)]),
    *[row("potri", [low(*s)]) for s in ((3, 3), (2, 4, 4))],
    *[
        row("trmm", [low(3, 3) if f["lower"] else low(3, 3).T.copy(), r(3, 3)], {**f, "alpha": 1.5})
        for f in FLAGS
    ],
    *[
        row("trsm", [low(3, 3) if f["lower"] else low(3, 3).T.copy(), r(3, 3)], {**f, "alpha": 1.5})
        for f in FLAGS
    ],
    row("trsm", [low(2, 3, 3), r(2, 3, 4)]),
    row("trmm", [low(2, 3, 3), r(2, 3, 4)]),
    row("syrk", [r(2, 3, 4)], {"alpha": 2.0}),
    row("syrk", [r(3, 4)], {"transpose": True}),
    row("sumlogdiag", [spd(2, 3, 3)]),
    row("sumlogdiag", [spd(3, 3)]),
    *[row("gelqf", [r(*s)]) for s in ((3, 3), (2, 3, 5))],
    *[row("syevd", [spd(*s)]) for s in ((3, 3), (2, 4, 4))],
    row("inverse", [full(2, 3, 3)]),
    row("det", [full(2, 3, 3)]),
    row("det", [full(3, 3)]),
    row("slogdet", [full(2, 3, 3)], heads=(1,)),
    row("slogdet", [full(3, 3)], heads=(1,)),
    *[row("makediag", [r(2, 3)], {"offset": k}) for k in (0, 1, -2)],
    *[row("extractdiag", [r(2, 4, 4)], {"offset": k}) for k in (0, 1, -2)],
    *[
        row("extracttrian", [r(2, 4, 4)], {"offset": k, "lower": lower})
        for k in (0, 1, -1)
        for lower in (True, False)
    ],
    *[
        row("maketrian", [r(2, 6)], {"offset": k, "lower": lower})
        for k in (0, 1, -1)
        for lower in (True, False)
    ],
    Row("khatri_rao", [r(2, 3), r(4, 3, seed=2)], {}),
    Row("khatri_rao", [r(2, 3), r(4, 3, seed=2), r(2, 3, seed=3)], {}),
    *[
        Row("dot", [a, b], attrs, (0, 1))
        for a, b, attrs in (
            (r(3, 4), r(4, 5, seed=2), {}),
            (r(4), r(4, seed=2), {}),
            (r(4, 3), r(5, 4, seed=2), {"transpose_a": True, "transpose_b": True}),
            (r(2, 3, 4), r(4, 2, 3, seed=2), {}),
            (r(3), r(3, 2, seed=2), {}),
            (r(2, 3), r(3, seed=2), {}),
            (r(2, 3), r(2, 3, seed=2), {}),
        )
    ],
    Row("batch_dot", [r(2, 3, 4), r(2, 4, 5, seed=2)], {}, (0, 1)),
    Row("batch_dot", [r(2, 4, 3), r(2, 5, 4)], {"transpose_a": True, "transpose_b": True}, (0, 1)),
    Row("FullyConnected", [r(3, 4), r(5, 4), r(5)], {"num_hidden": 5}, (0, 1, 2)),
    Row("FullyConnected", [r(3, 2, 2), r(5, 4)], {"num_hidden": 5, "no_bias": True}, (0, 1)),
    Row("FullyConnected", [r(3, 2, 4), r(5, 4), r(5)], {"num_hidden": 5, "flatten": False}, (0, 1)),
    Row("FullyConnected", [u(3, 2), r(5, 4), r(5)], {"num_hidden": 5}),
]

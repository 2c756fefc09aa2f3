# SPDX-License-Identifier: Apache-2.0
"""Shapes, reductions, order, look-ups, creation."""

import numpy as np

from tests.reference.rows.base import Row, i, r, u
from tests.reference.rows.elementwise import op

A = i(2, 3, 4, low=-50, high=50)
TIES = np.array([[3, 1, 3, 2], [0, 0, -1, 5]], "float32")
NAN = np.array([[1, np.nan, 3], [np.nan, 5, -6]], "float32")
IDX = np.array([0, 2, -1, 5], "float32")
AXES = ({}, {"axis": 1}, {"axis": (0, 2)}, {"axis": -1, "keepdims": True})
MORE = (*AXES, {"axis": 1, "exclude": True}, {"axis": (), "exclude": False}, {"axis": 3})
RESHAPES = (
    "(4, 6)", "(-1,)", "(0, -1)", "(-2,)", "(0, -3)", "(-3, 0)", "(-4, 1, 2, -2)", "(0, -4, -1, 3, 4)",
    "(2, 0, 0)", "(-1, 0)", "(6, 1, -2)", "(5, -1)", "(0, 0, 0, 0)", "(-3, -3)", "(24,)", "(2, -4, 3, -1, 4)",
)  # fmt: skip
ROWS = [
    *[op(f"x.reshape({s})", A, grads=(0,)) for s in RESHAPES],
    *[
        op(f"nd.reshape(x, shape={s}, reverse=True)", A)
        for s in RESHAPES
        if s not in ("(6, 1, -2)", "(5, -1)")
    ],
    op("x.reshape(4, 6)", A),
    op("x.reshape(shape=(4, 6))", A),
    op("nd.Reshape(x, shape=(3, 8))", A),
    op("x.reshape((-1, 4))", A, grads=(0,)),
    op("nd.reshape_like(x, y)", A, r(4, 6), grads=(0,)),
    op("nd.reshape_like(x, y, lhs_begin=0, lhs_end=2, rhs_begin=0, rhs_end=1)", A, r(6, 9)),
    *[Row(n, [u(2, 3, 4)], a, (0,)) for n in ("sum", "mean", "prod") for a in MORE],
    *[Row(n, [A], a, (0,)) for n in ("max", "min") for a in MORE],
    *[Row(n, [NAN], a, (0,)) for n in ("nansum", "nanprod") for a in ({}, {"axis": 1})],
    Row("max", [TIES], {"axis": 1}, (0,)),
    Row("sum", [i(3, 4, dtype="int32")], {}),
    Row("mean", [i(3, 4, dtype="int32")], {"axis": 0}),
    Row("sum", [u(3, 4, 5).astype("float16")], {"axis": 0}, rtol=2e-3),
    *[Row("norm", [r(2, 3, 4)], a, (0,)) for a in (*AXES[:2], {"ord": 1, "axis": 2}, {"ord": 1})],
    Row("norm", [r(2, 3, 4)], {"axis": (1, 2), "keepdims": True}, (0,)),
    Row("norm", [r(2, 3, 4)], {"ord": 3}),
    *[
        Row(n, [A], a)
        for n in ("argmax", "argmin")
        for a in ({}, {"axis": 1}, {"axis": -1, "keepdims": True})
    ],
    Row("argmax", [TIES], {"axis": 1}),
    Row("argmax_channel", [TIES], {}),
    *[
        Row("sort", [TIES], a, (0,))
        for a in ({"axis": 0}, {"axis": 1, "is_ascend": False}, {"axis": None})
    ],
    Row("sort", [TIES], {}),
    *[
        Row("argsort", [r(3, 4)], a)
        for a in ({}, {"axis": 0}, {"is_ascend": False}, {"axis": None}, {"dtype": "int32"})
    ],
    *[
        Row(
            "topk",
            [r(3, 5)],
            {"ret_typ": t, **a},
            (0,) if t in ("value", "both") else (),
            heads=(0,),
        )
        for t in ("value", "indices", "mask", "both")
        for a in (
            {"k": 2},
            {"k": 1, "axis": 0},
            {"k": 3, "is_ascend": True},
            {"axis": None, "k": 4},
        )
    ],
    Row("topk", [r(3, 5)], {"k": 0}),
    Row("topk", [r(3, 5)], {"k": 9}),
    Row("topk", [r(3, 5)], {"k": 2, "dtype": "int64"}),
    Row("topk", [r(3, 5)], {"k": 2, "ret_typ": "list"}),
    *[Row("cumsum", [r(2, 3)], a, (0,)) for a in ({}, {"axis": 0}, {"dtype": "float64"})],
    Row("transpose", [A], {}, (0,)),
    Row("transpose", [A], {"axes": (1, 0, 2)}, (0,)),
    Row("transpose", [A], {"axes": (1, 0)}),
    op("x.T", A),
    op("x.transpose((2, 0, 1))", A),
    op("x.swapaxes(0, 2)", A, grads=(0,)),
    Row("swapaxes", [A], {"dim1": 0, "dim2": 2}),
    Row("expand_dims", [A], {"axis": 1}, (0,)),
    Row("expand_dims", [A], {"axis": -1}),
    Row("expand_dims", [A], {"axis": 5}),
    Row("squeeze", [r(1, 3, 1)], {}, (0,)),
    Row("squeeze", [r(1, 3, 1)], {"axis": 0}),
    Row("squeeze", [r(1, 3, 1)], {"axis": 1}),
    Row("squeeze", [r(1, 1)], {}),
    Row("Flatten", [A], {}, (0,)),
    Row("flip", [A], {"axis": 1}, (0,)),
    Row("flip", [A], {"axis": (0, 2)}),
    Row("reverse", [A], {"axis": 0}),
    Row("broadcast_to", [r(1, 3)], {"shape": (4, 3)}, (0,)),
    Row("broadcast_to", [r(1, 3)], {"shape": (4, 0)}, (0,)),
    Row("broadcast_to", [r(2, 3)], {"shape": (4, 3)}),
    Row("broadcast_axis", [r(1, 3, 1)], {"axis": (0, 2), "size": (2, 4)}, (0,)),
    Row("broadcast_axes", [r(1, 3, 1)], {"axis": 0, "size": 2}),
    Row("broadcast_like", [r(1, 3), r(4, 3)], {}, (0,)),
    Row("broadcast_like", [r(1, 3), r(4, 7)], {"lhs_axes": (0,), "rhs_axes": (1,)}),
    Row("concat", [r(2, 3), r(2, 1)], {}, (0, 1)),
    Row("concat", [r(2, 3), r(1, 3)], {"dim": 0}, (0, 1)),
    Row("concat", [r(2, 3), r(1, 3)], {}),
    op("nd.concatenate([x, y], axis=0)", r(2, 3), r(1, 3)),
    Row("stack", [r(2, 3), r(2, 3)], {}, (0, 1)),
    Row("stack", [r(2, 3), r(2, 3)], {"axis": -1}, (0, 1)),
    Row("stack", [r(2, 3), r(2, 2)], {}),
    Row("split", [r(2, 6)], {"num_outputs": 3}, (0,)),
    Row("split", [r(3, 2)], {"num_outputs": 3, "axis": 0, "squeeze_axis": True}, (0,)),
    Row("split", [r(2, 5)], {"num_outputs": 3}),
    op("nd.split_v2(x, 3, axis=1)", r(2, 6), grads=(0,)),
    op("nd.split_v2(x, (1, 3))", r(4, 6), grads=(0,)),
    op("nd.split_v2(x, 2, axis=0, squeeze_axis=True)", r(2, 6)),
    op("nd.split_v2(x, 4)", r(6, 2)),
    Row("tile", [r(2, 3)], {"reps": (2, 2)}, (0,)),
    Row("tile", [r(2, 3)], {"reps": (2, 1, 2)}, (0,)),
    Row("tile", [r(2, 3)], {"reps": 2}),
    Row("repeat", [r(2, 3)], {"repeats": 2}, (0,)),
    Row("repeat", [r(2, 3)], {"repeats": 2, "axis": 1}, (0,)),
    *[
        Row("pad", [r(1, 2, 3, 4)], {"mode": m, "pad_width": (0, 0, 0, 0, 1, 2, 2, 1), **a}, (0,))
        for m, a in (("constant", {"constant_value": 2.5}), ("edge", {}), ("reflect", {}))
    ],
    Row(
        "pad",
        [r(1, 1, 2, 3, 2)],
        {"mode": "edge", "pad_width": (0, 0, 0, 0, 1, 1, 0, 1, 1, 0)},
        (0,),
    ),
    Row("slice", [A], {"begin": (0, 1), "end": (2, 3)}, (0,)),
    Row("slice", [A], {"begin": (None, 2), "end": (None, 0), "step": (1, -1)}, (0,)),
    Row("slice", [A], {"begin": (0, -2, 1), "end": (2, None, 4), "step": (1, 1, 2)}, (0,)),
    Row("slice", [A], {"begin": (0, 3), "end": (2, 3)}),
    Row("slice_axis", [A], {"axis": 1, "begin": 1, "end": 3}, (0,)),
    Row("slice_axis", [A], {"axis": -1, "begin": -3, "end": None}, (0,)),
    Row("slice_axis", [A], {"axis": 1, "begin": 1, "end": 9}),
    Row("slice_like", [A, r(1, 2, 2)], {}, (0,)),
    Row("slice_like", [A, r(1, 2, 2)], {"axes": (0, -1)}, (0,)),
    Row("diag", [r(3)], {"k": 1}, (0,)),
    Row("diag", [r(3, 4)], {}, (0,)),
    Row("diag", [r(3, 4)], {"k": -1}, (0,)),
    Row("diag", [r(2, 3, 3)], {"axis1": 1, "axis2": 2}, (0,)),
    Row("shape_array", [A], {}),
    Row("size_array", [A], {}),
    *[Row("take", [r(3, 4), IDX], {"mode": m}, (0,)) for m in ("clip", "wrap")],
    Row("take", [r(3, 4), np.array([[0, 2], [1, 1]], "int32")], {"axis": 1}, (0,)),
    Row("take", [r(3, 4), np.array([0, 7], "float32")], {"mode": "raise"}),
    Row("take", [r(3, 4), np.array([0.9, 1.2], "float32")], {}),
    Row("pick", [r(3, 4), np.array([0, 3, 9], "float32")], {}, (0,)),
    Row("pick", [r(3, 4), np.array([0, -1, 9], "float32")], {"mode": "wrap"}, (0,)),
    Row("pick", [r(3, 4), np.array([0, 2, 1, 1], "float32")], {"axis": 0, "keepdims": True}, (0,)),
    Row("batch_take", [r(3, 4), np.array([0, 3, 9], "int32")], {}),
    Row("one_hot", [np.array([1, 0, 3, -1, 7], "float32")], {"depth": 4}),
    Row("one_hot", [i(2, 2)], {"depth": 5, "on_value": 8, "off_value": 1, "dtype": "int32"}),
    Row("Embedding", [i(2, 3, high=6), r(4, 5)], {"input_dim": 4, "output_dim": 5}, (1,)),
    Row("gather_nd", [A, np.array([[0, 1], [2, 0]], "float32")], {}, (0,)),
    Row("gather_nd", [A, np.array([[0, 1], [2, 0], [3, 3]], "int64")], {}, (0,)),
    Row("gather_nd", [A, np.array([[0, 9]], "float32")], {}),
    Row("scatter_nd", [r(2), np.array([[0, 1], [2, 0]], "float32")], {"shape": (2, 3)}, (0,)),
    Row("scatter_nd", [r(2, 2), np.array([[1, 0]], "float32")], {"shape": (3, 2)}, (0,)),
    Row("ravel_multi_index", [np.array([[3, 6, 6], [4, 5, 1]], "float32")], {"shape": (7, 6)}),
    Row("unravel_index", [np.array([22, 41, 37], "float32")], {"shape": (7, 6)}),
    Row("unravel_index", [np.array([22, 41, 37], "float32")], {"shape": (-1, 6)}),
    op("nd.histogram(x, bins=4, range=(-2, 2))", r(30)),
    op("nd.histogram(x, bins=3)", r(30)),
    op("nd.histogram(x, bins=y)", r(30), np.array([-1, 0, 0.5, 2], "float32")),
    op("nd.moveaxis(x, 0, 2)", A),
    op("nd.moveaxis(x, [0, 1], [-1, 0])", A),
    op("nd.choose_element_0index(x, y)", r(3, 4), np.array([0, 3, 1], "float32")),
    op("nd.fill_element_0index(x, y, z)", r(3, 4), r(3), np.array([0, 3, 1], "float32")),
    op("nd.onehot_encode(x, y)", np.array([1, 0], "float32"), r(2, 3)),
    op("nd.arange(2, 8, 1.5)"),
    op("nd.arange(5, dtype='int32')"),
    op("nd.arange(0, 6, 2, repeat=3)"),
    op("nd.arange(6, 0, -2)"),
    op("nd.linspace(0, 1, 4)"),
    op("nd.linspace(0, 1, 4, endpoint=False)"),
    op("nd.eye(3, 4, 1)"),
    op("nd.eye(3, k=-1, dtype='int32')"),
    op("nd.full((2, 3), 1.5, dtype='float64')"),
    op("nd.array([[1, 2], [3, 4]])"),
    op("nd.array(np.arange(3))"),
    op("nd.array(np.arange(3, dtype='int64'))"),
    op("nd.array(3)"),
    op("nd.array([1.5, 2], dtype='int32')"),
    op("nd.array([])"),
    op("nd.array(np.float64(2.5))"),
    op("nd.ones(3)"),
    op("nd.contrib.arange_like(x)", A),
    op("nd.contrib.arange_like(x, axis=1)", A),
    op("nd.contrib.arange_like(x, start=2, step=3)", r(2, 3)),
]

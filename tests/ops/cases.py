# SPDX-License-Identifier: Apache-2.0
"""One row per differentiable operator of elements, shapes, reductions and look-ups."""

import numpy as np

from tests.ops.case import Case, p, unit, x

CASES = [
    *[Case(n, [x(2, 3), x(3)]) for n in ("add", "subtract", "multiply", "maximum", "minimum")],
    Case("divide", [x(2, 3), p(3)]),
    Case("modulo", [x(2, 3), np.full(3, 5.0)]),
    Case("power", [p(2, 3), x(3)]),
    Case("hypot", [x(2, 3), x(3)]),
    Case("arctan2", [x(2, 3), x(3)]),
    *[
        Case(f"_{r}{n}_scalar", [p(2, 3)], {"scalar": 1.7})
        for n in (
            "add",
            "subtract",
            "multiply",
            "divide",
            "power",
            "maximum",
            "minimum",
            "hypot",
            "arctan2",
        )
        for r in ("", "r")
    ],
    Case("_modulo_scalar", [x(2, 3)], {"scalar": 5.0}),
    Case("_rmodulo_scalar", [p(2, 3) + 2.5], {"scalar": 2.0}),
    *[
        Case(n, [x(2, 3)])
        for n in (
            "negative",
            "abs",
            "sign",
            "exp",
            "expm1",
            "square",
            "sin",
            "cos",
            "sinh",
            "cosh",
            "tanh",
            "arctan",
            "arcsinh",
            "degrees",
            "radians",
            "relu",
            "sigmoid",
            "softsign",
            "softrelu",
            "erf",
            "identity",
            "rint",
            "ceil",
            "floor",
            "trunc",
            "fix",
            "round",
            "tan",
        )
    ],
    *[
        Case(n, [x(2, 3), x(3)])
        for n in (
            "equal",
            "not_equal",
            "greater",
            "greater_equal",
            "lesser",
            "lesser_equal",
            "logical_and",
            "logical_or",
            "logical_xor",
        )
    ],
    *[
        Case(f"_{r}{n}_scalar", [p(2, 3)], {"scalar": 1.7})
        for n in (
            "equal",
            "not_equal",
            "greater",
            "greater_equal",
            "lesser",
            "lesser_equal",
            "logical_and",
            "logical_or",
            "logical_xor",
        )
        for r in ("", "r")
    ],
    Case("logical_not", [x(2, 3)]),
    *[
        Case(n, [p(2, 3)])
        for n in ("log", "log1p", "log2", "log10", "sqrt", "rsqrt", "cbrt", "rcbrt", "reciprocal")
    ],
    *[Case(n, [unit(2, 3)]) for n in ("arcsin", "arccos", "arctanh")],
    Case("arccosh", [p(2, 3) + 1.2]),
    Case("clip", [x(2, 4)], {"a_min": -0.5, "a_max": 0.6}),
    Case("smooth_l1", [x(2, 4)], {"scalar": 1.5}),
    Case("Cast", [x(2, 3)], {"dtype": "float64"}),
    Case("where", [np.array([[1.0, 0, 1], [0, 1, 1]]), x(2, 3), x(2, 3)], {}, [1, 2]),
    *[
        Case(n, [x(2, 3, 2)], a)
        for n in ("sum", "mean", "nansum")
        for a in ({}, {"axis": 1}, {"axis": (0, 2), "keepdims": True}, {"axis": 0, "exclude": True})
    ],
    Case("prod", [p(2, 3)], {"axis": 1}),
    *[Case(n, [x(2, 3, 2)], a) for n in ("max", "min") for a in ({}, {"axis": (0, 1)})],
    Case("norm", [x(2, 3)]),
    Case("norm", [x(2, 3)], {"ord": 1, "axis": 1}),
    Case("sort", [x(2, 5)]),
    Case("sort", [x(2, 3)], {"axis": None}),
    Case("topk", [x(2, 5)], {"k": 2, "ret_typ": "value"}),
    Case("topk", [x(3, 4)], {"k": 2, "axis": 0, "ret_typ": "both"}, outputs=1),
    *[
        Case(n, i, {"places": np.array([[1, 0], [2, 1]]), "size": 3, "axis": 1})
        for n, i in (("_along", [x(2, 3)]), ("_put_along", [x(2, 2)]))
    ],
    Case("moments", [x(2, 3, 2)], {"axes": (0, 2)}),
    Case("moments", [x(2, 3)], {}),
    Case("sort", [x(2, 5)], {"axis": 0, "is_ascend": False}),
    Case("cumsum", [x(2, 3)], {"axis": 1}),
    Case("cumsum", [x(2, 3)]),
    Case("Reshape", [x(2, 3, 4)], {"shape": (0, -3)}),
    Case("Flatten", [x(2, 3, 2)]),
    Case("expand_dims", [x(2, 3)], {"axis": 1}),
    Case("squeeze", [x(2, 1, 3)]),
    Case("_reshape_plain", [x(2, 3)], {"shape": (3, -1)}),
    Case("_broadcast_plain", [x(2, 1)], {"shape": (3, 2, 2)}),
    Case("reshape_like", [x(2, 3), x(3, 2)], {}, [0]),
    Case("transpose", [x(2, 3, 4)], {"axes": (2, 0, 1)}),
    Case("transpose", [x(2, 3)]),
    Case("SwapAxis", [x(2, 3, 4)], {"dim1": 0, "dim2": 2}),
    Case("flip", [x(2, 3)], {"axis": 1}),
    Case("broadcast_to", [x(2, 1, 3)], {"shape": (2, 4, 3)}),
    Case("broadcast_axis", [x(2, 1, 3)], {"axis": 1, "size": 4}),
    Case("broadcast_like", [x(2, 1), x(2, 4)], {}, [0]),
    Case("Concat", [x(2, 3), x(2, 1)], {"dim": 1}),
    Case("stack", [x(2, 3), x(2, 3)], {"axis": 1}),
    Case("SliceChannel", [x(2, 6)], {"num_outputs": 3, "axis": 1}),
    Case("SliceChannel", [x(2, 3)], {"num_outputs": 3, "axis": 1, "squeeze_axis": True}),
    Case("tile", [x(2, 3)], {"reps": (2, 1, 2)}),
    Case("repeat", [x(2, 3)], {"repeats": 2, "axis": 1}),
    Case("repeat", [x(2, 3)], {"repeats": 2}),
    *[
        Case("Pad", [x(1, 2, 3, 3)], {"mode": m, "pad_width": (0, 0, 0, 0, 1, 2, 2, 1)})
        for m in ("constant", "edge", "reflect")
    ],
    Case("erfinv", [unit(2, 3) * 0.8]),
    Case("gamma", [p(2, 3)]),
    Case("gammaln", [p(2, 3)]),
    Case("polygamma", [p(2, 3)], {"order": 1}),
    Case("nanprod", [p(2, 3)], {"axis": 1}),
    Case("_contrib_index_copy", [x(4, 2), np.array([2, 0]), x(2, 2)], {}, [0, 2]),
    Case("_contrib_boolean_mask", [x(4, 2), np.array([0, 1, 1, 0])], {}, [0]),
    Case("diag", [x(4)]),
    Case("diag", [x(3, 4)], {"k": 1}),
    Case("diag", [x(4, 2, 3)], {"k": -1, "axis1": 0, "axis2": 2}),
    Case("depth_to_space", [x(1, 8, 2, 3)], {"block_size": 2}),
    Case("space_to_depth", [x(1, 2, 4, 6)], {"block_size": 2}),
    Case("slice", [x(3, 4)], {"begin": (0, 1), "end": (2, 4), "step": (1, 2)}),
    Case("slice_axis", [x(3, 4)], {"axis": 1, "begin": 1, "end": None}),
    Case("slice_like", [x(3, 4), x(2, 2)], {}, [0]),
    Case("_index", [x(3, 4)], {"key": (slice(0, 2), 1)}),
    Case("_index", [x(3, 4)], {"key": np.array([0, 2, 0])}),
    Case("_index_grad", [x(2, 4)], {"shape": (3, 4), "key": slice(0, 2)}),
    Case("take", [x(4, 3), np.array([0, 2, 2, 1])], {}, [0]),
    Case("take", [x(2, 4, 3), np.array([[0, 3], [3, 3]])], {"axis": 1}, [0]),
    Case("Embedding", [np.array([[0, 2], [2, 1]]), x(4, 3)], {"input_dim": 4}, [1]),
    Case("_embedding_grad", [x(3, 2)], {"rows": np.array([0, 2, 0]), "count": 4}),
    Case("pick", [x(3, 4), np.array([0, 3, 1])], {}, [0]),
    Case("pick", [x(3, 4), np.array([0, 2, 1, 1])], {"axis": 0, "keepdims": True}, [0]),
    Case("_pick_grad", [x(3)], {"places": np.array([0, 3, 1]), "size": 4, "axis": 1}),
    Case("gather_nd", [x(3, 4), np.array([[0, 2], [1, 3]])], {}, [0]),
    Case("scatter_nd", [x(2), np.array([[0, 2], [1, 3]])], {"shape": (3, 4)}, [0]),
    Case("dot", [x(2, 3), x(3, 4)]),
    Case("dot", [x(3, 2), x(4, 3)], {"transpose_a": True, "transpose_b": True}),
    Case("dot", [x(3), x(3)]),
    Case("dot", [x(2, 3, 4), x(4, 2)]),
    Case("batch_dot", [x(2, 2, 3), x(2, 3, 2)]),
    Case("batch_dot", [x(2, 3, 2), x(2, 2, 3)], {"transpose_a": True, "transpose_b": True}),
    Case("_matmul", [x(2, 2, 3), x(2, 3, 2)]),
]

#: gradients that are not the derivative of the output, on purpose; tested by themselves
CASES += [
    Case("_square_sum", [x(3, 4)], {"axis": 1}),
    Case("_square_sum", [x(3, 4)], {"axis": 0, "keepdims": True}),
    Case("_scatter_elemwise_div", [x(2, 3), p(2, 3)]),
    Case("_scatter_plus_scalar", [x(2, 3)], {"scalar": 2.0}),
    Case("_scatter_minus_scalar", [x(2, 3)], {"scalar": 2.0}),
]
SPECIAL = {
    "_added_gradient",
    "SVMOutput",
    "MakeLoss",
    "_contrib_gradientmultiplier",
    "_contrib_round_ste",
    "_contrib_sign_ste",
    "BlockGrad",
    "make_loss",
    "SoftmaxOutput",
    "LinearRegressionOutput",
    "MAERegressionOutput",
    "LogisticRegressionOutput",
    "zeros_like",
    "ones_like",
    # their results or inputs are sparse: tests/ndarray/test_sparse.py
    "cast_storage",
    "_sparse_retain",
    "_contrib_SparseEmbedding",
}
#: rounding is constant between its steps: MXNet passes 0

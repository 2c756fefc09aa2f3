# SPDX-License-Identifier: Apache-2.0
"""Names with an underscore that old code calls."""

import numpy as np

from tests.reference.rows.base import Row, r, u

A = u(2, 3)
ROWS = [
    *[
        Row(f"_internal.{n}", [A], {"scalar": 1.5}, (0,))
        for n in (
            "_plus_scalar _minus_scalar _rminus_scalar _mul_scalar _div_scalar _rdiv_scalar "
            "_mod_scalar _rmod_scalar _power_scalar _rpower_scalar _maximum_scalar "
            "_minimum_scalar _hypot_scalar _equal_scalar _greater_scalar _lesser_equal_scalar "
            "_PlusScalar _RMinusScalar _RDivScalar _PowerScalar _NotEqualScalar"
        ).split()
    ],
    *[
        Row(f"_internal.{n}", [A, u(2, 3, seed=2)], {}, (0, 1))
        for n in "_Plus _Minus _Mul _Div _Power _Maximum _minimum _hypot _equal".split()
    ],
    Row("_internal._crop_assign", [r(3, 4), r(2, 2)], {"begin": (0, 1), "end": (2, 3)}),
    Row("_internal._crop_assign_scalar", [r(3, 4)], {"scalar": 7, "begin": (0, 1), "end": (2, 3)}),
    Row("_internal._identity_with_attr_like_rhs", [A, A], {}),
    Row("_internal._rnn_param_concat", [r(3), r(2)], {"dim": 0}),
    Row("_internal._split_v2", [r(4, 2)], call=lambda mx, x: mx.nd.split_v2(x, 2)),
    Row(
        "BatchNormWithReLU",
        [r(3, 4), u(4), r(4), r(4), u(4)],
        call=lambda mx, *a: mx.nd.relu(mx.nd.BatchNorm(*a, fix_gamma=False)),
        grads=(0, 1),
    ),
    Row(
        "contrib.SyncBatchNorm",
        [r(3, 4, 2), u(4), r(4), r(4), u(4)],
        call=lambda mx, *a: mx.nd.contrib.SyncBatchNorm(*a, fix_gamma=False, key="k", ndev=1),
        grads=(0, 1),
        rtol=1e-3,
    ),
    Row(
        "draws without repetition",
        [np.zeros(1, "float32")],
        call=lambda mx, _: (
            mx.random.seed(7),
            mx.nd._internal._sample_unique_zipfian(1000, shape=(1, 5)),
        )[1],
    ),
]

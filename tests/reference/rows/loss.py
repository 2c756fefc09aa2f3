# SPDX-License-Identifier: Apache-2.0
"""Activations, softmax, output layers, CTC."""

import numpy as np

from tests.reference.rows.base import Row, i, r, u

LABELS = np.array([1, 0, 3], "float32")
GRID = i(3, 4, high=5)
ROWS = [
    *[
        Row("Activation", [r(3, 4)], {"act_type": kind}, (0,))
        for kind in ("relu", "sigmoid", "tanh", "softrelu", "softsign", "swoosh")
    ],
    *[
        Row("LeakyReLU", [r(3, 4)], attrs, (0,))
        for attrs in (
            {},
            {"slope": 0.1},
            {"act_type": "elu", "slope": 0.7},
            {"act_type": "gelu"},
        )
    ],
    # the gradient of the real one is not that of its output
    Row("LeakyReLU", [r(3, 4)], {"act_type": "selu"}),
    Row("LeakyReLU", [r(3, 4), u(4)], {"act_type": "prelu"}, (0, 1)),
    Row("LeakyReLU", [r(3, 4, 2), u(4)], {"act_type": "prelu"}, (0, 1)),
    Row("LeakyReLU", [r(3, 4, 2), u(1)], {"act_type": "prelu"}, (0, 1)),
    *[
        Row(name, [r(3, 4, 2) * 3], attrs, (0,))
        for name in ("softmax", "log_softmax", "softmin")
        for attrs in (
            {},
            {"axis": 1},
            {"axis": 0, "temperature": 2.5},
            {"dtype": "float64"},
            {"axis": 3},
        )
    ],
    Row("softmax", [r(3, 4), np.array([1, 4, 2], "int32")], {"use_length": True}, (0,)),
    Row(
        "softmax",
        [r(2, 4, 3), np.array([[1, 4, 2], [3, 1, 1]], "int32")],
        {"use_length": True, "axis": 1},
        (0,),
    ),
    Row("softmax", [i(3, 4, dtype="int32")], {}),
    Row("SoftmaxActivation", [r(2, 3)], {}, (0,)),
    Row("SoftmaxActivation", [r(2, 3, 4)], {"mode": "channel"}, (0,)),
    Row("softmax_cross_entropy", [r(3, 4), LABELS], {}, (0,)),
    *[
        Row("SoftmaxOutput", [r(3, 4), label], attrs, (0,))
        for label in (LABELS, u(3, 4))
        for attrs in (
            {},
            {"grad_scale": 0.5, "normalization": "batch"},
            {"use_ignore": True, "ignore_label": 0, "normalization": "valid"},
            {"normalization": "valid"},
            {"smooth_alpha": 0.1},
        )
    ],
    *[
        Row("SoftmaxOutput", [r(3, 5, 4), GRID], {"multi_output": True, **attrs}, (0,))
        for attrs in (
            {},
            {"normalization": "batch"},
            {"normalization": "valid", "use_ignore": True, "ignore_label": 2},
            {"use_ignore": True, "ignore_label": 2},
        )
    ],
    Row("SoftmaxOutput", [r(3, 4, 5), GRID], {"preserve_shape": True}, (0,)),
    Row("SoftmaxOutput", [r(3, 2, 2), LABELS], {}, (0,)),
    Row("SoftmaxOutput", [r(3, 2, 4), i(3, 2, high=4)], {}, (0,)),
    Row("SoftmaxOutput", [r(3, 2, 4), i(3, 2, high=4)], {"normalization": "batch"}, (0,)),
    Row("SoftmaxOutput", [r(3, 4), np.array([1, 0], "float32")], {}, (0,)),
    *[
        Row(name, [r(3, 4), r(3, 4, seed=2)], attrs, (0,))
        for name in (
            "LinearRegressionOutput",
            "MAERegressionOutput",
            "LogisticRegressionOutput",
        )
        for attrs in ({}, {"grad_scale": 3.0})
    ],
    Row("LinearRegressionOutput", [r(3, 1), r(3, seed=2)], {}, (0,)),
    Row("LinearRegressionOutput", [r(3, 4), r(3, seed=2)], {}, (0,)),
    *[
        Row("SVMOutput", [r(3, 4), LABELS], attrs, (0,))
        for attrs in (
            {},
            {"use_linear": True},
            {"margin": 0.5, "regularization_coefficient": 2.0},
        )
    ],
    *[
        Row("MakeLoss", [r(3, 4)], attrs, (0,))
        for attrs in (
            {},
            {"grad_scale": 2.0, "normalization": "batch"},
            {"normalization": "valid", "valid_thresh": 0.5},
        )
    ],
    Row("make_loss", [r(3, 4)], {}, (0,)),
    Row("BlockGrad", [r(3, 4)], {}, (0,)),
    Row("stop_gradient", [r(3, 4)], {}, (0,)),
    Row("smooth_l1", [r(3, 4)], {"scalar": 1.0}, (0,)),
    Row("smooth_l1", [r(3, 4)], {"scalar": 3.0}, (0,)),
    Row("hard_sigmoid", [r(3, 4) * 4], {}, (0,)),
    Row("hard_sigmoid", [r(3, 4) * 4], {"alpha": 0.3, "beta": 0.4}, (0,)),
    *[
        Row("CTCLoss", [r(6, 3, 5), labels], attrs, (0,), rtol=1e-3)
        for labels, attrs in (
            (np.array([[1, 2, 2], [3, 0, 0], [1, 4, 1]], "float32"), {}),
            (np.array([[1, 2, 2], [3, -1, -1], [1, 0, 1]], "float32"), {"blank_label": "last"}),
        )
    ],
    # where labels do not fit into the data, the gradient of the real one is not set
    Row("CTCLoss", [r(6, 2, 5), np.array([[1, 1, 1, 1], [1, 4, 1, 2]], "float32")], {}),
    Row(
        "CTCLoss",
        [
            r(6, 3, 5),
            np.array([[1, 2, 2], [3, 1, 1], [1, 4, 1]], "float32"),
            np.array([6, 4, 5], "float32"),
            np.array([3, 1, 2], "float32"),
        ],
        {"use_data_lengths": True, "use_label_lengths": True},
        (0,),
        rtol=1e-3,
    ),
    Row("amp_cast", [r(2, 3)], {"dtype": "float16"}, (0,), rtol=1e-3, atol=1e-3),
    Row("contrib.gradientmultiplier", [r(2, 3)], {"scalar": -2.0}, (0,)),
    Row("contrib.round_ste", [r(2, 3) * 3], {}, (0,)),
    Row("contrib.sign_ste", [r(2, 3) * 3], {}, (0,)),
    Row("contrib.div_sqrt_dim", [r(2, 3)], {}, (0,)),
    Row("contrib.quadratic", [r(2, 3)], {"a": 2.0, "b": -1.0, "c": 0.5}, (0,)),
    Row("Dropout", [r(3, 4)], {"p": 0.5}, (0,), train=False),
]

# SPDX-License-Identifier: Apache-2.0
"""Rows of layers: activations, norms, convolution, pooling, recurrent networks."""

from typing import Any

import numpy as np

from kvtrain.kernels import xp
from tests.ops.case import Case, p, x

_WINDOW: dict[str, Any] = {"kernel": (2, 2), "stride": (2, 1), "pad": (0, 1)}


def _pooled(kind: str, first: Any) -> list[Any]:
    """An array, images, and what pooling them gives."""
    images = x(1, 2, 4, 3)
    return [first, images, xp.pool(images, kind=kind, **_WINDOW)]


CASES = [
    Case("FullyConnected", [x(2, 3), x(4, 3), x(4)], {"num_hidden": 4}),
    Case("FullyConnected", [x(2, 2, 3), x(4, 3)], {"num_hidden": 4, "flatten": False}),
    *[
        Case("Activation", [x(2, 3)], {"act_type": a})
        for a in ("relu", "sigmoid", "tanh", "softrelu", "softsign")
    ],
    *[Case("LeakyReLU", [x(2, 3)], {"act_type": a}) for a in ("leaky", "elu", "selu", "gelu")],
    Case("LeakyReLU", [x(2, 3), p(3)], {"act_type": "prelu"}),
    Case("softmax", [x(2, 3)]),
    Case("softmax", [x(2, 3)], {"axis": 0, "temperature": 2.0}),
    Case("softmin", [x(2, 3)]),
    Case("log_softmax", [x(2, 3)]),
    Case("softmax_cross_entropy", [x(2, 3), np.array([2.0, 0.0])], {}, [0]),
    Case("_batch_norm", [x(4, 2, 3), p(2), x(2), x(2), p(2)], {"fix_gamma": False}, [0, 1, 2], 1),
    Case(
        "_batch_norm",
        [x(4, 2), p(2), x(2), x(2), p(2)],
        {"fix_gamma": False, "use_global_stats": True},
        [0, 1, 2],
        1,
    ),
    Case("LayerNorm", [x(3, 4), p(4), x(4)]),
    Case("LayerNorm", [x(3, 4), p(3), x(3)], {"axis": 0, "output_mean_var": True}),
    Case("GroupNorm", [x(2, 4, 3), p(2), x(2)], {"num_groups": 2}),
    Case("InstanceNorm", [x(2, 3, 4), p(3), x(3)]),
    *[
        Case("L2Normalization", [x(2, 3, 4)], {"mode": m})
        for m in ("instance", "channel", "spatial")
    ],
    Case("LRN", [x(2, 4, 3)], {"nsize": 3, "alpha": 0.5}),
    Case("_mask", [x(2, 3)], {"mask": np.array([[0.0, 2, 0], [2, 2, 0]])}),
    Case("Convolution", [x(2, 2, 5, 4), x(3, 2, 3, 2), x(3)], {"kernel": (3, 2), "num_filter": 3}),
    Case(
        "Convolution",
        [x(1, 4, 6, 6), x(4, 2, 3, 3)],
        {
            "kernel": (3, 3),
            "num_filter": 4,
            "num_group": 2,
            "stride": (2, 1),
            "pad": (1, 2),
            "dilate": (1, 2),
            "no_bias": True,
        },
    ),
    Case(
        "Convolution",
        [x(2, 2, 7), x(4, 1, 3)],
        {"kernel": (3,), "num_filter": 4, "num_group": 2, "stride": 2, "no_bias": True},
    ),
    Case(
        "Convolution",
        [x(1, 2, 3, 4, 3), x(2, 2, 2, 2, 2), x(2)],
        {"kernel": (2, 2, 2), "num_filter": 2, "pad": (1, 0, 1)},
    ),
    Case(
        "Convolution",
        [x(1, 8, 4, 3) / 3, x(2, 8, 2, 2) / 3],
        {"kernel": (2, 2), "num_filter": 2, "stride": (2, 1), "pad": (0, 1), "no_bias": True},
        twice=[1],
    ),
    Case("Deconvolution", [x(1, 2, 3), x(2, 2, 3)], {"kernel": 3, "num_filter": 2, "stride": 2}),
    Case(
        "Deconvolution",
        [x(1, 4, 3, 3), x(4, 1, 3, 2), x(2)],
        {
            "kernel": (3, 2),
            "num_filter": 2,
            "num_group": 2,
            "stride": (2, 2),
            "pad": (1, 0),
            "adj": (1, 0),
            "no_bias": False,
        },
    ),
    Case("im2col", [x(1, 2, 4, 5)], {"kernel": (2, 3), "stride": (1, 2), "pad": (1, 1)}),
    Case(
        "col2im",
        [x(1, 12, 15)],
        {"output_size": (4, 5), "kernel": (2, 3), "stride": (1, 2), "pad": (1, 1)},
    ),
    *[
        Case(n, i, {"stride": (2, 1), "pad": (1, 0), "dilate": (1, 1), "groups": 1, **a})
        for n, i, a in (
            ("conv", [x(1, 2, 5, 4), x(2, 2, 3, 2)], {}),
            ("conv_data_grad", [x(1, 2, 3, 3), x(2, 2, 3, 2)], {"size": (5, 4)}),
            ("conv_weight_grad", [x(1, 2, 3, 3), x(1, 2, 5, 4)], {"kernel": (3, 2)}),
        )
    ],
    *[
        Case("Pooling", [x(1, 2, 5, 5)], {"kernel": (3, 2), "pool_type": t, **a})
        for t in ("max", "avg", "sum")
        for a in (
            {"stride": (2, 2), "pad": (1, 1)},
            {"pooling_convention": "full", "stride": (2, 2)},
            {"global_pool": True},
        )
    ],
    Case("Pooling", [p(1, 2, 5)], {"kernel": 2, "pool_type": "lp", "p_value": 3, "stride": 2}),
    Case("Pooling", [x(1, 1, 3, 4, 4)], {"kernel": (2, 2, 3), "pool_type": "max"}),
    *[
        Case(n, i, {**_WINDOW, "convention": "valid", **a}, w)
        for k in ("max", "avg")
        for n, i, a, w in (
            ("pool", [x(1, 2, 4, 3)], {"kind": k, "include_pad": True}, None),
            ("pool_grad", _pooled(k, x(1, 2, 2, 4)), {"kind": k, "include_pad": True}, [0]),
            ("pool_pick", _pooled("max", x(1, 2, 4, 3)), {}, [0]),
        )
    ],
    Case(
        "Pooling",
        [x(1, 1, 4, 4)],
        {
            "kernel": (3, 3),
            "pool_type": "avg",
            "pad": (1, 1),
            "stride": (2, 2),
            "count_include_pad": False,
        },
    ),
]


def _rnn(mode: str, layers: int = 1, both: bool = False, **attrs: Any) -> Case:
    """A network of 2 units over 3 steps of 2 sequences of 3 features."""
    gates = {"rnn_relu": 1, "rnn_tanh": 1, "gru": 3, "lstm": 4}[mode] * 2
    ways, out = 2 if both else 1, attrs.get("projection_size") or 2
    count = 0
    for layer in range(layers):
        inputs = 3 if layer == 0 else out * ways
        projected = out * 2 if attrs.get("projection_size") else 0
        count += ways * (gates * (inputs + out) + projected + 2 * gates)
    first = [x(3, 2, 3) / 3, np.cos(np.arange(count)), x(layers * ways, 2, out)]
    if mode == "lstm":
        first.append(x(layers * ways, 2, 2))
    wanted = list(range(len(first)))
    if attrs.get("use_sequence_length"):
        first.append(np.array([1.0, 3.0]))
    given = {"state_size": 2, "num_layers": layers, "bidirectional": both, "mode": mode, **attrs}
    return Case("_rnn", first, {**given, "state_outputs": True}, wanted, twice=[2])


CASES += [
    *[_rnn(m) for m in ("rnn_relu", "rnn_tanh", "gru", "lstm")],
    _rnn("gru", 2, True),
    _rnn("lstm", 2, True, use_sequence_length=True),
    _rnn("lstm", projection_size=1),
    _rnn("gru", use_sequence_length=True),
    _rnn("lstm", lstm_state_clip_min=-0.3, lstm_state_clip_max=0.3),
]


_LENGTHS = np.array([2.0, 1.0])
CASES += [
    Case("hard_sigmoid", [x(2, 4) * 2], {"alpha": 0.3}),
    Case("softmin", [x(2, 3)], {"temperature": 1.5}),
    Case("softmax", [x(2, 3), _LENGTHS], {"use_length": True}, [0]),
    Case("SoftmaxActivation", [x(2, 3, 2)], {"mode": "channel"}),
    Case("CTCLoss", [x(4, 2, 3) / 3, np.array([[1.0, 2.0], [1.0, 0.0]])], {}, [0]),
    Case("amp_cast", [x(2, 3)], {"dtype": "float64"}),
    Case("amp_multicast", [x(2, 3), x(2)], {"num_outputs": 2}),
    Case("_contrib_div_sqrt_dim", [x(2, 3)]),
    Case("_contrib_quadratic", [x(2, 3)], {"a": 1.5, "b": 0.5, "c": 1.0}),
]

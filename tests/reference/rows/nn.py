# SPDX-License-Identifier: Apache-2.0
"""Convolution, pooling, norms, recurrent networks."""

from typing import Any

import numpy as np

from tests.reference.rows.base import Row, r, u


def conv(data: Any, weight: Any, bias: bool = True, **attrs: Any) -> Row:
    inputs = [data, weight] + ([r(weight.shape[0], seed=3)] if bias else [])
    attrs = {
        "num_filter": weight.shape[0],
        "kernel": weight.shape[2:],
        "no_bias": not bias,
        **attrs,
    }
    return Row("Convolution", inputs, attrs, tuple(range(len(inputs))), rtol=1e-3, atol=1e-4)


def deconv(data: Any, weight: Any, bias: bool = True, **attrs: Any) -> Row:
    filters = weight.shape[1] * attrs.get("num_group", 1)
    inputs = [data, weight] + ([r(filters, seed=3)] if bias else [])
    attrs = {"num_filter": filters, "kernel": weight.shape[2:], "no_bias": not bias, **attrs}
    return Row("Deconvolution", inputs, attrs, tuple(range(len(inputs))), rtol=1e-3, atol=1e-4)


def rnn(mode: str, layers: int = 1, both: bool = False, **attrs: Any) -> Row:
    gates = {"rnn_relu": 1, "rnn_tanh": 1, "gru": 3, "lstm": 4}[mode] * 3
    ways = 2 if both else 1
    count = sum(
        ways * (gates * ((4 if layer == 0 else 3 * ways) + 3) + 2 * gates)
        for layer in range(layers)
    )
    inputs = [r(5, 2, 4), r(count, seed=2) * 0.5, r(layers * ways, 2, 3, seed=3)]
    if mode == "lstm":
        inputs.append(r(layers * ways, 2, 3, seed=4))
    given = {"state_size": 3, "num_layers": layers, "bidirectional": both, "mode": mode, **attrs}
    return Row("RNN", inputs, given, tuple(range(len(inputs))), rtol=1e-3, atol=1e-5)


def pool(data: Any, **attrs: Any) -> Row:
    return Row("Pooling", [data], attrs, (0,))


ROWS = [
    conv(r(2, 3, 8), r(4, 3, 3, seed=2)),
    conv(r(2, 4, 9), r(4, 2, 3, seed=2), False, num_group=2, stride=2, pad=1, dilate=2),
    conv(r(2, 3, 8, 7), r(4, 3, 3, 2, seed=2)),
    conv(r(2, 3, 8, 7), r(4, 3, 3, 3, seed=2), stride=(2, 1), pad=(1, 2), dilate=(1, 2)),
    conv(r(2, 4, 8, 7), r(4, 1, 3, 3, seed=2), num_group=4, pad=(1, 1)),
    conv(r(2, 4, 8, 7), r(8, 1, 3, 3, seed=2), num_group=4, stride=(2, 2)),
    conv(r(1, 2, 4, 5, 4), r(3, 2, 2, 3, 2, seed=2), pad=(1, 1, 0)),
    conv(r(2, 3, 8, 7), r(4, 3, 1, 1, seed=2), False, stride=(2, 2)),
    conv(r(2, 3, 2, 2), r(4, 3, 3, 3, seed=2)),
    conv(r(2, 3, 5, 5), r(4, 2, 3, 3, seed=2)),
    conv(r(2, 9, 8, 7), r(4, 9, 3, 3, seed=2), stride=(2, 1), pad=(1, 2), dilate=(1, 2)),
    conv(r(2, 8, 9), r(3, 8, 4, seed=2), False, stride=3),
    conv(r(1, 8, 4, 5, 4), r(3, 8, 2, 3, 2, seed=2), pad=(1, 1, 0)),
    deconv(r(2, 3, 5, 4), r(3, 8, 3, 3, seed=2), stride=(2, 2), pad=(1, 0), adj=(1, 0)),
    deconv(r(2, 3, 5), r(3, 4, 3, seed=2), stride=2),
    deconv(r(2, 3, 5, 4), r(3, 4, 3, 2, seed=2)),
    deconv(
        r(2, 4, 5, 4), r(4, 2, 3, 3, seed=2), num_group=2, stride=(2, 2), pad=(1, 1), adj=(1, 1)
    ),
    deconv(
        r(2, 3, 5, 4),
        r(3, 4, 3, 3, seed=2),
        False,
        stride=(2, 2),
        dilate=(1, 1),
    ),
    deconv(r(2, 3, 3, 3, 2), r(3, 2, 2, 2, 2, seed=2), stride=(2, 1, 2)),
    *[
        pool(data, pool_type=kind, **attrs)
        for kind in ("max", "avg", "sum")
        for data, attrs in (
            (r(2, 3, 9), {"kernel": 3, "stride": 2}),
            (r(2, 3, 9), {"kernel": (3,), "stride": (2,), "pad": (1,)}),
            (r(2, 3, 8, 7), {"kernel": (2, 2)}),
            (r(2, 3, 8, 7), {"kernel": (3, 2), "stride": (2, 2), "pad": (1, 1)}),
            (r(2, 3, 8, 7), {"kernel": (3, 3), "stride": (2, 2), "pooling_convention": "full"}),
            (
                r(2, 3, 8, 7),
                {
                    "kernel": (3, 3),
                    "stride": (2, 2),
                    "pad": (1, 1),
                    "pooling_convention": "full",
                },
            ),
            (r(2, 3, 8, 7), {"global_pool": True}),
            (r(2, 3, 8, 7), {"global_pool": True, "kernel": (2, 2)}),
            (r(1, 2, 4, 5, 4), {"kernel": (2, 2, 2), "stride": (2, 2, 2)}),
            (r(1, 2, 4, 5, 4), {"kernel": (3, 3, 3), "stride": (2, 2, 2), "pad": (1, 1, 1)}),
        )
    ],
    pool(r(2, 3, 8, 7), kernel=(3, 3), pool_type="avg", pad=(1, 1), count_include_pad=False),
    pool(r(2, 3, 9), kernel=3, pool_type="avg", pad=1, stride=2, count_include_pad=False),
    pool(
        r(1, 2, 4, 5, 4), kernel=(3, 3, 3), pool_type="avg", pad=(1, 1, 1), count_include_pad=False
    ),
    *[pool(u(2, 3, 8, 7), kernel=(3, 2), pool_type="lp", p_value=p) for p in (1, 2, 3)],
    pool(r(2, 3, 8, 7), kernel=(9, 2)),
    pool(np.zeros((1, 1, 4, 4), "float32"), kernel=(2, 2), stride=(1, 1)),
    *[
        Row("BatchNorm", [r(3, 4, 5), u(4), r(4, seed=2), r(4, seed=3), u(4)], attrs, grads, train)
        for train in (True, False)
        for attrs, grads in (
            ({}, (0, 1, 2)),
            ({"fix_gamma": False}, (0, 1, 2)),
            ({"fix_gamma": False, "use_global_stats": True, "eps": 0.1}, (0, 1, 2)),
            ({"fix_gamma": False, "output_mean_var": True}, ()),
        )
    ],
    Row("BatchNorm", [r(3, 4), u(4), r(4), r(4), u(4)], {"fix_gamma": False}, (0, 1, 2)),
    Row("BatchNorm", [r(2, 3, 4, 2), u(2), r(2), r(2), u(2)], {"axis": 3}, (0, 1, 2)),
    Row(
        "BatchNorm",
        [r(3, 4, 5), u(4), r(4, seed=2), r(4, seed=3), u(4)],
        {"momentum": 0.8},
        (0,),
        after=(3, 4),
    ),
    Row("LayerNorm", [r(3, 4, 5), u(5), r(5)], {}, (0, 1, 2)),
    Row("LayerNorm", [r(3, 4, 5), u(4), r(4)], {"axis": 1, "eps": 0.01}, (0, 1, 2)),
    Row("LayerNorm", [r(3, 5), u(5), r(5)], {"output_mean_var": True}),
    Row("GroupNorm", [r(2, 6, 5), u(3), r(3)], {"num_groups": 3}, (0, 1, 2)),
    Row("GroupNorm", [r(2, 6, 5), u(3), r(3)], {"num_groups": 3, "output_mean_var": True}),
    Row("InstanceNorm", [r(2, 3, 4, 5), u(3), r(3)], {}, (0, 1, 2)),
    *[
        Row("L2Normalization", [r(2, 3, 4, 2)], {"mode": mode, "eps": 1e-3}, (0,))
        for mode in ("instance", "channel", "spatial")
    ],
    Row("L2Normalization", [r(2, 3)], {}, (0,)),
    Row("LRN", [r(2, 6, 3, 3)], {"nsize": 3, "alpha": 0.1, "beta": 0.6, "knorm": 1.5}, (0,)),
    Row("moments", [r(2, 3, 4)], {"axes": (0, 2)}, (0,)),
    Row("moments", [r(2, 3, 4)], {"axes": (1,), "keepdims": True}, (0,)),
    *[
        rnn(mode, layers, both, **attrs)
        for mode in ("rnn_relu", "rnn_tanh", "gru", "lstm")
        for layers, both in ((1, False), (1, True), (2, False), (2, True))
        for attrs in ({}, {"state_outputs": True})
    ],
]

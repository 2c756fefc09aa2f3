# SPDX-License-Identifier: Apache-2.0
"""Boxes, attention, loops, densities, positions."""

from typing import Any

import numpy as np

from tests.reference.rows.base import Row, i, r, u


def boxes(*shape: int, seed: int = 1) -> Any:
    """Corner boxes in [0, 2]."""
    low = u(*shape, 2, low=0.0, high=1.0, seed=seed)
    return np.concatenate([low, low + u(*shape, 2, low=0.1, high=1.0, seed=seed + 9)], axis=-1)


def scored(*shape: int) -> Any:
    """(class, score, box)."""
    ids = i(*shape, 1, low=0, high=3, seed=4)
    return np.concatenate([ids, u(*shape, 1, high=1.0, seed=5), boxes(*shape)], axis=-1)


def anchors(count: int) -> Any:
    return np.clip(boxes(1, count) / 2, 0, 1)


S = u(4, 3)
TRUTH = np.array(
    [[[1, 0.1, 0.1, 0.5, 0.6], [0, 0.3, 0.2, 0.9, 0.7]], [[2, 0.2, 0.3, 0.6, 0.9], [-1] * 5]],
    "float32",
)
P = np.exp(r(2, 4, 12))
P = P / P.sum(1, keepdims=True)
ROIS = np.array([[0, 0.5, 1.2, 5.5, 4.1], [1, 2, 2, 6.5, 7]], "float32")
ROWS = [
    *[
        Row("contrib.MultiBoxPrior", [r(1, 3, 2, 3)], attrs)
        for attrs in (
            {},
            {"sizes": (0.5, 0.25), "ratios": (1, 2, 0.5)},
            {"sizes": (0.5,), "ratios": (2, 1), "clip": True, "steps": (0.4, 0.3)},
            {"sizes": 0.5, "offsets": (0.2, 0.7)},
        )
    ],
    *[
        Row("contrib.MultiBoxTarget", [anchors(12), TRUTH, r(2, 4, 12)], attrs, rtol=1e-3)
        for attrs in (
            {},
            {"overlap_threshold": 0.2},
            {"negative_mining_ratio": 2.0, "negative_mining_thresh": 0.4, "overlap_threshold": 0.3},
            {"negative_mining_ratio": 1.0, "minimum_negative_samples": 5, "ignore_label": -2.0},
        )
    ],
    *[
        Row("contrib.MultiBoxDetection", [P.astype("float32"), r(2, 48) * 0.5, anchors(12)], attrs)
        for attrs in (
            {},
            {"nms_threshold": 0.2, "threshold": 0.3},
            {"force_suppress": True, "nms_threshold": 0.3, "clip": False},
            {"nms_topk": 4, "background_id": 2},
        )
    ],
    *[
        Row(
            "contrib.ROIAlign",
            [r(2, 4, 8, 7), ROIS],
            {"pooled_size": (2, 2), **attrs},
            (0,),
            rtol=1e-3,
        )
        for attrs in (
            {"spatial_scale": 1.0},
            {"spatial_scale": 0.5, "sample_ratio": 2},
            {"spatial_scale": 1.0, "aligned": True, "sample_ratio": 2},
            {"spatial_scale": 1.0, "position_sensitive": True, "sample_ratio": 2},
        )
    ],
    Row("contrib.box_iou", [boxes(4), boxes(3, seed=2)], {}),
    Row("contrib.box_iou", [boxes(2, 4), boxes(3, seed=2)], {"format": "center"}),
    *[
        Row("contrib.box_nms", [scored(8)], attrs, (0,))
        for attrs in (
            {},
            {"overlap_thresh": 0.2},
            {"overlap_thresh": 0.2, "id_index": 0},
            {"overlap_thresh": 0.2, "id_index": 0, "force_suppress": True},
            {"overlap_thresh": 0.3, "valid_thresh": 0.5},
            {"overlap_thresh": 0.3, "topk": 3},
            {"overlap_thresh": 0.2, "id_index": 0, "background_id": 1},
            {"overlap_thresh": 0.2, "in_format": "center", "out_format": "corner"},
        )
    ],
    Row("contrib.box_nms", [scored(2, 6)], {"overlap_thresh": 0.2}),
    Row("contrib.box_non_maximum_suppression", [scored(6)], {"overlap_thresh": 0.2}),
    *[
        Row("contrib.bipartite_matching", [u(4, 3, high=1.0)], {"threshold": t, **more})
        for t, more in ((1e-12, {}), (0.5, {}), (0.5, {"is_ascend": True}), (1e-12, {"topk": 2}))
    ],
    Row(
        "contrib.box_encode",
        [
            i(2, 4, high=2),
            i(2, 4, high=3),
            boxes(2, 4),
            boxes(2, 3, seed=2),
            np.array([0, 0, 0.1, 0], "float32"),
            np.array([0.1, 0.1, 0.2, 0.2], "float32"),
        ],
        {},
    ),
    Row("contrib.box_decode", [r(2, 4, 4), boxes(1, 4)], {"std0": 0.1, "std2": 0.2}),
    Row("contrib.box_decode", [r(2, 4, 4), boxes(1, 4)], {"format": "corner", "clip": 0.5}),
    Row("contrib.interleaved_matmul_selfatt_qk", [r(3, 2, 12)], {"heads": 2}, (0,)),
    Row(
        "contrib.interleaved_matmul_selfatt_valatt", [r(3, 2, 12), r(4, 3, 3)], {"heads": 2}, (0, 1)
    ),
    Row("contrib.interleaved_matmul_encdec_qk", [r(3, 2, 4), r(5, 2, 8)], {"heads": 2}, (0, 1)),
    Row("contrib.interleaved_matmul_encdec_valatt", [r(5, 2, 8), r(4, 3, 5)], {"heads": 2}, (0, 1)),
    Row(
        "foreach",
        [r(3, 2), r(2, seed=2)],
        call=lambda mx, x, s: list(mx.nd.contrib.foreach(lambda d, t: (d + t, d * t), x, s)),
        grads=(0, 1),
    ),
    Row(
        "foreach of lists",
        [r(3, 2), r(3, 1), r(2, seed=2)],
        call=lambda mx, x, y, s: (lambda o, t: [*o, *t])(
            *mx.nd.contrib.foreach(lambda d, t: ([d[0] * t[0], d[1]], [d[0] + t[0]]), [x, y], [s])
        ),
        grads=(0, 1, 2),
    ),
    Row(
        "while_loop",
        [np.array([1.0], "float32"), np.array([0.0], "float32")],
        call=lambda mx, a, b: (lambda o, v: [o[0].slice_axis(axis=0, begin=0, end=3), *v])(
            *mx.nd.contrib.while_loop(
                cond=lambda a, b: a < 4,
                func=lambda a, b: ([a + b], [a + 1, b + a]),
                loop_vars=(a, b),
                max_iterations=6,
            )
        ),
        grads=(0, 1),
    ),
    Row(
        "cond",
        [np.array([1.0], "float32"), r(2)],
        call=lambda mx, a, b: mx.nd.contrib.cond(a > 0, lambda: b * 2, lambda: b + 1),
        grads=(1,),
    ),
    *[
        Row(f"random_pdf_{name}", [sample, *parameters], {"is_log": log}, (0, *grads), rtol=1e-3)
        for log in (False, True)
        for name, sample, parameters, grads in (
            ("uniform", u(2, 3, low=0.2, high=0.8), [u(2, high=0.2), u(2, low=1.0)], (1, 2)),
            ("normal", r(2, 3), [r(2), u(2)], (1, 2)),
            ("gamma", u(2, 3), [u(2), u(2, seed=2)], (1, 2)),
            ("exponential", u(2, 3), [u(2)], (1,)),
        )
    ],
    *[
        Row(f"random_pdf_{name}", [i(2, 3), *parameters], {}, rtol=1e-3)
        for name, parameters in (
            ("poisson", [u(2)]),
            ("negative_binomial", [u(2), u(2, high=0.9)]),
            ("generalized_negative_binomial", [u(2), u(2, high=0.9)]),
        )
    ],
    Row(
        "random_pdf_dirichlet",
        [S / S.sum(1, keepdims=True), u(4, 3, seed=3)],
        {},
        (0, 1),
        rtol=1e-3,
    ),
    Row(
        "contrib.DeformableConvolution",
        [r(2, 4, 5, 6), r(2, 18, 5, 6, seed=2) * 0.7, r(3, 4, 3, 3, seed=3), r(3)],
        {"kernel": (3, 3), "num_filter": 3, "pad": (1, 1)},
        (0, 1, 2, 3),
        rtol=5e-3,
        atol=1e-4,
    ),
    Row(
        "contrib.DeformableConvolution",
        [r(1, 4, 6, 6), r(1, 16, 3, 3, seed=2) * 0.7, r(2, 2, 2, 2, seed=3)],
        {
            "kernel": (2, 2),
            "num_filter": 2,
            "stride": (2, 2),
            "num_group": 2,
            "num_deformable_group": 2,
            "no_bias": True,
        },
        (0, 1, 2),
        rtol=5e-3,
        atol=1e-4,
    ),
    Row("contrib.index_array", [r(2, 3)], {}),
    Row("contrib.index_array", [r(2, 3, 2)], {"axes": (2, 0)}),
    Row("contrib.index_copy", [r(4, 3), np.array([2, 0], "int32"), r(2, 3)], {}, (0, 2)),
    Row("contrib.boolean_mask", [r(4, 3), np.array([1, 0, 1, 0], "float32")], {}, (0,)),
    Row("contrib.allclose", [r(3), r(3)], {}),
    Row("contrib.allclose", [r(3), r(3) + 1], {}),
]

# SPDX-License-Identifier: Apache-2.0
"""Rows of attention, densities, boxes."""

import numpy as np

from tests.ops.case import Case, p, unit, x

_S = p(2, 3)
_BOXES = np.array([[0, 0.9, 0, 0, 1, 1], [0, 0.5, 0, 0, 1, 1.1], [0, 0.7, 2, 2, 3, 3.0]])
CASES = [
    Case("_contrib_interleaved_matmul_selfatt_qk", [x(2, 1, 6) / 3], {"heads": 2}),
    Case("_contrib_interleaved_matmul_selfatt_valatt", [x(2, 1, 6), x(2, 2, 2)], {"heads": 2}),
    Case("_contrib_interleaved_matmul_encdec_qk", [x(2, 1, 2), x(3, 1, 4)], {"heads": 2}),
    Case("_contrib_interleaved_matmul_encdec_valatt", [x(3, 1, 4), x(2, 2, 3)], {"heads": 2}),
    Case(
        "_contrib_ROIAlign",
        [x(1, 4, 4, 4), np.array([[0, 0.2, 0.6, 3, 3.1]])],
        {"pooled_size": (2, 2), "spatial_scale": 1.0},
        [0],
    ),
    Case(
        "_contrib_PSROIPooling",
        [x(1, 4, 4, 4), np.array([[0, 0.2, 0.6, 3, 3.1]])],
        {"pooled_size": 2, "output_dim": 1, "spatial_scale": 0.8},
        [0],
    ),
    Case(
        "_contrib_DeformablePSROIPooling",
        [x(1, 4, 4, 4), np.array([[0, 0, 1, 2, 2.0]]), unit(1, 2, 2, 2)],
        {
            "pooled_size": 2,
            "output_dim": 1,
            "group_size": 2,
            "spatial_scale": 0.9,
            "trans_std": 0.13,
        },
        [0, 2],
        twice=[2],
    ),
    Case(
        "_hawkes",
        [
            p(2, 2),
            p(2) / 4,
            p(2),
            p(2, 2),
            np.array([[0.3, 0.5], [0.2, 0.4]]),
            np.array([[0, 1], [1, 1]]),
            np.array([2, 1]),
            np.array([1.5, 2.0]),
        ],
        {},
        [0, 1, 2],
    ),
    Case(
        "_contrib_DeformableConvolution",
        [x(1, 2, 3, 3), unit(1, 8, 2, 2) * 0.6, x(2, 2, 2, 2), x(2)],
        {"kernel": (2, 2), "num_filter": 2},
        twice=[1],
    ),
    Case(
        "_contrib_ModulatedDeformableConvolution",
        [x(1, 2, 3, 3), unit(1, 8, 2, 2) * 0.6, p(1, 4, 2, 2), x(2, 1, 2, 2)],
        {"kernel": (2, 2), "num_filter": 2, "num_group": 2, "no_bias": True},
        twice=[2],
    ),
    Case("_contrib_fft", [x(2, 3)]),
    Case("_contrib_ifft", [x(2, 6)]),
    Case(
        "_contrib_count_sketch",
        [x(2, 4), np.array([0, 2, 0, 1]), np.array([1, -1, 1, 1])],
        {"out_dim": 3},
        [0],
    ),
    Case("_contrib_box_nms", [_BOXES]),
    Case("_random_pdf_uniform", [p(2, 3), p(2), p(2) + 4]),
    Case("_random_pdf_normal", [x(2, 3) / 2, x(2) / 2, p(2) + 0.5]),
    Case("_random_pdf_gamma", [p(2, 3), p(2) + 1, p(2)]),
    Case("_random_pdf_exponential", [p(2, 3), p(2)]),
    Case("_random_pdf_poisson", [p(2, 3), p(2)]),
    Case("_random_pdf_negative_binomial", [p(2, 3), p(2) + 1, np.abs(unit(2)) * 0.8 + 0.1]),
    Case("_random_pdf_generalized_negative_binomial", [p(2, 3), p(2), p(2)]),
    Case("_random_pdf_dirichlet", [_S / _S.sum(1, keepdims=True), p(2, 3) + 0.5]),
]

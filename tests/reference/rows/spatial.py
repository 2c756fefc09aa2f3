# SPDX-License-Identifier: Apache-2.0
"""Images: enlarging, grids, regions; sequences."""

import numpy as np

from tests.reference.rows.base import Row, i, r, u

AFFINE = np.array([[1, 0.2, 0.1, -0.1, 0.9, 0], [0.5, 0, 0.3, 0.2, 1.4, -0.2]], "float32")
ROIS = np.array(
    [[0, 0, 0, 4, 4], [1, 1, 2, 6, 5], [0, 3, 3, 3, 3], [1, -2, 1, 9, 9], [0, 5, 5, 2, 2]],
    "float32",
)
LENGTHS = np.array([1, 4, 2], "float32")
ROWS = [
    Row("UpSampling", [r(2, 3, 2, 3)], {"scale": 2, "sample_type": "nearest"}, (0,)),
    Row(
        "UpSampling", [r(1, 2, 2, 3), r(1, 1, 4, 6)], {"scale": 2, "sample_type": "nearest"}, (0, 1)
    ),
    Row(
        "UpSampling",
        [r(1, 2, 2, 3), r(1, 2, 4, 6)],
        {"scale": 2, "sample_type": "nearest", "multi_input_mode": "sum"},
        (0, 1),
    ),
    *[
        Row(
            "UpSampling",
            [r(2, 3, 3, 4), r(3, 1, k, k)],
            {"scale": scale, "sample_type": "bilinear", "num_filter": 3},
            (0, 1),
        )
        for scale, k in ((2, 4), (3, 5))
    ],
    *[
        Row("contrib.BilinearResize2D", [r(2, 3, 4, 5)], attrs, (0,))
        for attrs in (
            {"height": 7, "width": 3},
            {"height": 7, "width": 8, "align_corners": False},
            {"scale_height": 2.0, "scale_width": 1.5},
            {"scale_height": 2.0, "scale_width": 2.0, "mode": "odd_scale"},
            *({"mode": m} for m in ("to_even_down", "to_even_up", "to_odd_down", "to_odd_up")),
        )
    ],
    Row("contrib.BilinearResize2D", [r(2, 3, 4, 5), r(1, 1, 6, 2)], {"mode": "like"}),
    *[
        Row("contrib.AdaptiveAvgPooling2D", [r(2, 3, 7, 5)], attrs, (0,))
        for attrs in ({}, {"output_size": 3}, {"output_size": (2, 4)}, {"output_size": (9, 5)})
    ],
    Row("GridGenerator", [AFFINE], {"transform_type": "affine", "target_shape": (3, 4)}, (0,)),
    Row("GridGenerator", [r(2, 2, 3, 4)], {"transform_type": "warp"}, (0,)),
    Row("BilinearSampler", [r(2, 3, 4, 5), u(2, 2, 3, 2, low=-1.2, high=1.2)], {}, (0, 1)),
    Row(
        "SpatialTransformer",
        [r(2, 3, 4, 5), AFFINE],
        {"target_shape": (3, 4), "transform_type": "affine", "sampler_type": "bilinear"},
        (0, 1),
    ),
    Row("ROIPooling", [r(2, 3, 8, 7), ROIS], {"pooled_size": (2, 3), "spatial_scale": 1.0}, (0,)),
    Row("ROIPooling", [r(2, 3, 8, 7), ROIS], {"pooled_size": (2, 2), "spatial_scale": 0.7}, (0,)),
    *[
        Row("Correlation", [r(2, 3, 8, 7), r(2, 3, 8, 7, seed=2)], attrs, (0, 1))
        for attrs in (
            {},
            {"kernel_size": 3, "max_displacement": 2, "pad_size": 2},
            {"kernel_size": 1, "max_displacement": 2, "stride1": 2, "stride2": 2, "pad_size": 2},
            {"kernel_size": 1, "max_displacement": 1, "pad_size": 1, "is_multiply": False},
        )
    ],
    Row("Crop", [r(1, 2, 5, 6)], {"h_w": (3, 2), "offset": (1, 2), "num_args": 1}, (0,)),
    Row("Crop", [r(1, 2, 5, 6)], {"h_w": (3, 2), "center_crop": True, "num_args": 1}, (0,)),
    Row("Crop", [r(1, 2, 5, 6), r(1, 1, 2, 4)], {"offset": (1, 1), "num_args": 2}, (0,)),
    Row("im2col", [r(2, 3, 5, 6)], {"kernel": (2, 3), "stride": (2, 1), "pad": (1, 1)}, (0,)),
    Row("im2col", [r(2, 3, 5, 6)], {"kernel": (2, 2), "dilate": (2, 2)}, (0,)),
    Row("col2im", [r(2, 12, 12)], {"output_size": (4, 5), "kernel": (2, 2)}, (0,)),
    *[
        Row("SequenceMask", [r(4, 3, 2), LENGTHS], {"use_sequence_length": True, **attrs}, (0,))
        for attrs in ({}, {"value": -1.0})
    ],
    Row("SequenceMask", [r(3, 4, 2), LENGTHS], {"use_sequence_length": True, "axis": 1}, (0,)),
    Row("SequenceMask", [r(4, 3, 2)], {}, (0,)),
    Row("SequenceLast", [r(4, 3, 2), LENGTHS], {"use_sequence_length": True}, (0,)),
    Row("SequenceLast", [r(3, 4, 2), LENGTHS], {"use_sequence_length": True, "axis": 1}, (0,)),
    Row("SequenceReverse", [r(4, 3, 2), LENGTHS], {"use_sequence_length": True}, (0,)),
    Row("SequenceReverse", [r(4, 3, 2)], {}, (0,)),
    Row("depth_to_space", [i(2, 8, 2, 3, high=99)], {"block_size": 2}, (0,)),
    Row("space_to_depth", [i(2, 2, 4, 6, high=99)], {"block_size": 2}, (0,)),
]

# SPDX-License-Identifier: Apache-2.0
"""Rows of operators on images and on sequences."""

import numpy as np

from tests.ops.case import Case, unit, x

_LENGTHS = np.array([1.0, 3.0])
_USE = {"use_sequence_length": True}
_ROIS = np.array([[0, 0, 0, 2, 3], [0, 1, 1, 3, 3.0]])
CASES = [
    Case("UpSampling", [x(1, 2, 2, 2), x(1, 1, 4, 4)], {"scale": 2, "sample_type": "nearest"}),
    Case("UpSampling", [x(1, 2, 2, 2), x(2, 1, 4, 4)], {"scale": 2, "sample_type": "bilinear"}),
    Case("_contrib_BilinearResize2D", [x(1, 2, 3, 2)], {"height": 4, "width": 3}),
    Case("_contrib_AdaptiveAvgPooling2D", [x(1, 2, 3, 4)], {"output_size": (2, 3)}),
    Case("GridGenerator", [x(2, 6)], {"transform_type": "affine", "target_shape": (2, 3)}),
    Case("GridGenerator", [x(1, 2, 2, 3)], {"transform_type": "warp"}),
    Case("BilinearSampler", [x(1, 2, 3, 4), unit(1, 2, 2, 2) * 0.9]),
    Case("SpatialTransformer", [x(1, 1, 4, 4), unit(1, 6) * 0.5], {"target_shape": (2, 3)}),
    Case("ROIPooling", [x(1, 2, 4, 4), _ROIS], {"pooled_size": (2, 2), "spatial_scale": 1.0}, [0]),
    Case(
        "Correlation",
        [x(1, 2, 4, 4), x(1, 2, 4, 4)],
        {"kernel_size": 3, "pad_size": 2, "stride1": 2},
    ),
    Case(
        "Correlation", [x(1, 2, 3, 3), x(1, 2, 3, 3) + 0.07], {"is_multiply": False, "pad_size": 1}
    ),
    Case("_image_normalize", [x(3, 2, 2)], {"mean": (0.1, 0.2, 0.3), "std": 2.0}),
    Case("_image_crop", [x(3, 4, 2)], {"x": 1, "y": 0, "width": 2, "height": 2}),
    Case("_image_flip_left_right", [x(2, 3, 2)]),
    Case("_image_flip_top_bottom", [x(2, 3, 2)]),
    Case("Crop", [x(1, 1, 3, 4)], {"h_w": (2, 2), "offset": (1, 1)}),
    Case("SequenceMask", [x(4, 2, 2), _LENGTHS], {**_USE, "value": -1.0}, [0]),
    Case("SequenceLast", [x(4, 2, 2), _LENGTHS], _USE, [0]),
    Case("SequenceReverse", [x(4, 2, 2), _LENGTHS], _USE, [0]),
]

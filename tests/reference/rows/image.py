# SPDX-License-Identifier: Apache-2.0
"""Images without chance; with chance where the factor is fixed."""

import numpy as np

from tests.reference.rows.base import Row, i, u

U8 = i(5, 6, 3, low=0, high=256, dtype="uint8")
F32 = u(5, 6, 3, low=0.0, high=255.0)
BATCH = i(2, 5, 6, 3, low=0, high=256, dtype="uint8")
ROWS = [
    Row("image.to_tensor", [U8], {}),
    Row("image.to_tensor", [BATCH], {}),
    Row("image.to_tensor", [F32], {}),
    Row("image.normalize", [u(3, 4, 5)], {"mean": (0.1, 0.2, 0.3), "std": (1, 2, 3)}, (0,)),
    Row("image.normalize", [u(2, 3, 4, 5)], {"mean": 0.5, "std": 2}, (0,)),
    Row("image.crop", [U8], {"x": 1, "y": 2, "width": 3, "height": 2}),
    Row("image.crop", [BATCH], {"x": 1, "y": 2, "width": 3, "height": 2}),
    Row("image.crop", [F32], {"x": 1, "y": 2, "width": 3, "height": 2}, (0,)),
    Row("image.crop", [U8], {"x": 4, "y": 2, "width": 3, "height": 2}),
    *[
        Row(f"image.{n}", [a], {})
        for n in ("flip_left_right", "flip_top_bottom")
        # of an odd height the real one leaves the middle row out
        for a in (U8[:4], F32[:4])
    ],
    *[
        Row("image.resize", [a], {"size": s}, atol=1.01, rtol=0.0)
        for a in (U8, BATCH)
        for s in ((4, 7), 3, (12, 10))
    ],
    Row("image.resize", [F32], {"size": (9, 4)}, rtol=1e-3),
    Row("image.resize", [F32], {"size": 4, "keep_ratio": True}, rtol=1e-3),
    Row("image.resize", [U8], {"size": (12, 10), "interp": 0}),
    *[
        Row(f"image.random_{n}", [a], {"min_factor": 0.7, "max_factor": 0.7}, atol=1.01, rtol=1e-3)
        for n in ("brightness", "contrast")
        for a in (U8, F32)
    ],
    *[
        Row("image.random_hue", [a], {"min_factor": f, "max_factor": f}, atol=1.5, rtol=1e-2)
        for f in (0.1, 0.7, -0.3)
        for a in (U8, F32)
    ],
    Row("image.adjust_lighting", [F32], {"alpha": (0.1, -0.2, 0.3)}, rtol=1e-3),
    Row("image.random_lighting", [np.zeros((2, 2, 3), "float32")], {"alpha_std": 0.0}),
]

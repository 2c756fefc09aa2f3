# SPDX-License-Identifier: Apache-2.0
"""Resizing and turning by the real MXNet 1.9.1: images.npz.

peer/bin/python tests/reference/images.py tests/reference   (peer: see generate.py)
"""

import sys
from pathlib import Path

import mxnet as mx
import numpy as np

if __name__ == "__main__":
    rng = np.random.RandomState(0)
    image = mx.nd.array(rng.randint(0, 256, (6, 9, 3)), dtype="uint8")
    floats = mx.nd.array(rng.rand(2, 6, 9))
    found = {"image": image.asnumpy(), "floats": floats.asnumpy()}
    for interp in range(5):
        for w, h in ((4, 5), (13, 11), (3, 3)):
            out = mx.image.imresize(image, w, h, interp=interp)
            found[f"resize_{interp}_{w}_{h}"] = out.asnumpy()
    for angle in (30, -45, 90):
        for zoom_in, zoom_out in ((0, 0), (1, 0), (0, 1)):
            out = mx.image.imrotate(floats, angle, bool(zoom_in), bool(zoom_out))
            found[f"rotate_{angle}_{zoom_in}_{zoom_out}"] = out.asnumpy()
    transforms = mx.gluon.data.vision.transforms
    found["tensor"] = transforms.ToTensor()(image).asnumpy()
    normal = transforms.Normalize((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    found["normal"] = normal(mx.nd.array(found["tensor"])).asnumpy()
    found["centre"] = transforms.CenterCrop((4, 3))(image).asnumpy()
    found["crop"] = transforms.CropResize(2, 1, 4, 3)(image).asnumpy()
    found["ratio"] = np.array(transforms.Resize(4, keep_ratio=True)(image).shape)
    np.savez_compressed(Path(sys.argv[1]) / "images.npz", **found)

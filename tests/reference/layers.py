# SPDX-License-Identifier: Apache-2.0
"""Runs the table of tests/gluon/cases.py in the real MXNet 1.9.1: layers.npz, layers.json.

peer/bin/python tests/reference/layers.py tests/reference   (peer: see generate.py)
"""

import json
import sys
from pathlib import Path

import mxnet as mx
import mxnet.gluon.contrib.cnn
import mxnet.gluon.contrib.nn
import mxnet.gluon.contrib.rnn
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "gluon"))
import cases

if __name__ == "__main__":
    values, texts = {}, {}
    for case in cases.CASES:
        found = cases.run(mx, case)
        texts[case.name] = found.pop("text")
        values.update({f"{case.name}/{key}": value for key, value in found.items()})
    folder = Path(sys.argv[1])
    np.savez_compressed(folder / "layers.npz", **values)
    (folder / "layers.json").write_text(json.dumps(texts, indent=0, sort_keys=True))

# SPDX-License-Identifier: Apache-2.0
"""Files of every version and storage, and what the real MXNet 1.9.1 reads from them.

``python tests/reference/generate_files.py tests/reference`` with MXNet installed. Versions that
it no longer writes are packed here from their layout, and it is asked to read them.
"""

import json
import struct
import sys
from pathlib import Path

import mxnet as mx
import numpy as np

nd, sparse = mx.nd, mx.nd.sparse
DTYPES = ("float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool")


def arrays() -> dict:
    found = {name: nd.array(np.array([[0, 1, 0], [2, 0, 101]]), dtype=name) for name in DTYPES}
    for name in ("float32", "float64", "float16", "int32", "int64", "uint8"):
        table = nd.array(np.array([[0, 1, 0], [0, 0, 0], [2, 0, 101]]), dtype=name)
        found[f"csr:{name}"] = table.tostype("csr")
        found[f"rows:{name}"] = table.tostype("row_sparse")
    found["csr:empty"] = sparse.zeros("csr", (2, 3))
    found["rows:empty"] = sparse.zeros("row_sparse", (2, 3, 4))
    found["rows:deep"] = sparse.row_sparse_array((np.arange(6).reshape(2, 1, 3), [0, 2]), (4, 1, 3))
    found["naïve"] = nd.ones((1, 1, 1, 1, 1))
    return found


def packed(body: bytes, count: int) -> bytes:
    """A file of `count` arrays without names."""
    return struct.pack("<QQQ", 0x112, 0, count) + body + struct.pack("<Q", 0)


def before_versions() -> bytes:
    """No magic number; dimensions of 32 bits."""
    body = struct.pack("<I2I", 2, 2, 3) + struct.pack("<iii", 1, 0, 0)
    body += np.arange(6, dtype="<f4").tobytes()
    body += (
        struct.pack("<II", 1, 4) + struct.pack("<iii", 2, 3, 4) + struct.pack("<4i", 5, -6, 7, 8)
    )
    return packed(body, 2)


def version_1() -> bytes:
    """Dimensions of 64 bits, no storage type."""
    magic = 0xF993FAC8
    body = struct.pack("<Ii2q", magic, 2, 2, 3) + struct.pack("<iii", 1, 0, 1)
    body += np.arange(6, dtype="<f8").tobytes()
    body += struct.pack("<Iiq", magic, 1, 2) + struct.pack("<iii", 1, 0, 3) + bytes([9, 255])
    return packed(body, 2)


def described(loaded: object) -> object:
    """What a file holds, as plain data."""
    if isinstance(loaded, dict):
        return {name: described(array) for name, array in loaded.items()}
    if isinstance(loaded, list):
        return [described(array) for array in loaded]
    if loaded.shape == () or 0 in loaded.shape:
        values: object = []
    else:
        values = loaded.asnumpy().astype("float64").tolist()
    return {
        "stype": loaded.stype,
        "shape": list(loaded.shape),
        "dtype": np.dtype(loaded.dtype).name,
        "values": values,
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    nd.save(str(folder / "stored.params"), arrays())
    (folder / "v0.params").write_bytes(before_versions())
    (folder / "v1.params").write_bytes(version_1())
    answers = {
        name: described(nd.load(str(folder / name)))
        for name in ("stored.params", "v0.params", "v1.params")
    }
    with mx.util.np_shape(True):
        scalars = [nd.array(np.array(2.5)), nd.zeros((0, 3)), nd.ones((2,))]
        nd.save(str(folder / "v3.params"), scalars)
        answers["v3.params"] = described(nd.load(str(folder / "v3.params")))
        answers["v3.params"][0]["values"] = 2.5
    (folder / "files.json").write_text(json.dumps(answers, indent=1) + "\n")

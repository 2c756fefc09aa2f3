# SPDX-License-Identifier: Apache-2.0
"""Files of arrays: every storage and version, MXNet's bytes both ways, damaged sparse files."""

import json
import random
import struct
from pathlib import Path

import numpy as np
import pytest

from kvtrain import nd
from kvtrain.errors import FormatError, OperatorError

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
ANSWERS = json.loads((REFERENCE / "files.json").read_text())


def described(loaded):
    if isinstance(loaded, dict):
        return {name: described(array) for name, array in loaded.items()}
    if isinstance(loaded, list):
        return [described(array) for array in loaded]
    values = loaded.asnumpy().astype("float64").tolist()
    return {
        "stype": loaded.stype,
        "shape": list(loaded.shape),
        "dtype": np.dtype(loaded.dtype).name,
        "values": [] if 0 in loaded.shape else values,
    }


@pytest.mark.parametrize("name", ANSWERS)
def test_files_are_read_as_mxnet_reads_them(name: str) -> None:
    loaded = nd.load(str(REFERENCE / name))
    assert described(loaded) == ANSWERS[name]
    assert described(nd.load_frombuffer((REFERENCE / name).read_bytes())) == ANSWERS[name]
    for array in loaded.values() if isinstance(loaded, dict) else loaded:
        if array.stype != "default":
            array.check_format()


def test_written_are_the_bytes_that_mxnet_writes(tmp_path: Path) -> None:
    name = "stored.params"
    nd.save(str(tmp_path / name), nd.load(str(REFERENCE / name)))
    assert (tmp_path / name).read_bytes() == (REFERENCE / name).read_bytes()
    # arrays without dimensions or elements are of version 3 there too
    scalar, nothing, _ = nd.load(str(REFERENCE / "v3.params"))
    nd.save(str(tmp_path / name), [scalar, nothing])
    start = 16 + 8
    written = (tmp_path / name).read_bytes()[start:-8]
    assert (REFERENCE / "v3.params").read_bytes()[start:].startswith(written)


def test_what_mxnet_has_no_arrays_for_comes_back_too(tmp_path: Path) -> None:
    arrays = [
        nd.array([1, -2], dtype="int16"),
        nd.array([1, 2], dtype="uint32"),
        nd.zeros((0, 3)),
        nd.array([1], dtype="uint64"),
    ]
    nd.save(tmp_path / "file", arrays)
    back = nd.load(tmp_path / "file")
    assert [(a.dtype, a.shape) for a in back] == [(a.dtype, a.shape) for a in arrays]
    assert back[0].asnumpy().tolist() == [1, -2]
    nd.save(tmp_path / "file", {})
    assert nd.load(tmp_path / "file") == []
    single = nd.sparse.csr_matrix([[0, 1]])
    nd.save(tmp_path / "file", single)
    assert nd.load(tmp_path / "file")[0].stype == "csr"


def test_bfloat16_is_read_as_float32() -> None:
    head = struct.pack("<QQQ", 0x112, 0, 1) + struct.pack("<Iiiq", 0xF993FAC9, 0, 1, 2)
    values = struct.pack("<iii", 1, 0, 12) + struct.pack("<2H", 0x3F80, 0xC040)
    (array,) = nd.load_frombuffer(head + values + struct.pack("<Q", 0))
    assert array.dtype is np.float32
    assert array.asnumpy().tolist() == [1.0, -3.0]


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (3, OperatorError, "int is no NDArray, list or dict"),
        ({1: nd.ones((1,))}, TypeError, "keys of a dict must be str"),
        ({"a": 1}, TypeError, "must be an NDArray, not int"),
        ([np.ones(1)], TypeError, "must be an NDArray, not ndarray"),
    ],
)
def test_what_cannot_be_saved_leaves_the_file_alone(data, error, text: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"kept")
    with pytest.raises(error, match=text):
        nd.save(path, data)
    assert path.read_bytes() == b"kept"


def sparse_file(magic=0xF993FAC9, stype=1, **changed) -> bytes:
    """One row_sparse array (6, 2) with rows 1 and 4, or what `changed` makes of it."""
    part = {
        "stored": struct.pack("<i2q", 2, 2, 2),
        "shape": struct.pack("<i2q", 2, 6, 2),
        "type": struct.pack("<iii", 1, 0, 0),
        "ids_type": struct.pack("<i", 6),
        "ids_shape": struct.pack("<iq", 1, 2),
        "values": struct.pack("<4f", 1, 2, 3, 4),
        "ids": struct.pack("<2q", 1, 4),
        **changed,
    }
    head = struct.pack("<QQQ", 0x112, 0, 1) + struct.pack("<Ii", magic, stype)
    return head + b"".join(part.values()) + struct.pack("<Q", 0)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (sparse_file(ids=struct.pack("<2q", 1, 6)), "less than 6"),
        (sparse_file(ids=struct.pack("<2q", -1, 4)), "non-negative"),
        (sparse_file(ids=struct.pack("<2q", 4, 1)), "ascending"),
        (sparse_file(ids_type=struct.pack("<i", 0)), "type code 0, which are no whole numbers"),
        (sparse_file(ids_type=struct.pack("<i", 99)), "type code 99; known: 0 to 12"),
        (sparse_file(ids_shape=struct.pack("<iq", 1, 2**61)), "bytes are wanted|a shape of"),
        (sparse_file(stored=struct.pack("<i2q", 2, 2**40, 2)), "bytes are wanted"),
        (sparse_file(stored=struct.pack("<i2q", 2, -1, 2)), r"a shape of \(-1, 2\)"),
        (sparse_file(stored=struct.pack("<i", 99)), "99 dimensions"),
        (sparse_file(shape=struct.pack("<i2q", 2, 2**62, 2**62)), "a shape of"),
        (sparse_file(shape=struct.pack("<i2q", 2, 6, 3)), "do not make a row_sparse"),
        (sparse_file(shape=struct.pack("<i", 0)), "without dimensions|do not make|bytes"),
        (sparse_file(stype=3), "storage type 3; known: 0 dense"),
        (sparse_file(stype=-1), "storage type -1"),
        (sparse_file()[:-9], "bytes are wanted"),
        (sparse_file(stype=2), "is it a .params file"),
    ],
)
def test_sparse_arrays_that_cannot_be_are_refused(content: bytes, text: str) -> None:
    with pytest.raises(FormatError, match=text):
        nd.load_frombuffer(content)


def test_the_file_that_the_refused_ones_come_from_is_good() -> None:
    (array,) = nd.load_frombuffer(sparse_file())
    assert array.indices.asnumpy().tolist() == [1, 4]
    assert array.data.asnumpy().tolist() == [[1, 2], [3, 4]]
    (narrow,) = nd.load_frombuffer(
        sparse_file(ids_type=struct.pack("<i", 4), ids=struct.pack("<2i", 1, 4))
    )
    assert narrow.indices.asnumpy().tolist() == [1, 4]


def test_damaged_sparse_files_are_refused_or_give_arrays_that_are_whole() -> None:
    whole = (REFERENCE / "stored.params").read_bytes()
    rng = random.Random(11)
    refused = 0
    for turn in range(1200):
        content = bytearray(whole)
        if turn % 3 == 0:
            content = content[: rng.randrange(len(whole))]
        else:
            for _ in range(rng.randint(1, 3)):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        try:
            loaded = nd.load_frombuffer(bytes(content))
        except FormatError:
            refused += 1
            continue
        for array in loaded.values() if isinstance(loaded, dict) else loaded:
            if array.stype != "default":
                array.check_format()
                assert array.data.shape[0] == array.indices.shape[0]
            else:
                assert array.asnumpy().shape == array.shape
    assert 500 < refused < 1200


@pytest.mark.parametrize("buf", [None, "text", 3])
def test_buffers_are_bytes(buf: object) -> None:
    with pytest.raises(TypeError, match="must be bytes"):
        nd.load_frombuffer(buf)

# SPDX-License-Identifier: Apache-2.0
"""Files of records: MXNet's bytes, damage, images."""

from __future__ import annotations

import copy
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtrain as mx
from kvtrain import recordio

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
MAGIC = struct.pack("<I", 0xCED7230A)


def test_mxnets_file_and_the_same_bytes_back(tmp_path: Path) -> None:
    with recordio.MXIndexedRecordIO(REFERENCE / "records.idx", REFERENCE / "records.rec", "r") as r:
        held = {key: r.read_idx(key) for key in r.keys}
        assert r.read_idx(40) == b"abcd" + MAGIC + b"ef"
    assert list(held) == [0, 10, 20, 30, 40, 50, 60, 70, 90, 91]
    assert held[60] == MAGIC + MAGIC + b"z"
    header, data = recordio.unpack(held[90])
    assert header == (0, 4.5, 7, 8) and data == b"payload"
    header, data = recordio.unpack(held[91])
    assert header.label.tolist() == [1.5, 2, 3] and header.flag == 3 and data == b"payload"
    again = recordio.MXIndexedRecordIO(tmp_path / "a.idx", tmp_path / "a.rec", "w")
    for key, record in held.items():
        if key == 90:
            record = recordio.pack(recordio.IRHeader(5, 4.5, 7, 8), b"payload")
        if key == 91:
            record = recordio.pack((0, np.array([1.5, 2, 3]), 7, 8), b"payload")
        again.write_idx(key, record)
    again.close()
    assert (tmp_path / "a.rec").read_bytes() == (REFERENCE / "records.rec").read_bytes()
    assert (tmp_path / "a.idx").read_bytes() == (REFERENCE / "records.idx").read_bytes()


def test_reading_in_order_reset_and_copies(tmp_path: Path) -> None:
    path = str(tmp_path / "a.rec")
    with recordio.MXRecordIO(path, "w") as writer:
        for i in range(5):
            writer.write(bytes([i]) * i)
        with pytest.raises(mx.errors.ConfigError, match="opened with 'w'"):
            writer.read()
        with pytest.raises(mx.errors.ConfigError, match="being written"):
            copy.copy(writer)
    reader = recordio.MXRecordIO(path, "r")
    assert [reader.read() for _ in range(6)] == [bytes([i]) * i for i in range(5)] + [None]
    other = copy.copy(reader)  # what a DataLoader's worker gets
    assert other.read() == b"" and other.read() == b"\1"
    reader.reset()
    assert reader.read() == b""
    other.close()
    other.close()
    with pytest.raises(mx.errors.ConfigError, match="closed"):
        other.read()
    reader.close()
    with pytest.raises(ValueError, match="Invalid flag a"):
        recordio.MXRecordIO(path, "a")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda b: b[:-3], "cut off in the record at byte 16"),
        (lambda b: b[:20], "cut off in the record at byte 16"),
        (lambda b: b[:16] + b"\0" + b[17:], "no record starts at byte 16"),
        (lambda b: b[:16] + recordio._part(2, b"abcd"), "no record starts at byte 16"),
    ],
)
def test_damaged_files(change: Any, text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    with recordio.MXRecordIO(path, "w") as writer:
        writer.write(b"first!")
        writer.write(b"second!!")
    path.write_bytes(change(path.read_bytes()))
    with recordio.MXRecordIO(path, "r") as reader:
        assert reader.read() == b"first!"
        with pytest.raises(mx.errors.FormatError, match=text):
            reader.read()


def test_bad_indices_headers_and_keys(tmp_path: Path) -> None:
    (tmp_path / "a.idx").write_text("1\t0\nx\n")
    (tmp_path / "a.rec").write_bytes(b"")
    with pytest.raises(mx.errors.FormatError, match="line 2"):
        recordio.MXIndexedRecordIO(tmp_path / "a.idx", tmp_path / "a.rec", "r")
    (tmp_path / "a.idx").write_text("1\t0\n")
    with recordio.MXIndexedRecordIO(tmp_path / "a.idx", tmp_path / "a.rec", "r") as reader:
        with pytest.raises(KeyError, match="no record has key 7"):
            reader.read_idx(7)
        assert reader.read_idx(1) is None
    for short in (b"abc", struct.pack("<IfQQ", 9, 0, 0, 0) + b"1234"):
        with pytest.raises(mx.errors.FormatError, match="unpack"):
            recordio.unpack(short)


def test_images(tmp_path: Path) -> None:
    header = recordio.IRHeader(0, 3.0, 1, 0)
    colours = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3) * 4
    pytest.importorskip("PIL")
    for image in (colours, colours[:, :, 0]):
        record = recordio.pack_img(header, image, quality=3, img_fmt=".png")
        back, found = recordio.unpack_img(record)
        assert back == header
        np.testing.assert_array_equal(found, image)
    _, grey = recordio.unpack_img(recordio.pack_img(header, colours, img_fmt=".png"), iscolor=0)
    assert grey.shape == (4, 5)
    _, soft = recordio.unpack_img(recordio.pack_img(header, np.full((8, 8, 3), 77, np.uint8)))
    assert abs(soft.astype(int) - 77).max() <= 2
    with pytest.raises(mx.errors.FormatError, match="no readable image"):
        recordio.unpack_img(recordio.pack(header, b"not an image"))
    with pytest.raises(mx.errors.ConfigError, match=r"known: \.jpg"):
        recordio.pack_img(header, colours, img_fmt=".webp")

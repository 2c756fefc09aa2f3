# SPDX-License-Identifier: Apache-2.0
"""Local files of MNIST and CIFAR; nothing is downloaded."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from kvtrain.errors import FormatError

Array = np.ndarray[Any, Any]
_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def find(root: Path, names: tuple[str, ...], dataset: str, source: str) -> Path:
    """The first of `names` that is in `root`.

    Raises
    ------
    FileNotFoundError
        None is; says what to get and where to put it.
    """
    for name in names:
        if (root / name).is_file():
            return root / name
    raise FileNotFoundError(
        f"{dataset}: {names[0]} is not in {root}. Nothing is downloaded: get the files ({source}) "
        "and put them there, or give another root="
    )


def read_idx(path: Path) -> Array:
    """An array in the IDX format, gzipped or not.

    Raises
    ------
    FormatError
        The file is something else, or cut short.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            data = file.read()
    except (OSError, EOFError) as error:
        raise FormatError(f"{path}: cannot be unpacked: {error}") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _IDX_TYPES:
        raise FormatError(f"{path}: is no IDX file")
    rank = data[3]
    kind = np.dtype(_IDX_TYPES[data[2]])
    start = 4 + 4 * rank
    shape = tuple(np.frombuffer(data[4:start], ">u4").tolist()) if len(data) >= start else ()
    size = int(np.prod(shape, dtype=object)) if len(shape) == rank else -1
    if size < 0 or len(data) - start != size * kind.itemsize:
        raise FormatError(
            f"{path}: {len(data)} bytes do not hold an array of shape {shape}, {kind.name}"
        )
    return np.frombuffer(data, kind, size, start).reshape(shape).astype(kind.newbyteorder("="))


def read_cifar(path: Path, labels: int) -> tuple[Array, Array]:
    """Images (n, 32, 32, 3) and labels (n, `labels`) of a binary batch.

    Raises
    ------
    FormatError
        The file's size is no multiple of a record's.
    """
    data = np.frombuffer(path.read_bytes(), np.uint8)
    width = labels + 3 * 32 * 32
    if data.size == 0 or data.size % width:
        raise FormatError(f"{path}: {data.size} bytes are no number of records of {width} bytes")
    rows = data.reshape(-1, width)
    images = rows[:, labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), rows[:, :labels].astype(np.int32)


def unpack(root: Path, archive: str, names: tuple[str, ...]) -> None:
    """Take the files `names` out of the archive in `root`, if it is there and they are not."""
    source = root / archive
    if all((root / name).is_file() for name in names) or not source.is_file():
        return
    try:
        with tarfile.open(source) as opened:
            for member in opened:
                name = Path(member.name).name
                if member.isfile() and name in names:
                    held = opened.extractfile(member)
                    if held is not None:
                        (root / name).write_bytes(held.read())
    except (tarfile.TarError, OSError, EOFError) as error:
        raise FormatError(f"{source}: cannot be unpacked: {error}") from None

# SPDX-License-Identifier: Apache-2.0
"""MXNet's binary ``.params`` format: lists and dicts of dense and sparse arrays.

A file is: magic 0x112, a reserved word, the number of arrays, the arrays, the number of names,
the names (all lengths uint64, little-endian). An array is: a magic number that tells the
version, storage type, shape of the stored values (sparse ones only), shape, context, type code,
type and shape of each list of indices (sparse), values, indices. Written is version 2; versions
1, 2, 3 and the one before version numbers are read. No length is trusted: each is compared with
the bytes that are left before anything is made of it, and indices are checked.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from kvtrain.context import cpu
from kvtrain.errors import FormatError, MissingFile, OperatorError
from kvtrain.kernels.stored import Csr, Rows
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.stored.array import raw_of, wrap

_FILE = 0x112
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_TYPES = (
    "float32",
    "float64",
    "float16",
    "uint8",
    "int32",
    "int8",
    "int64",
    "bool",
    "int16",
    "uint16",
    "uint32",
    "uint64",
)
_BFLOAT16 = 12
_CODES = {np.dtype(name): code for code, name in enumerate(_TYPES)}
_DENSE, _ROW_SPARSE, _CSR = 0, 1, 2
_MAX_DIMENSIONS = 32
#: bytes that an array may claim to have if made dense: what fits an address
_MAX_BYTES = 1 << 62


class _Reader:
    """Takes bytes off the front; refuses to read past the end."""

    def __init__(self, data: bytes | memoryview, name: str) -> None:
        self.data = memoryview(data)
        self.at = 0
        self.name = name

    def error(self, what: str) -> FormatError:
        return FormatError(f"{self.name}: {what} (at byte {self.at}); is it a .params file?")

    def take(self, count: int) -> memoryview:
        if count < 0 or count > len(self.data) - self.at:
            raise self.error(f"{count} bytes are wanted and {len(self.data) - self.at} are left")
        part = self.data[self.at : self.at + count]
        self.at += count
        return part

    def unpack(self, form: str) -> tuple[Any, ...]:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))

    def count(self, what: str, smallest: int) -> int:
        """A number of items that are at least `smallest` bytes each."""
        (n,) = self.unpack("Q")
        if n * smallest > len(self.data) - self.at:
            raise self.error(f"{n} {what} cannot fit in the rest of the file")
        return int(n)

    def shape(self, dimensions: int, form: str) -> tuple[int, ...]:
        """A shape of that many dimensions, none of them negative."""
        if not 0 <= dimensions <= _MAX_DIMENSIONS:
            raise self.error(f"an array of {dimensions} dimensions")
        shape = self.unpack(form * dimensions)
        if any(n < 0 for n in shape) or math.prod(max(n, 1) for n in shape) * 8 > _MAX_BYTES:
            raise self.error(f"a shape of {shape}")
        return shape

    def dtype(self, code: int) -> np.dtype[Any]:
        if code == _BFLOAT16:
            return np.dtype("uint16")
        if not 0 <= code < len(_TYPES):
            raise self.error(f"type code {code}; known: 0 to {_BFLOAT16}")
        return np.dtype(_TYPES[code])

    def values(self, shape: tuple[int, ...], code: int) -> Any:
        """Values of a type code, as a new array."""
        kind = self.dtype(code)
        found = np.frombuffer(
            self.take(math.prod(shape) * kind.itemsize), kind.newbyteorder("<")
        ).reshape(shape)
        if code == _BFLOAT16:  # there is no such type here; float32 holds every value of it
            return (found.astype(np.uint32) << 16).view(np.float32)
        if kind == np.bool_:
            return found.view(np.uint8) != 0
        return found.astype(kind)


def _none() -> NDArray:
    """An array that was never given a shape."""
    return NDArray(np.empty((0,), np.float32), cpu())


def _read_array(reader: _Reader) -> NDArray:
    (magic,) = reader.unpack("I")
    if magic in (_V2, _V3):
        (storage,) = reader.unpack("i")
        if storage in (_ROW_SPARSE, _CSR):
            return _read_sparse(reader, storage)
        if storage != _DENSE:
            raise reader.error(f"storage type {storage}; known: 0 dense, 1 row_sparse, 2 csr")
        (dimensions,) = reader.unpack("i")
        if (dimensions == 0 and magic == _V2) or dimensions == -1:
            return _none()
        shape = reader.shape(dimensions, "q")
    elif magic == _V1:
        shape = reader.shape(reader.unpack("I")[0], "q")
    else:  # the number of dimensions stands where a magic number would
        shape = reader.shape(magic, "I")
    if not shape and magic != _V3:
        return _none()
    reader.unpack("ii")  # the context it was saved from
    (code,) = reader.unpack("i")
    return NDArray(reader.values(shape, code), cpu())


def _read_sparse(reader: _Reader, storage: int) -> NDArray:
    stored = reader.shape(reader.unpack("i")[0], "q")
    shape = reader.shape(reader.unpack("i")[0], "q")
    reader.unpack("ii")
    (code,) = reader.unpack("i")
    lists = []
    for _ in range(1 if storage == _ROW_SPARSE else 2):
        (kind,) = reader.unpack("i")
        if reader.dtype(kind).kind not in "iu":
            raise reader.error(f"indices of type code {kind}, which are no whole numbers")
        lists.append((reader.shape(reader.unpack("i")[0], "q"), kind))
    values = reader.values(stored, code)
    indices = [reader.values(*part).astype(np.int64) for part in lists]
    if storage == _ROW_SPARSE:
        parts: Any = Rows(indices[0], values, shape)
    else:
        parts = Csr(values, indices[1], indices[0], shape)
    wrong = parts.problem() if shape else "a sparse array without dimensions"
    if wrong is not None:
        raise reader.error(wrong)
    return wrap(parts, cpu())


def _little(raw: Any) -> bytes:
    kind = raw.dtype.newbyteorder("<")
    data: bytes = np.ascontiguousarray(raw).astype(kind, copy=False).tobytes()
    return data


def _packed_shape(shape: tuple[int, ...]) -> bytes:
    return struct.pack(f"<i{len(shape)}q", len(shape), *shape)


def _write_array(array: NDArray) -> Iterator[bytes]:
    raw = raw_of(array)
    code = _CODES.get(raw.dtype)
    if code is None:
        raise OperatorError(f"save: dtype {raw.dtype} has no code in the .params format")
    kind = struct.pack("<iii", 1, 0, code)
    if isinstance(raw, Rows | Csr):
        rows = isinstance(raw, Rows)
        parts = [raw.ids] if isinstance(raw, Rows) else [raw.indptr, raw.indices]
        values = raw.values if isinstance(raw, Rows) else raw.data
        yield struct.pack("<Ii", _V2, _ROW_SPARSE if rows else _CSR)
        yield _packed_shape(values.shape) + _packed_shape(raw.shape) + kind
        for part in parts:
            yield struct.pack("<i", _CODES[part.dtype]) + _packed_shape(part.shape)
        for part in (values, *parts):
            yield _little(part)
        return
    # no dimensions mean "no array" in version 2, and a size of 0 "not known yet"
    version = _V2 if raw.size and raw.ndim else _V3
    yield struct.pack("<Ii", version, _DENSE) + _packed_shape(raw.shape) + kind
    yield _little(raw)


def _written(data: Any) -> Iterator[bytes]:
    """The file in parts."""
    names: list[str] = []
    if isinstance(data, NDArray):
        arrays = [data]
    elif isinstance(data, dict):
        names, arrays = list(data), list(data.values())
        if not all(isinstance(name, str) for name in names):
            raise TypeError("save: the keys of a dict must be str")
    elif isinstance(data, list | tuple):
        arrays = list(data)
    else:
        raise OperatorError(f"save: {type(data).__name__} is no NDArray, list or dict of them")
    for array in arrays:
        if not isinstance(array, NDArray):
            raise TypeError(f"save: every value must be an NDArray, not {type(array).__name__}")
        if np.dtype(array.dtype) not in _CODES:
            raise OperatorError(f"save: dtype {array.dtype} has no code in the .params format")
    yield struct.pack("<QQQ", _FILE, 0, len(arrays))
    for array in arrays:
        yield from _write_array(array)
    yield struct.pack("<Q", len(names))
    for name in names:
        text = name.encode()
        yield struct.pack("<Q", len(text)) + text


def dumps(data: Any) -> bytes:
    """The bytes of a ``.params`` file; see :func:`save`."""
    return b"".join(_written(data))


def _check_name(owner: str, fname: Any) -> None:
    """A number would be taken for an open file."""
    if not isinstance(fname, str | os.PathLike):
        raise TypeError(f"{owner}: fname must be a path, not {type(fname).__name__}")


def save(fname: str | os.PathLike[str], data: Any) -> None:
    """Save an array, a list of arrays, or a dict of names and arrays; dense or sparse.

    Parameters
    ----------
    fname : str
        File to write.
    data : NDArray, list of NDArray or dict of str to NDArray
        What to save.
    """
    _check_name("save", fname)
    parts = _written(data)
    first = next(parts)  # what cannot be saved is refused before the file is opened
    with open(fname, "wb") as file:
        file.write(first)
        file.writelines(parts)


def load_frombuffer(buf: bytes, name: str = "buffer") -> Any:
    """Arrays from the bytes of a ``.params`` file: a dict if they have names, else a list."""
    if not isinstance(buf, bytes | bytearray | memoryview):
        raise TypeError(f"load_frombuffer: buf must be bytes, not {type(buf).__name__}")
    reader = _Reader(buf, name)
    magic, _ = reader.unpack("QQ")
    if magic != _FILE:
        raise reader.error(f"it begins with {magic:#x}, not {_FILE:#x}")
    arrays = [_read_array(reader) for _ in range(reader.count("arrays", 8))]
    names: list[str] = []
    for _ in range(reader.count("names", 8)):
        try:
            names.append(bytes(reader.take(reader.unpack("Q")[0])).decode())
        except UnicodeDecodeError:
            raise reader.error("a name that is not UTF-8") from None
    if not names:
        return arrays
    if len(names) != len(arrays):
        raise reader.error(f"{len(names)} names for {len(arrays)} arrays")
    return dict(zip(names, arrays, strict=True))


def load(fname: str | os.PathLike[str]) -> Any:
    """Load what :func:`save` or MXNet's ``nd.save`` wrote: a list, or a dict by name.

    Raises
    ------
    FormatError
        The file is no ``.params`` file, or is damaged; names it and the byte.
    MissingFile
        There is none; also a FileNotFoundError.
    """
    _check_name("load", fname)
    try:
        with open(fname, "rb") as file:
            held = file.read()
    except FileNotFoundError:
        raise MissingFile(f"{fname}: there is no such file") from None
    return load_frombuffer(held, str(fname))

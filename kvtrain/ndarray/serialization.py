# SPDX-License-Identifier: Apache-2.0
"""MXNet's binary ``.params`` format: lists and dicts of dense arrays.

A file is: magic 0x112, a reserved word, the number of arrays, the arrays, the number of names,
the names (all lengths uint64, little-endian). An array is: a magic number that tells the
version, storage type, shape, context, type code, values. Written is version 2; versions 1, 2,
3 and the one before version numbers are read. Every length is checked before it is used.
"""

from __future__ import annotations

import os
import struct
from typing import Any

import numpy as np

from kvtrain.context import cpu
from kvtrain.errors import FormatError, OperatorError
from kvtrain.ndarray.array import NDArray

_FILE = 0x112
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_TYPES = ("float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool", "int16")
_CODES = {np.dtype(name): code for code, name in enumerate(_TYPES)}
_MAX_DIMENSIONS = 32


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


def _read_shape(reader: _Reader, dimensions: int, form: str) -> tuple[int, ...]:
    if not 0 <= dimensions <= _MAX_DIMENSIONS:
        raise reader.error(f"an array of {dimensions} dimensions")
    shape = reader.unpack(form * dimensions)
    if any(n < 0 for n in shape):
        raise reader.error(f"a shape of {shape}")
    return shape


def _read_array(reader: _Reader) -> NDArray:
    (magic,) = reader.unpack("I")
    if magic in (_V2, _V3):
        (storage,) = reader.unpack("i")
        if storage != 0:
            raise reader.error(f"storage type {storage}; only dense arrays (0) can be read")
        (dimensions,) = reader.unpack("i")
        if (dimensions == 0 and magic == _V2) or dimensions < 0:
            return NDArray(np.empty((0,), np.float32), cpu())  # an array never given a shape
        shape = _read_shape(reader, dimensions, "q")
    elif magic == _V1:
        shape = _read_shape(reader, reader.unpack("I")[0], "q")
    else:  # the number of dimensions stands where a magic number would
        shape = _read_shape(reader, magic, "I")
    if not shape and magic not in (_V3,):
        return NDArray(np.empty((0,), np.float32), cpu())
    reader.unpack("ii")  # the context it was saved from
    (code,) = reader.unpack("i")
    if not 0 <= code < len(_TYPES):
        raise reader.error(f"type code {code}; known: 0 to {len(_TYPES) - 1}")
    dtype = np.dtype(_TYPES[code])
    size = 1
    for n in shape:
        size *= n
    values = np.frombuffer(reader.take(size * dtype.itemsize), dtype.newbyteorder("<"))
    return NDArray(values.astype(dtype).reshape(shape), cpu())


def _write_array(array: NDArray) -> bytes:
    raw = np.ascontiguousarray(array._read())
    code = _CODES.get(raw.dtype)
    if code is None:
        raise OperatorError(f"save: dtype {raw.dtype} has no code in the .params format")
    # a shape without dimensions means "no array" in version 2
    magic = _V2 if raw.ndim else _V3
    head = struct.pack(f"<Iii{raw.ndim}q", magic, 0, raw.ndim, *raw.shape)
    tail = struct.pack("<iii", 1, 0, code)
    return head + tail + raw.astype(raw.dtype.newbyteorder("<"), copy=False).tobytes()


def dumps(data: Any) -> bytes:
    """The bytes of a ``.params`` file; see :func:`save`."""
    names: list[str] = []
    if isinstance(data, NDArray):
        arrays = [data]
    elif isinstance(data, dict):
        names, arrays = list(data), list(data.values())
        if not all(isinstance(name, str) for name in names):
            raise OperatorError("save: the keys of a dict must be str")
    elif isinstance(data, list | tuple):
        arrays = list(data)
    else:
        raise OperatorError(f"save: {type(data).__name__} is no NDArray, list or dict of them")
    if not all(isinstance(array, NDArray) for array in arrays):
        raise OperatorError("save: every value must be an NDArray")
    parts = [struct.pack("<QQQ", _FILE, 0, len(arrays))]
    parts += [_write_array(array) for array in arrays]
    parts.append(struct.pack("<Q", len(names)))
    for name in names:
        text = name.encode()
        parts += [struct.pack("<Q", len(text)), text]
    return b"".join(parts)


def save(fname: str | os.PathLike[str], data: Any) -> None:
    """Save an array, a list of arrays, or a dict of names and arrays.

    Parameters
    ----------
    fname : str
        File to write.
    data : NDArray, list of NDArray or dict of str to NDArray
        What to save.
    """
    content = dumps(data)
    with open(fname, "wb") as file:
        file.write(content)


def load_frombuffer(buf: bytes, name: str = "buffer") -> Any:
    """Arrays from the bytes of a ``.params`` file: a dict if they have names, else a list."""
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
    """
    with open(fname, "rb") as file:
        return load_frombuffer(file.read(), str(fname))

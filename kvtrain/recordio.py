# SPDX-License-Identifier: Apache-2.0
"""``mx.recordio``: files of byte records in MXNet's format, and images packed into records.

A record is ``magic, flag << 29 | length, data, padding to four bytes``, both words
little-endian uint32. Data that itself has the magic word at a multiple of four is written in
parts without it (flag 1, 2, ..., 3; 0 for a record in one part).
"""

from __future__ import annotations

import io
import numbers
import os
import struct
from collections.abc import Callable
from typing import IO, Any, NamedTuple, TextIO

import numpy as np

from kvtrain.errors import ConfigError, FormatError

_MAGIC = 0xCED7230A
_MAGIC_BYTES = struct.pack("<I", _MAGIC)
_LIMIT = 1 << 29
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)


class MXRecordIO:
    """Records one after another in a file.

    Parameters
    ----------
    uri : str
        Path of the file.
    flag : {'r', 'w'}
        Read or write.

    Examples
    --------
    >>> record = MXRecordIO("a.rec", "w")
    >>> record.write(b"first")
    >>> record.close()
    >>> MXRecordIO("a.rec", "r").read()
    b'first'
    """

    def __init__(self, uri: str | os.PathLike[str], flag: str) -> None:
        self.uri = os.fspath(uri)
        self.flag = flag
        self.pid: int | None = None
        self.is_open = False
        self._file: IO[bytes] | None = None
        self.open()

    def open(self) -> None:
        """Open the file; writing starts an empty one."""
        if self.flag not in ("r", "w"):
            raise ValueError(f"Invalid flag {self.flag}; known: r, w")
        self.writable = self.flag == "w"
        self._file = open(self.uri, "wb" if self.writable else "rb")
        self.pid = os.getpid()
        self.is_open = True

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if not self.is_open:
            return
        self.is_open = False
        self.pid = None
        if self._file is not None:
            self._file.close()

    def reset(self) -> None:
        """Back to the first record; a writer starts anew."""
        self.close()
        self.open()

    def __del__(self) -> None:
        if getattr(self, "is_open", False):
            self.close()

    def __enter__(self) -> MXRecordIO:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Without the open file: whoever gets it opens the file again, at its begin."""
        if self.is_open and self.writable:
            raise ConfigError(f"{self.uri}: a file that is being written cannot be sent elsewhere")
        return {**self.__dict__, "_file": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.is_open:
            self.open()

    def _handle(self, writing: bool) -> IO[bytes]:
        if self._file is None or not self.is_open:
            raise ConfigError(f"{self.uri}: the file is closed")
        if self.writable != writing:
            raise ConfigError(f"{self.uri}: opened with {self.flag!r}; it can only be that")
        if self.pid != os.getpid():
            if writing:
                raise RuntimeError("Forbidden operation in multiple processes")
            self.reset()  # after a fork: a file position of its own
        return self._file

    def write(self, buf: bytes) -> None:
        """Add a record."""
        file = self._handle(writing=True)
        data = bytes(buf)
        if len(data) >= _LIMIT:
            raise ConfigError(
                f"{self.uri}: a record of {len(data)} bytes; {_LIMIT - 1} are allowed"
            )
        cuts = _magic_words(data)
        if not cuts:
            file.write(_part(_WHOLE, data))
            return
        low = 0
        for n, cut in enumerate(cuts):
            file.write(_part(_FIRST if n == 0 else _MIDDLE, data[low:cut]))
            low = cut + 4
        file.write(_part(_LAST, data[low:]))

    def read(self) -> bytes | None:
        """The next record; None at the end of the file.

        Raises
        ------
        FormatError
            The file is cut off or damaged there.
        """
        file = self._handle(writing=False)
        at = file.tell()
        parts: list[bytes] = []
        while True:
            head = file.read(8)
            if not head and not parts:
                return None
            if len(head) < 8:
                raise FormatError(f"{self.uri}: cut off in the record at byte {at}")
            magic, word = struct.unpack("<II", head)
            kind, length = word >> 29, word & (_LIMIT - 1)
            if magic != _MAGIC or (kind in (_MIDDLE, _LAST)) != bool(parts) or kind > _LAST:
                raise FormatError(f"{self.uri}: no record starts at byte {file.tell() - 8}")
            data = file.read(length)
            file.read(-length % 4)
            if len(data) < length:
                raise FormatError(f"{self.uri}: cut off in the record at byte {at}")
            parts.append(data)
            if kind in (_WHOLE, _LAST):
                return parts[0] if len(parts) == 1 else _MAGIC_BYTES.join(parts)


def _part(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", _MAGIC, kind << 29 | len(data)) + data + bytes(-len(data) % 4)


def _magic_words(data: bytes) -> list[int]:
    """Places of the magic word at multiples of four."""
    found = []
    at = data.find(_MAGIC_BYTES)
    while at >= 0:
        if at % 4 == 0:
            found.append(at)
            at = data.find(_MAGIC_BYTES, at + 4)
        else:
            at = data.find(_MAGIC_BYTES, at + 1)
    return found


class MXIndexedRecordIO(MXRecordIO):
    """Records with keys: a second file has ``key<tab>position`` lines.

    Parameters
    ----------
    idx_path : str
        Path of the index.
    uri : str
        Path of the records.
    flag : {'r', 'w'}
        Read or write.
    key_type : callable
        Makes a key from its text.
    """

    def __init__(
        self,
        idx_path: str | os.PathLike[str],
        uri: str | os.PathLike[str],
        flag: str,
        key_type: Callable[[Any], Any] = int,
    ) -> None:
        self.idx_path = os.fspath(idx_path)
        self.idx: dict[Any, int] = {}
        self.keys: list[Any] = []
        self.key_type = key_type
        self.fidx: TextIO | None = None
        super().__init__(uri, flag)

    def open(self) -> None:
        """Open both files and read the index."""
        super().open()
        self.idx = {}
        self.keys = []
        if self.writable:
            self.fidx = open(self.idx_path, "w")
            return
        with open(self.idx_path) as lines:
            for number, line in enumerate(lines, 1):
                try:
                    key, position = line.strip().split("\t")
                    self.idx[self.key_type(key)] = int(position)
                except ValueError:
                    raise FormatError(
                        f"{self.idx_path}: line {number} is not `key<tab>position`: {line!r}"
                    ) from None
                self.keys.append(self.key_type(key))

    def close(self) -> None:
        """Close both files."""
        super().close()
        if self.fidx is not None:
            self.fidx.close()
            self.fidx = None

    def seek(self, idx: Any) -> None:
        """Go to the record with key `idx`."""
        file = self._handle(writing=False)
        if idx not in self.idx:
            raise KeyError(f"{self.idx_path}: no record has key {idx!r}")
        file.seek(self.idx[idx])

    def tell(self) -> int:
        """Position at which the next record is written."""
        return self._handle(writing=True).tell()

    def read_idx(self, idx: Any) -> bytes | None:
        """The record with key `idx`."""
        self.seek(idx)
        return self.read()

    def write_idx(self, idx: Any, buf: bytes) -> None:
        """Add a record with key `idx`."""
        key = self.key_type(idx)
        position = self.tell()
        self.write(buf)
        assert self.fidx is not None
        self.fidx.write(f"{key}\t{position}\n")
        self.idx[key] = position
        self.keys.append(key)


class IRHeader(NamedTuple):
    """What stands before the data of a packed record.

    `flag` is the number of labels if `label` is an array, else 0; `id` and `id2` are free.
    """

    flag: int
    label: Any
    id: int
    id2: int


_HEADER = struct.Struct("<IfQQ")


def pack(header: Any, s: bytes) -> bytes:
    """A record from a header and data.

    Parameters
    ----------
    header : IRHeader
        `label` a number, or numbers that are stored as float32.
    s : bytes
    """
    header = IRHeader(*header)
    if isinstance(header.label, numbers.Number):
        return _HEADER.pack(0, float(header.label), header.id, header.id2) + s  # type: ignore[arg-type]
    labels = np.asarray(header.label, "<f4")
    return _HEADER.pack(labels.size, 0.0, header.id, header.id2) + labels.tobytes() + s


def unpack(s: bytes) -> tuple[IRHeader, bytes]:
    """Header and data of a packed record.

    Raises
    ------
    FormatError
        The record is too short for its header.
    """
    if len(s) < _HEADER.size:
        raise FormatError(f"unpack: a record of {len(s)} bytes has no header")
    header = IRHeader(*_HEADER.unpack_from(s))
    rest = s[_HEADER.size :]
    if header.flag > 0:
        if len(rest) < 4 * header.flag:
            raise FormatError(f"unpack: {header.flag} labels do not fit {len(rest)} bytes")
        header = header._replace(label=np.frombuffer(rest, np.float32, header.flag))
        rest = rest[4 * header.flag :]
    return header, rest


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise ConfigError(
            "images in records need Pillow: install it with `pip install 'kvtrain[image]'`"
        ) from None
    return Image


def pack_img(header: Any, img: Any, quality: int = 95, img_fmt: str = ".jpg") -> bytes:
    """A record from a header and an image.

    Parameters
    ----------
    header : IRHeader
    img : numpy.ndarray
        (height, width) or (height, width, 3) of uint8, channels blue, green, red.
    quality : int
        1 to 100 for JPEG, compression 0 to 9 for PNG.
    img_fmt : {'.jpg', '.jpeg', '.png'}
    """
    kinds = {".JPG": "JPEG", ".JPEG": "JPEG", ".PNG": "PNG"}
    kind = kinds.get(img_fmt.upper())
    if kind is None:
        raise ConfigError(f"pack_img: img_fmt={img_fmt!r}; known: {', '.join(kinds).lower()}")
    raw = np.asarray(img, np.uint8)
    if raw.ndim == 3 and raw.shape[2] == 3:
        raw = raw[:, :, ::-1]
    elif raw.ndim == 3 and raw.shape[2] == 1:
        raw = raw[:, :, 0]
    options = {"quality": quality} if kind == "JPEG" else {"compress_level": min(quality, 9)}
    out = io.BytesIO()
    _pillow().fromarray(np.ascontiguousarray(raw)).save(out, kind, **options)
    return pack(header, out.getvalue())


def unpack_img(s: bytes, iscolor: int = -1) -> tuple[IRHeader, Any]:
    """Header and image of a packed record.

    Parameters
    ----------
    iscolor : {-1, 0, 1}
        As stored, grey, or in colour.

    Returns
    -------
    header : IRHeader
    img : numpy.ndarray
        (height, width) or (height, width, 3) of uint8, channels blue, green, red.
    """
    header, data = unpack(s)
    image_module = _pillow()
    try:
        with image_module.open(io.BytesIO(data)) as opened:
            grey = iscolor == 0 or (iscolor < 0 and opened.mode in ("L", "1", "I"))
            raw = np.array(opened.convert("L" if grey else "RGB"), np.uint8)
    except (OSError, ValueError, SyntaxError) as error:
        raise FormatError(f"unpack_img: {len(data)} bytes are no readable image: {error}") from None
    return header, raw if grey else np.ascontiguousarray(raw[:, :, ::-1])

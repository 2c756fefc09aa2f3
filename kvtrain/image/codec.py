# SPDX-License-Identifier: Apache-2.0
"""Images from files and bytes; needs the extra ``image`` (Pillow)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from kvtrain.context import cpu
from kvtrain.errors import FormatError
from kvtrain.ndarray import NDArray
from kvtrain.recordio import _pillow


def imdecode(buf: Any, flag: int = 1, to_rgb: bool = True, out: Any = None) -> Any:
    """Decode a JPEG, PNG or other image.

    Parameters
    ----------
    buf : bytes, bytearray, NumPy array or NDArray of uint8
    flag : {1, 0}
        1: three channels; 0: one, grey.
    to_rgb : bool
        Channels in the order red, green, blue; else blue, green, red.

    Returns
    -------
    NDArray
        (height, width, channels) of uint8.

    Raises
    ------
    FormatError
        The bytes are no image that Pillow can read.
    """
    if isinstance(buf, NDArray):
        buf = buf.asnumpy()
    data = buf.tobytes() if isinstance(buf, np.ndarray) else bytes(buf)
    image_module = _pillow()
    try:
        with image_module.open(io.BytesIO(data)) as opened:
            raw = np.array(opened.convert("RGB" if flag else "L"), np.uint8)
    except (OSError, ValueError, SyntaxError) as error:
        raise FormatError(f"imdecode: {len(data)} bytes are no readable image: {error}") from None
    raw = raw.reshape(*raw.shape[:2], -1)
    if flag and not to_rgb:
        raw = np.ascontiguousarray(raw[:, :, ::-1])
    image = NDArray(raw, cpu())
    return image if out is None else image.copyto(out)


def imread(filename: Any, flag: int = 1, to_rgb: bool = True) -> NDArray:
    """Read an image file; see :func:`imdecode`."""
    data = Path(filename).read_bytes()
    try:
        result: NDArray = imdecode(data, flag, to_rgb)
    except FormatError as error:
        raise FormatError(f"{filename}: {error}") from None
    return result

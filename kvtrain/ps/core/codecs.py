# SPDX-License-Identifier: Apache-2.0
"""Contributions in fewer bits: encoded once by the worker, decoded on arrival by the server.

A key's codec is in its directory entry, so all workers and servers agree on it. The worker
keeps the encoded bytes until the acknowledgement: a resend sends the same ones, and the
residual is not applied again (PROTOCOL R31). The server sums decoded values in rank order.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from kvtrain.compression import Compressor, ErrorFeedback, from_text
from kvtrain.errors import KeyMismatch, RemoteProtocolError
from kvtrain.ps.core.shards import DTYPES, ChunkId, KeyEntry

Array = np.ndarray[Any, Any]
#: no codec: the array as it is
PLAIN = 0
_KINDS = {name: np.dtype(name) for name in DTYPES}


@lru_cache(maxsize=64)
def compressor(description: str) -> Compressor | None:
    """The codec that a key's entry describes."""
    return from_text(description)


def feedback_for(entry: KeyEntry) -> ErrorFeedback | None:
    """What one worker's chunk of the key is encoded by; None: sent as it is."""
    codec = compressor(entry.spec.compression)
    return None if codec is None else ErrorFeedback(codec)


def check_plain(entry: KeyEntry, chunk: ChunkId, array: Array, what: str) -> None:
    """Raise KeyMismatch unless `array` has the size and dtype of the chunk."""
    low, high = entry.bounds(chunk.part)
    if array.dtype != _KINDS[entry.spec.dtype] or array.shape != (high - low,):
        raise KeyMismatch(
            f"{what} of key {entry.spec.name!r}, chunk {chunk.part}: got {array.size} elements "
            f"of {array.dtype}, it has {high - low} of {entry.spec.dtype}"
        )


def decoded(entry: KeyEntry, chunk: ChunkId, code: int, array: Array) -> Array:
    """The values of a contribution that came as `array` under wire code `code`.

    Raises
    ------
    KeyMismatch, RemoteProtocolError
        It is not encoded as the key's entry says, or not as long as it must be.
    """
    codec = compressor(entry.spec.compression) if entry.spec.compression else None
    if code != (PLAIN if codec is None else codec.code):
        raise RemoteProtocolError(
            f"push of key {entry.spec.name!r}, chunk {chunk.part}: came under wire code {code}, "
            f"the key has {'none' if codec is None else codec.describe()}"
        )
    if codec is None:
        check_plain(entry, chunk, array, "push")
        return array
    low, high = entry.bounds(chunk.part)
    codec.check_wire(array, high - low)
    values = np.empty(high - low, np.float32)
    codec.decompress(array, values)
    return values.astype(entry.spec.dtype, copy=False)

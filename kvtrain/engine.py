# SPDX-License-Identifier: Apache-2.0
"""``mx.engine``: how many operators MXNet's engine takes at a time; nothing is queued here."""

from __future__ import annotations

import threading
from typing import Any


class _Size(threading.local):
    value = 0


_size = _Size()


def set_bulk_size(size: int) -> int:
    """Keep the number, and return the one before."""
    before, _size.value = _size.value, int(size)
    return before


class _Bulk:
    def __init__(self, size: int) -> None:
        self._size = size
        self._outer: list[int] = []

    def __enter__(self) -> _Bulk:
        self._outer.append(set_bulk_size(self._size))
        return self

    def __exit__(self, *exc: Any) -> None:
        set_bulk_size(self._outer.pop())


def bulk(size: int) -> _Bulk:
    """``with mx.engine.bulk(10):`` as set_bulk_size, for the block."""
    return _Bulk(size)

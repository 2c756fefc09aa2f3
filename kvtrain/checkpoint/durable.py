# SPDX-License-Identifier: Apache-2.0
"""Files that are there whole or not at all, whatever happens to the process or the machine."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_BLOCK = 1 << 20


def settle(temporary: Path, final: Path) -> None:
    """Bring a written file to its name: fsync, rename, fsync the directory."""
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, final)
    sync_directory(final.parent)


def write(final: Path, content: bytes) -> None:
    """Write a small file whole or not at all; raises OSError and leaves nothing behind."""
    temporary = final.with_name(f".{final.name}.{os.getpid()}.new")
    try:
        temporary.write_bytes(content)
        settle(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Make names in a directory durable, where the system can."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        return
    finally:
        os.close(descriptor)


def sha256(path: Path, limit: int | None = None) -> tuple[int, str]:
    """Size and SHA-256 of a file; stops past `limit` bytes (the size is then above it)."""
    digest = hashlib.sha256()
    size = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            size += len(block)
            digest.update(block)
            if limit is not None and size > limit:
                break
    return size, digest.hexdigest()

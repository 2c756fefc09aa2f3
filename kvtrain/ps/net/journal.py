# SPDX-License-Identifier: Apache-2.0
"""The scheduler's journal: one JSON line per record, on the disk before anybody is told."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class JournalFile:
    """Appends records to a file.

    Parameters
    ----------
    path : Path or None
        None: nothing is kept (a scheduler that nobody restarts).
    """

    def __init__(self, path: Path | None) -> None:
        self._file = None if path is None else open(path, "ab")

    def write(self, record: dict[str, Any]) -> None:
        """Append `record` and wait until it is on the disk."""
        if self._file is None:
            return
        self._file.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

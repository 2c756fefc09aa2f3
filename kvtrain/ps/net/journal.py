# SPDX-License-Identifier: Apache-2.0
"""The scheduler's journal: one JSON line per record, on the disk before anybody is told."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from kvtrain.errors import FormatError, JobError


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The records of a journal, in order; a last line without its end is left out.

    Raises
    ------
    FormatError
        A whole line is no record: the file is damaged, not torn.
    """
    try:
        *lines, _ = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise FormatError(f"{path}: line {number} is no record of a journal")
        records.append(record)
    return records


class JournalFile:
    """Appends records to a file.

    Parameters
    ----------
    path : Path or None
        None: nothing is kept (a scheduler that nobody restarts).
    """

    def __init__(self, path: Path | None) -> None:
        self._file = None
        self._path = path
        if path is not None:
            _cut_torn_line(path)
            self._file = open(path, "ab")

    def write(self, record: dict[str, Any]) -> None:
        """Append `record` and wait until it is on the disk."""
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            # nobody may be told what is not on the disk (R52)
            raise JobError(
                f"cannot write the scheduler's journal {self._path}: {error.strerror or error}; "
                "the job's run directory must be on a disk with room"
            ) from None

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            # what could not be written was said already
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


def _cut_torn_line(path: Path) -> None:
    """What a predecessor had begun to write when it died was told to nobody."""
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)

# SPDX-License-Identifier: Apache-2.0
"""Log files of the processes of a job, and reading them while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from kvtrain.errors import ConfigError

#: bytes of one file in a run directory; the one before it is kept too
LIMIT = 4 << 20


class LogDirectory:
    """One file per process.

    Parameters
    ----------
    limit : int or None
        Bytes after which a file is begun anew; the last full one stays as ``NAME.log.1``.
    """

    def __init__(self, path: Path, limit: int | None = None) -> None:
        self.path = path
        self._limit = limit
        self._files: dict[str, IO[str]] = {}
        self._sizes: dict[str, int] = {}

    def write(self, label: str, text: str) -> None:
        """Append a line; a disk that is full loses lines, never the job."""
        try:
            file = self._files.get(label)
            if file is None:
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                path = self.path / f"{label}.log"
                file = open(path, "a", buffering=1, encoding="utf-8")
                self._files[label] = file
                self._sizes[label] = path.stat().st_size
            file.write(text + "\n")
            self._sizes[label] += len(text) + 1
            if self._limit is not None and self._sizes[label] > self._limit:
                file.close()
                del self._files[label]
                path = self.path / f"{label}.log"
                path.replace(path.with_suffix(".log.1"))
        except OSError:
            return

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        self._files.clear()


def labels(path: Path) -> list[str]:
    """Processes of which there is a log."""
    return sorted(p.name[: -len(".log")] for p in path.glob("*.log"))


def tail(path: Path, label: str, lines: int | None) -> list[str]:
    """The last `lines` lines of a process (None: all that is kept).

    Raises
    ------
    ConfigError
        There is no log of that process; lists those that are there.
    """
    current = path / f"{label}.log"
    previous = path / f"{label}.log.1"
    if not current.exists() and not previous.exists():
        known = ", ".join(labels(path)) or "none yet"
        raise ConfigError(f"no log of {label!r}; there are: {known}")
    found: list[str] = []
    for file in (previous, current):
        if file.exists():
            found += file.read_text(errors="replace").splitlines()
    return found if lines is None else found[len(found) - min(lines, len(found)) :]


def follow(path: Path, wanted: list[str], seconds: float = 0.2) -> Iterator[tuple[str, str]]:
    """New lines of the processes as (label, line), until the run directory is gone."""
    offsets = {label: _size(path / f"{label}.log") for label in wanted}
    while path.parent.exists():
        for label in wanted:
            file = path / f"{label}.log"
            size = _size(file)
            if size < offsets[label]:
                offsets[label] = 0
            if size > offsets[label]:
                try:
                    with open(file, "rb") as opened:
                        opened.seek(offsets[label])
                        data = opened.read()
                except OSError:
                    continue
                whole = data[: data.rfind(b"\n") + 1]
                offsets[label] += len(whole)
                for line in whole.decode(errors="replace").splitlines():
                    yield label, line
        time.sleep(seconds)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0

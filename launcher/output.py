# SPDX-License-Identifier: Apache-2.0
"""Prefixes the output of the processes, keeps the last lines of each, writes log files."""

from __future__ import annotations

import re
from collections import deque
from typing import IO

from launcher.logs import LogDirectory

_COLOURS = (36, 33, 35, 32, 34, 31)
_KEPT = 400
_PART = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|$)")
#: a longer line is cut into pieces, so that no process can fill the launcher's memory
MAX_LINE = 1 << 16


class Stream:
    """One pipe of one process: bytes in, whole lines out."""

    def __init__(self, output: Output, label: str, target: IO[str], keep: bool) -> None:
        self._output = output
        self._label = label
        self._target = target
        self._keep = keep
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take bytes from the pipe."""
        data = self._rest + data
        self._rest = b""
        for match in _PART.finditer(data):
            part = match.group()
            if not part:
                continue
            if part.endswith(b"\r") and match.end() == len(data):
                self._rest = part  # may be half of a line end
            elif part.endswith(b"\n"):
                self._line(part)
            elif part.endswith(b"\r"):
                self._output.progress(self._label, self._target, _text(part))
            elif len(part) >= MAX_LINE:
                self._line(part)
            else:
                self._rest = part

    def close(self) -> None:
        """The pipe has ended: a last line without its end is a line too."""
        rest, self._rest = self._rest, b""
        if rest.strip(b"\r"):
            self._line(rest)

    def _line(self, part: bytes) -> None:
        text = _text(part)
        if self._keep:
            self._output.keep(self._label, text)
        self._output.line(self._label, self._target, text)


def _text(part: bytes) -> str:
    return part.rstrip(b"\r\n").decode(errors="replace")


class Output:
    """The user's terminal, or what stands for it.

    Parameters
    ----------
    width : int
        Of the longest label.
    colour : bool
        Whether to colour the labels.
    logs : LogDirectory
        Where each process's lines are written too.
    """

    def __init__(self, width: int, colour: bool, *logs: LogDirectory) -> None:
        self._width = width
        self._colour = colour
        self.logs = list(logs)
        self._last: dict[str, deque[str]] = {}
        self._colours: dict[str, int] = {}
        self._progress = False

    def _prefix(self, label: str) -> str:
        text = f"{label:<{self._width}} |"
        if not self._colour:
            return text
        number = self._colours.setdefault(label, _COLOURS[len(self._colours) % len(_COLOURS)])
        return f"\x1b[{number}m{text}\x1b[0m"

    def line(self, label: str, target: IO[str], text: str) -> None:
        """A whole line of a process."""
        clear = "\r\x1b[K" if self._progress else ""
        self._progress = False
        _write(target, f"{clear}{self._prefix(label)} {text}\n")
        for log in self.logs:
            log.write(label, text)

    def progress(self, label: str, target: IO[str], text: str) -> None:
        """A line that the next one overwrites; shown on a terminal only."""
        if self._colour and text:
            self._progress = True
            _write(target, f"\r\x1b[K{self._prefix(label)} {text}")

    def say(self, target: IO[str], text: str) -> None:
        """Something of the launcher's own."""
        self.line("kvtrain", target, text)

    def keep(self, label: str, text: str) -> None:
        """Remember the last lines of standard error."""
        self._last.setdefault(label, deque(maxlen=_KEPT)).append(text)

    def traceback(self, label: str) -> list[str]:
        """The last traceback that a process wrote, else its last few lines."""
        lines = list(self._last.get(label, ()))
        for i in range(len(lines) - 1, -1, -1):
            if lines[i].startswith("Traceback (most recent call last)"):
                return lines[i:]
        return lines[-10:]

    def close(self) -> None:
        """Close the log files."""
        for log in self.logs:
            log.close()


def _write(target: IO[str], text: str) -> None:
    try:
        target.write(text)
        target.flush()
    except (BrokenPipeError, ValueError):
        return

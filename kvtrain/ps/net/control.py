# SPDX-License-Identifier: Apache-2.0
"""The launcher's side of a process: the scheduler's pipe (JSON lines) and the lifeline."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from kvtrain.errors import ConfigError
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.membership import Role

#: bytes of one line, far above any that the launcher writes
MAX_LINE = 1 << 20


class ControlPipe:
    """Reads the launcher's lines and writes ours; a closed pipe is a dead launcher.

    Parameters
    ----------
    descriptors : str
        ``"READ,WRITE"`` file descriptors.
    gone : callable
        Called once when the launcher has closed its end.
    """

    def __init__(self, descriptors: str, gone: Callable[[], None]) -> None:
        try:
            read, write = (int(part) for part in descriptors.split(","))
        except ValueError:
            raise ConfigError(f"KVTRAIN_CONTROL_FDS={descriptors!r}: expected READ,WRITE") from None
        self.descriptor = read
        self._write = write
        self._gone = gone
        self._rest = b""
        self._open = True

    def tell(self, event: str, **fields: Any) -> None:
        """One line to the launcher."""
        if not self._open:
            return
        line = json.dumps({"event": event, **fields}).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self._write, line) :]
        except OSError:
            self._closed()

    def send(self, message: m.Message) -> None:
        """A message for the launcher."""
        match message:
            case m.JobFailed():
                self.tell("failed", text=message.text)
            case m.StartProcess():
                role = message.role.name.lower()
                self.tell(
                    "start",
                    role=role,
                    rank=message.rank,
                    replaces=message.replaces,
                    beside=message.beside,
                )
            case m.Guests():
                self.tell("guests", text=str(message.count))
            case m.JobFinished():
                self.tell("finished")

    def read(self) -> list[m.Message]:
        """What the launcher says, as messages."""
        try:
            data = os.read(self.descriptor, 65536)
        except OSError:
            data = b""
        if not data:
            self._closed()
            return []
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()[-MAX_LINE:]
        return [message for line in lines if (message := _parse(line)) is not None]

    def _closed(self) -> None:
        if self._open:
            self._open = False
            self._gone()


def _parse(line: bytes) -> m.Message | None:
    try:
        said = json.loads(line)
        match said["event"]:
            case "started":
                return m.PeerStarted(
                    role=Role[said["role"].upper()],
                    rank=int(said["rank"]),
                    launch_token=str(said["token"]),
                    host=str(said["host"]),
                    pid=int(said["pid"]),
                    replaces=str(said.get("replaces", "")),
                )
            case "exited":
                return m.PeerExited(launch_token=str(said["token"]), status=int(said["status"]))
            case "stop":
                return m.LauncherStop(reason=str(said["reason"]))
    except (ValueError, KeyError, TypeError):
        return None
    return None

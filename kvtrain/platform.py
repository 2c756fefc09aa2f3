# SPDX-License-Identifier: Apache-2.0
"""The only file with platform calls; each has a fallback, so other systems still train."""

from __future__ import annotations

import ctypes
import getpass
import os
import signal
import socket
import sys
from pathlib import Path

LINUX = sys.platform.startswith("linux")
_PR_SET_PDEATHSIG = 1


def die_with_parent(signal_number: int = signal.SIGTERM) -> None:
    """Ask the kernel for `signal_number` when the parent dies; elsewhere the lifeline does it."""
    if not LINUX:
        return
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)
    except (OSError, AttributeError):
        return


def tune_allocator() -> None:
    """Keep large freed blocks in the process, so that they need not be faulted in again.

    mmap threshold 1 GiB, trim threshold at its maximum, top pad 64 MiB, one arena.
    """
    if not LINUX:
        return
    try:
        libc = ctypes.CDLL(None)
        for option, value in ((-3, 1 << 30), (-1, (1 << 31) - 1), (-2, 64 << 20), (-8, 1)):
            libc.mallopt(option, value)
    except (OSError, AttributeError):
        return


def host_name() -> str:
    """Name of this machine."""
    return socket.gethostname()


def user_id() -> str:
    """What tells users of one machine apart in paths."""
    return str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()


def process_alive(pid: int) -> bool:
    """Whether a process of that number exists (a zombie does not count on Linux)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    except OSError:
        return False
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return True


def process_started(pid: int) -> str:
    """When a process began, in the kernel's own ticks; empty where that is not told.

    A number that is used again has another start, so the two together name a process.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def kill_group(pid: int, signal_number: int) -> None:
    """Signal the process group that `pid` leads; nothing happens if it is gone."""
    try:
        if hasattr(os, "killpg"):
            os.killpg(pid, signal_number)
        else:
            os.kill(pid, signal_number)
    except (ProcessLookupError, PermissionError):
        return


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def make_inheritable(*descriptors: int) -> None:
    """Let children inherit these descriptors."""
    for descriptor in descriptors:
        os.set_inheritable(descriptor, True)

# SPDX-License-Identifier: Apache-2.0
"""The only file with platform calls; each has a fallback, so other systems still train."""

from __future__ import annotations

import ctypes
import errno
import getpass
import mmap
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

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


def resolve(host: str) -> str:
    """IPv4 address of a host name; the name itself if it has none."""
    try:
        return str(socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError):
        return host


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine's loopback interface."""
    return resolve(host).startswith("127.")


def is_own_address(host: str) -> bool:
    """Whether `host` is an address of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((resolve(host), 0))
        except (OSError, UnicodeError):
            return False
    return resolve(host) != "0.0.0.0"


def address_towards(host: str, port: int) -> str:
    """This machine's address on the way to `host`; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((resolve(host), port))
        except (OSError, UnicodeError):
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def interface_address(name: str) -> str | None:
    """IPv4 address of a network interface; None if it has none or cannot be asked."""
    if fcntl is None or not LINUX:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe.fileno(), 0x8915, name.encode()[:15].ljust(256, b"\0"))
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])


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


def before_fork(call: Callable[[], None]) -> None:
    """Call `call` before this process forks (a new program started is no fork)."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=call)


def make_inheritable(*descriptors: int) -> None:
    """Let children inherit these descriptors."""
    for descriptor in descriptors:
        os.set_inheritable(descriptor, True)


# ---- memory that other processes of this host may map ---------------------------------------


def shared_memory_reason() -> str | None:
    """Why this system has no shared memory without names; None: it has."""
    if not hasattr(os, "memfd_create") or not hasattr(os, "posix_fallocate"):
        return f"{sys.platform} has no memfd_create"
    if not os.path.isdir("/proc/self/fd"):
        return "/proc is not mounted"
    return None


def create_segment(name: str, nbytes: int) -> tuple[int, mmap.mmap]:
    """Memory of `nbytes` without a name in any file system, reserved, mapped and touched.

    It is gone when the last process that has it open or mapped is, however that one ends. Its
    size is sealed, so that no mapping of it can become invalid.

    Raises
    ------
    OSError
        There is not enough memory, or the system has no such thing.
    """
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.posix_fallocate(descriptor, 0, nbytes)
        add_seals, shrink, grow = 1033, 2, 4
        fcntl.fcntl(descriptor, add_seals, shrink | grow)
        flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
        return descriptor, mmap.mmap(descriptor, nbytes, flags)
    except BaseException:
        os.close(descriptor)
        raise


def open_segment(pid: int, descriptor: int, name: str, nbytes: int) -> tuple[int, mmap.mmap]:
    """Another process's segment, opened and mapped for reading only.

    Raises
    ------
    OSError
        That process or descriptor is not there, is not ours to open, or is something else.
    """
    path = f"/proc/{pid}/fd/{descriptor}"
    found = os.readlink(path)
    if not found.startswith(f"/memfd:{name}"):
        raise OSError(errno.EINVAL, f"{path} is {found!r}, not segment {name!r}")
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    try:
        size = os.fstat(opened).st_size
        if size != nbytes:
            raise OSError(errno.EINVAL, f"segment {name!r} has {size} bytes, not {nbytes}")
        flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
        return opened, mmap.mmap(opened, nbytes, flags, mmap.PROT_READ)
    except BaseException:
        os.close(opened)
        raise


_NOTHING, _FIXED = 0x4000 | 0x20, 0x10  # MAP_NORESERVE | MAP_ANONYMOUS, MAP_FIXED
_FAILED = ctypes.c_void_p(-1).value


def map_window(pieces: Sequence[tuple[int, int, int]]) -> int:
    """Pieces (descriptor, offset, bytes) of segments, one behind the other, for reading only.

    All but the last are whole pages. Returns the address; what is written to the segments is
    seen there, until :func:`keep_window`.

    Raises
    ------
    OSError
        A piece does not lie at pages, the system has no such thing, or no room for it.
    """
    size = sum(nbytes for _, _, nbytes in pieces)
    whole = all(nbytes % mmap.PAGESIZE == 0 for _, _, nbytes in pieces[:-1])
    if not LINUX or not size or not whole or any(p[1] % mmap.PAGESIZE for p in pieces):
        raise OSError(errno.EINVAL, "these pieces cannot be mapped side by side")
    private, populate = mmap.MAP_PRIVATE, getattr(mmap, "MAP_POPULATE", 0)
    start = _mmap(None, size, 0, private | _NOTHING, -1, 0)
    at = start
    try:
        for descriptor, offset, nbytes in pieces:
            flags = private | populate | _FIXED
            _mmap(at, nbytes, mmap.PROT_READ, flags, descriptor, offset)
            at += nbytes
    except OSError:
        unmap_window(start, size)
        raise
    return start


def keep_window(address: int, nbytes: int) -> None:
    """Cut a window off from its segments: its bytes stay as they are and can be written."""
    libc = _libc()
    if libc.mprotect(address, nbytes, mmap.PROT_READ | mmap.PROT_WRITE):
        raise OSError(ctypes.get_errno(), "memory cannot be made private")
    # a page becomes this process's own when it is written
    for at in range(address, address + nbytes, mmap.PAGESIZE):
        byte = ctypes.c_ubyte.from_address(at)
        byte.value = byte.value


def unmap_window(address: int, nbytes: int) -> None:
    """Give the addresses of a window back."""
    _libc().munmap(address, nbytes)


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    where, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    libc.mmap.argtypes = (where, size, number, number, number, ctypes.c_long)
    libc.munmap.argtypes = (where, size)
    libc.mprotect.argtypes = (where, size, number)
    return libc


def _mmap(at: int | None, size: int, access: int, flags: int, descriptor: int, offset: int) -> int:
    found = _libc().mmap(at, size, access, flags, descriptor, offset)
    if found is None or found == _FAILED:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(found)

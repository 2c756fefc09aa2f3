# SPDX-License-Identifier: Apache-2.0
"""Run directories: where a job's token, sockets and description lie while it runs."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

from kvtrain import platform
from kvtrain.config import run_base
from kvtrain.errors import ConfigError

#: seconds after which a directory without a description counts as left behind
_UNDESCRIBED = 60.0


def create(name: str | None, command: str) -> Path:
    """A fresh directory, mode 0700, for a job; `name` None: made from the command's.

    Raises
    ------
    ConfigError
        A running job has that name.
    """
    base = run_base()
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    if base.stat().st_uid != os.getuid():
        raise ConfigError(f"{base} belongs to another user; set XDG_RUNTIME_DIR or TMPDIR")
    base.chmod(0o700)
    sweep()
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", Path(command).stem)[:20] or "job"
    job = name or f"{stem}-{secrets.token_hex(3)}"
    path = base / job
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        raise ConfigError(
            f"a job named {job!r} is running; choose another --name, or end it with "
            f"`kvtrain stop {job}`"
        ) from None
    describe(path)
    return path


def mint_token(run_dir: Path) -> Path:
    """The job's secret, in a file that only its owner can read."""
    path = run_dir / "token"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32) + "\n")
    return path


def describe(run_dir: Path, **fields: Any) -> None:
    """Write ``job.json``: what `ps`, `status` and `stop` read."""
    held = {"pid": os.getpid(), "started": platform.process_started(os.getpid()), **fields}
    temporary = run_dir / "job.json.new"
    temporary.write_text(json.dumps(held, indent=1))
    temporary.replace(run_dir / "job.json")


def read(run_dir: Path) -> dict[str, Any] | None:
    """The description, or None."""
    try:
        held = json.loads((run_dir / "job.json").read_text())
    except (OSError, ValueError):
        return None
    return held if isinstance(held, dict) else None


def is_running(held: dict[str, Any]) -> bool:
    """Whether the launcher that wrote the description lives."""
    pid = held.get("pid")
    if not isinstance(pid, int) or not platform.process_alive(pid):
        return False
    return held.get("started") in ("", platform.process_started(pid))


def jobs() -> list[tuple[Path, dict[str, Any]]]:
    """Directories and descriptions of the running jobs of this user."""
    base = run_base()
    if not base.is_dir():
        return []
    found = []
    for path in sorted(base.iterdir()):
        held = read(path)
        if held is not None and is_running(held):
            found.append((path, held))
    return found


def token_of(address: str) -> Path | None:
    """The token file of this user's running job whose scheduler is at `address`, if any."""
    for path, held in jobs():
        if held.get("address") == address:
            return path / "token"
    return None


def address_of(job: str) -> str | None:
    """Where the scheduler of this user's running job of that name listens, if there is one."""
    return next((held.get("address") for path, held in jobs() if path.name == job), None)


def sweep() -> None:
    """Remove what dead jobs have left."""
    base = run_base()
    if not base.is_dir():
        return
    for path in base.iterdir():
        held = read(path)
        try:
            age = time.time() - path.stat().st_mtime
        except OSError:
            continue
        if (held is None and age > _UNDESCRIBED) or (held is not None and not is_running(held)):
            remove(path)


def remove(run_dir: Path) -> None:
    """Remove a run directory, and the one above it if it is the last."""
    shutil.rmtree(run_dir, ignore_errors=True)
    try:
        run_dir.parent.rmdir()
    except OSError:
        return

# SPDX-License-Identifier: Apache-2.0
"""Where a job's checkpoints go, and the one that it goes on from."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvtrain.checkpoint import CheckpointDirectory, Manifest
from kvtrain.config import Config
from kvtrain.errors import CheckpointError, FormatError
from kvtrain.ps.net.disk import Owner, load_manifest


@dataclass(frozen=True, slots=True)
class Resumed:
    """The checkpoint that a job goes on from."""

    path: Path
    manifest: Manifest


def choose(
    config: Config, journal: list[dict[str, Any]], note: Callable[[str], None]
) -> Resumed | None:
    """The newest whole checkpoint of ``--resume``, or the one that it names.

    A scheduler that was started again goes on with what its predecessor chose.

    Raises
    ------
    CheckpointError
        There is none, or the one named is damaged.
    """
    chosen = next((r["settings"].get("restore") for r in journal if "settings" in r), None)
    given = chosen if journal else config.resume
    if not given:
        return None
    path = Path(given)
    if path.is_dir():
        found = CheckpointDirectory(path).newest(note)
        assert found.manifest is not None
        return Resumed(found.path.absolute(), found.manifest)
    try:
        manifest = load_manifest(path)
        if not journal:
            directory = CheckpointDirectory(path.parent)
            found = next(f for f in directory.list() if f.path == path)
            directory.verify(found)
    except FormatError as error:
        raise CheckpointError(f"--resume {given}: {error}") from None
    return Resumed(path.absolute(), manifest)


def owner(config: Config, resumed: Resumed | None) -> Owner:
    """Whose checkpoints this job writes: its own, or those of the job that it goes on from.

    Raises
    ------
    CheckpointError
        The directory holds those of another job.
    """
    job, name = config.job_id or secrets.token_hex(8), config.job or "job"
    if resumed is not None:
        job, name = resumed.manifest.job, resumed.manifest.name
    if config.checkpoint_dir:
        CheckpointDirectory(Path(config.checkpoint_dir)).claim(job, name)
    return Owner(job, name, config.checkpoint_keep)

# SPDX-License-Identifier: Apache-2.0
"""A directory of checkpoints of one job: finding, publishing, verifying, retention."""

from __future__ import annotations

import builtins
import contextlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvtrain.checkpoint import durable
from kvtrain.checkpoint.manifest import FORMAT, MAX_BYTES, Manifest, parse
from kvtrain.checkpoint.parts import check_part, read_part
from kvtrain.errors import CheckpointError, FormatError
from kvtrain.ps.core.saved import SavedPart

_MANIFEST = re.compile(r"checkpoint-([0-9]{1,12})\.json")
_OWNER = "job.json"


@dataclass(frozen=True, slots=True)
class Found:
    """A manifest file; `manifest` is None and `error` says why if it cannot be read."""

    path: Path
    sequence: int
    manifest: Manifest | None
    error: str = ""


class CheckpointDirectory:
    """The checkpoints in one directory.

    Parameters
    ----------
    path : Path
        The directory; it is made by :meth:`claim`, not by reading.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    # ---- whose it is ----------------------------------------------------------------------

    def claim(self, job: str, name: str) -> None:
        """Make the directory this job's.

        Raises
        ------
        CheckpointError
            It holds the checkpoints of another job, or cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            owner, owner_name = self.owner()
            if owner is None:
                body = {"format": FORMAT, "job": job, "name": name}
                durable.write(self.path / _OWNER, json.dumps(body).encode() + b"\n")
        except OSError as error:
            raise CheckpointError(f"{self.path}: {error.strerror or error}") from None
        if owner is not None and owner != job:
            raise CheckpointError(
                f"{self.path} holds checkpoints of another job ({owner_name or owner}); go on "
                f"from them with --resume {self.path}, or choose another directory"
            )

    def owner(self) -> tuple[str | None, str]:
        """Identity and name of the job whose checkpoints these are; None: nobody's yet."""
        try:
            body = json.loads((self.path / _OWNER).read_bytes()[: 1 << 16])
            if isinstance(body, dict) and isinstance(body.get("job"), str):
                return body["job"], str(body.get("name", ""))
        except (OSError, ValueError, RecursionError):
            pass
        for found in reversed(self.list()):
            if found.manifest is not None:
                return found.manifest.job, found.manifest.name
        return None, ""

    # ---- reading --------------------------------------------------------------------------

    def list(self) -> list[Found]:
        """All manifests, oldest first, readable or not; parts are not looked at."""
        found = []
        try:
            names = sorted(p.name for p in self.path.iterdir())
        except OSError:
            return []
        for name in names:
            match = _MANIFEST.fullmatch(name)
            if match:
                found.append(self._found(self.path / name, int(match[1])))
        return sorted(found, key=lambda f: f.sequence)

    @staticmethod
    def _found(path: Path, sequence: int) -> Found:
        try:
            with open(path, "rb") as file:
                content = file.read(MAX_BYTES + 1)
            return Found(path, sequence, parse(content, str(path)))
        except FormatError as error:
            return Found(path, sequence, None, str(error))
        except OSError as error:
            return Found(path, sequence, None, f"{path}: {error.strerror or error}")

    def verify(self, found: Found, deep: bool = False) -> None:
        """Check every part of a checkpoint; `deep` reads the arrays too.

        Raises
        ------
        FormatError
            Something is torn, damaged or missing; names the file.
        """
        if found.manifest is None:
            raise FormatError(found.error)
        entries = {entry.id: entry for entry in found.manifest.keys}
        for part in found.manifest.parts:
            if deep:
                read_part(self.path, part, entries)
            else:
                check_part(self.path, part)

    def newest(self, note: Callable[[str], None]) -> Found:
        """The newest checkpoint that is whole; each one passed over is noted by name.

        Raises
        ------
        CheckpointError
            There is none.
        """
        every = self.list()
        for found in reversed(every):
            try:
                self.verify(found)
            except FormatError as error:
                note(f"checkpoint {found.path.name} is not used: {error}")
                continue
            return found
        if not self.path.is_dir():
            raise CheckpointError(f"{self.path}: there is no such directory")
        if every:
            raise CheckpointError(f"{self.path}: none of {len(every)} checkpoints is whole")
        raise CheckpointError(f"{self.path}: there is no checkpoint here")

    # ---- writing --------------------------------------------------------------------------

    def publish(self, manifest: Manifest) -> Found:
        """Write the manifest, last of all; from now on the checkpoint exists.

        Raises
        ------
        CheckpointError
            A part is not there as the manifest says, or the disk is full.
        """
        sequence = max((found.sequence for found in self.list()), default=0) + 1
        path = self.path / f"checkpoint-{sequence:08d}.json"
        try:
            for part in manifest.parts:
                check_part(self.path, part)
            durable.write(path, manifest.dump())
        except FormatError as error:
            raise CheckpointError(f"checkpoint {manifest.attempt} was given up: {error}") from None
        except OSError as error:
            raise CheckpointError(f"cannot write {path}: {error.strerror or error}") from None
        return Found(path, sequence, manifest)

    def discard(self, run: str, attempt: int) -> None:
        """Delete the parts of an attempt that was given up; those that a manifest names stay."""
        every = self.list()
        if any(found.manifest is None for found in every):
            return  # one that cannot be read may name them
        named = {part.file for found in every if found.manifest for part in found.manifest.parts}
        for path in self.path.glob(f"part-{run}-{attempt}-*.safetensors"):
            if path.name not in named:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)

    def retain(self, keep: int, verified: Found) -> builtins.list[str]:
        """Delete what is older than the `keep` newest; `verified` and later are never touched.

        A part is deleted when no manifest that stays names it and it is older than `verified`.
        Returns the names of what was deleted.
        """
        every = self.list()
        stay = [f for f in every if f.sequence >= verified.sequence]
        older = [f for f in every if f.sequence < verified.sequence]
        spare = max(0, keep - len(stay))
        stay += older[len(older) - spare :] if spare else []
        gone = older[: len(older) - spare]
        deleted = []
        for found in gone:
            found.path.unlink(missing_ok=True)
            deleted.append(found.path.name)
        durable.sync_directory(self.path)
        named = {part.file for found in stay if found.manifest for part in found.manifest.parts}
        try:
            limit = verified.path.stat().st_mtime
            for path in list(self.path.glob("part-*.safetensors")):
                if (
                    path.name not in named
                    and path.stat().st_mtime < limit
                    and not any(f.manifest is None for f in stay)
                ):
                    path.unlink(missing_ok=True)
                    deleted.append(path.name)
        except OSError:
            return deleted
        return deleted


def describe_parts(parts: tuple[SavedPart, ...]) -> str:
    """``12 parts, 3.4 MB``."""
    return f"{len(parts)} parts, {sum(p.bytes for p in parts) / 1e6:.1f} MB"

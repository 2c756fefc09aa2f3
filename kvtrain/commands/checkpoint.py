# SPDX-License-Identifier: Apache-2.0
"""``kvtrain checkpoint list|inspect|verify|export``."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from kvtrain.checkpoint.directory import CheckpointDirectory, Found, describe_parts
from kvtrain.checkpoint.export import export
from kvtrain.checkpoint.manifest import Manifest
from kvtrain.errors import CheckpointError, FormatError


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _open(given: str) -> tuple[CheckpointDirectory, Found | None]:
    """A directory, or one manifest in it."""
    path = Path(given)
    if path.is_dir():
        return CheckpointDirectory(path), None
    directory = CheckpointDirectory(path.parent)
    for found in directory.list():
        if found.path.name == path.name:
            return directory, found
    raise CheckpointError(f"{given}: neither a directory nor the manifest of a checkpoint")


def _every(directory: CheckpointDirectory, one: Found | None) -> list[Found]:
    every = [one] if one is not None else directory.list()
    if not every:
        raise CheckpointError(f"{directory.path}: there is no checkpoint here")
    return every


def _chosen(directory: CheckpointDirectory, one: Found | None) -> Manifest:
    found = one if one is not None else directory.newest(lambda text: _warn(text))
    if found.manifest is None:
        raise CheckpointError(found.error)
    return found.manifest


def _warn(text: str) -> None:
    sys.stderr.write(f"kvtrain: {text}\n")


def _steps(manifest: Manifest) -> str:
    return ", ".join(
        f"step {s.step}" if len(manifest.stores) == 1 else f"store {s.number} step {s.step}"
        for s in manifest.stores
    )


def list_(given: str, as_json: bool) -> int:
    """One line per checkpoint, oldest first; 1 if one cannot be read."""
    directory, one = _open(given)
    every = _every(directory, one)
    rows = []
    for found in every:
        held = found.manifest
        row: dict[str, object] = {"file": found.path.name}
        if held is None:
            row["error"] = found.error
        else:
            row |= {
                "kind": held.kind,
                "saved": held.saved,
                "steps": {str(n): step for n, step in held.steps.items()},
                "keys": len(held.keys),
                "bytes": sum(part.bytes for part in held.parts),
                "job": held.name,
            }
        rows.append(row)
        if not as_json and held is None:
            _say(f"{found.path.name}  unreadable: {found.error}")
        elif not as_json and held is not None:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(held.saved))
            _say(
                f"{found.path.name}  {held.kind}  {_steps(held)}  {when}  {len(held.keys)} keys, "
                f"{describe_parts(held.parts)}"
            )
    if as_json:
        _say(json.dumps(rows, indent=1))
    return int(any(found.manifest is None for found in every))


def inspect(given: str, as_json: bool) -> int:
    """What is in the newest whole checkpoint, or in the one named."""
    held = _chosen(*_open(given))
    if as_json:
        _say(held.dump().decode())
        return 0
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(held.saved))
    _say(f"job       {held.name} ({held.job}), {held.workers} workers, {held.servers} servers")
    _say(f"saved     {when} by kvtrain {held.version}, {held.kind}, {_steps(held)}")
    _say(f"parts     {describe_parts(held.parts)}")
    for store in held.stores:
        optimizer = f"{store.optimizer} {store.config}" if store.optimizer else "no optimizer"
        _say(f"store {store.number}   {store.type}, {optimizer}")
    for entry in held.keys:
        _say(f"  {entry.spec.name!r}: {entry.spec.describe()}, {entry.chunks} chunks")
    return 0


def verify(given: str) -> int:
    """Read everything; 1 if anything is torn or damaged."""
    directory, one = _open(given)
    bad = 0
    for found in _every(directory, one):
        try:
            directory.verify(found, deep=True)
        except FormatError as error:
            bad += 1
            _say(f"{found.path.name}  DAMAGED: {error}")
            continue
        assert found.manifest is not None
        _say(f"{found.path.name}  whole: {describe_parts(found.manifest.parts)}")
    return int(bad > 0)


def export_(given: str, target: str, store: int) -> int:
    """Write the weights of one store as ``.params`` or ``.safetensors``."""
    directory, one = _open(given)
    names = export(directory.path, _chosen(directory, one), Path(target), store)
    _say(f"{target}: {len(names)} arrays")
    return 0

# SPDX-License-Identifier: Apache-2.0
"""The disk thread of a role: answers come in order, errors are answers too."""

import select
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kvtrain.errors import JobError
from kvtrain.ps.core.effects import Discard, LoadShards, Publish, SavePart
from kvtrain.ps.core.messages.base import Message
from kvtrain.ps.core.messages.disk import PartWritten, Published, ShardsLoaded
from kvtrain.ps.core.saved import SavedChunk, SavedJob, SavedStore
from kvtrain.ps.core.settings import JobSettings
from kvtrain.ps.net.disk import DiskThread, Owner
from kvtrain.ps.net.journal import JournalFile, read_journal
from tests.checkpoint.made import VIEW, entries, values
from tests.checkpoint.made import save as save_whole

SETTINGS = JobSettings(workers=2, servers=1, shards=4, chunk_bytes=64)


@pytest.fixture
def disk() -> Iterator[DiskThread]:
    thread = DiskThread(lambda: SETTINGS, pytest.fail, Owner("0123", "made", 2))
    yield thread
    thread.close()


def answer(disk: DiskThread) -> Message:
    assert select.select([disk.descriptor], [], [], 20)[0], "no answer"
    (found,) = disk.answers()
    return found


def effects(path: Path, attempt: int) -> tuple[list[SavePart], SavedJob]:
    shards: dict[int, list[SavedChunk]] = {}
    for entry in entries():
        flat = values(attempt)[entry.spec.name].reshape(-1)
        for chunk in entry:
            low, high = entry.bounds(chunk.part)
            shards.setdefault(entry.shard(chunk.part, 4), []).append(
                SavedChunk(chunk, attempt, (flat[low:high],))
            )
    saves = [
        SavePart(attempt, str(path), f"part-r-{attempt}-{s}.safetensors", s, VIEW, tuple(chunks))
        for s, chunks in shards.items()
    ]
    stores = (SavedStore(0, "dist_sync", True, attempt),)
    return saves, SavedJob("exact", stores, tuple(entries()), ())


def test_parts_manifest_and_back(disk: DiskThread, tmp_path: Path) -> None:
    for attempt in (1, 2, 3):
        saves, job = effects(tmp_path, attempt)
        parts = []
        for save in saves:
            disk.submit(save)
            written = answer(disk)
            assert isinstance(written, PartWritten) and written.part, written
            parts.append(written.part)
        disk.submit(
            Publish(attempt, str(tmp_path), SavedJob("exact", job.stores, job.keys, tuple(parts)))
        )
        published = answer(disk)
        assert isinstance(published, Published) and not published.error
    disk.submit(LoadShards(published.path, (0, 2)))
    loaded = answer(disk)
    assert isinstance(loaded, ShardsLoaded) and loaded.job and loaded.job.stores[0].step == 3
    held = {e.id: e for e in entries()}
    assert {held[c.chunk.key].shard(c.chunk.part, 4) for c in loaded.chunks} == {0, 2}
    for saved in loaded.chunks:
        entry = held[saved.chunk.key]
        low, high = entry.bounds(saved.chunk.part)
        wanted = values(3)[entry.spec.name].reshape(-1)[low:high]
        assert np.array_equal(saved.weight, wanted)


def test_errors_are_answers(disk: DiskThread, tmp_path: Path) -> None:
    saves, job = effects(tmp_path / "file", 1)
    (tmp_path / "file").write_text("in the way")
    disk.submit(saves[0])
    written = answer(disk)
    assert isinstance(written, PartWritten) and "file" in written.error
    disk.submit(Publish(1, str(tmp_path / "file"), job))
    published = answer(disk)
    assert isinstance(published, Published) and published.error
    disk.submit(LoadShards(str(tmp_path / "checkpoint-00000001.json"), (0,)))
    loaded = answer(disk)
    assert isinstance(loaded, ShardsLoaded) and "there is no such checkpoint" in loaded.error


def test_what_came_to_nothing_is_deleted(tmp_path: Path, disk: DiskThread) -> None:
    """A disk that is full does not stay full; what a manifest names is never touched."""
    kept = save_whole(tmp_path, 1, 10)
    saves, _ = effects(tmp_path, 2)
    for effect in saves:
        disk.submit(effect)
        assert isinstance(answer(disk), PartWritten)
    before = {part.file for part in kept.manifest.parts}  # type: ignore[union-attr]
    assert {p.name for p in tmp_path.glob("part-*")} > before
    for attempt in (1, 2):
        disk.submit(Discard(attempt, str(tmp_path), "r"))
    disk.submit(saves[0])  # they are done in order
    assert isinstance(answer(disk), PartWritten)
    (tmp_path / saves[0].file).unlink()
    assert {p.name for p in tmp_path.glob("part-*")} == before


def test_a_journal_on_a_full_disk_is_named(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path / "journal")
    journal.write({"kind": "scheduler"})
    assert journal._file is not None
    journal._file.close()
    journal._file = open("/dev/full", "ab")
    with pytest.raises(JobError, match=r"cannot write .*journal: No space left on device"):
        journal.write({"kind": "table"})
    journal.close()
    assert read_journal(tmp_path / "journal") == [{"kind": "scheduler"}]

# SPDX-License-Identifier: Apache-2.0
"""The format: what is written is read back, what is damaged is refused by name."""

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from kvtrain import nd
from kvtrain.checkpoint import CheckpointDirectory, durable, read_part
from kvtrain.checkpoint import parts as parts_module
from kvtrain.checkpoint.export import arrays, export
from kvtrain.checkpoint.manifest import parse
from kvtrain.commands import checkpoint as commands
from kvtrain.errors import CheckpointError, FormatError
from tests.checkpoint.made import entries, save, values


def same(found: dict[str, np.ndarray], scale: float = 1.0) -> None:
    wanted = values(scale)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    found = save(tmp_path, 1, 12)
    directory = CheckpointDirectory(tmp_path)
    (listed,) = directory.list()
    assert listed.manifest == found.manifest and listed.manifest.steps == {0: 12}
    directory.verify(listed, deep=True)
    same(arrays(tmp_path, listed.manifest))
    held = {e.id: e for e in entries()}
    for part in listed.manifest.parts:
        for saved in read_part(tmp_path, part, held):
            assert saved.version == 12 and saved.extra == {"hyper": {"lr": 0.5}}
            if held[saved.chunk.key].spec.name == "w":
                assert np.array_equal(saved.state[0], saved.weight * 2)
                assert saved.state[1].tolist() == [7.0]
            else:
                assert saved.state == ()
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".new")]


@pytest.mark.parametrize("ending", ["params", "safetensors"])
def test_export(tmp_path: Path, ending: str) -> None:
    found = save(tmp_path / "c", 1, 12)
    target = tmp_path / f"out.{ending}"
    assert export(tmp_path / "c", found.manifest, target) == sorted(values())
    if ending == "params":
        read = {name: array.asnumpy() for name, array in nd.load(str(target)).items()}
        read["n"] = read["n"].reshape(())  # MXNet's classic arrays have a dimension at least
        same(read)
    else:
        same(load_file(target))
    with pytest.raises(CheckpointError, match="must end in"):
        export(tmp_path / "c", found.manifest, tmp_path / "out.npz")
    with pytest.raises(CheckpointError, match=r"no keys of store 3; stores: \[0\]"):
        export(tmp_path / "c", found.manifest, target, store=3)


def damages(path: Path, rng: random.Random) -> list[bytes]:
    """Truncated, lengthened and flipped contents of a file."""
    whole = path.read_bytes()
    cut = [whole[: rng.randrange(len(whole))] for _ in range(6)] + [b"", whole[:7], whole + b"\0"]
    flipped = []
    for _ in range(40):
        content = bytearray(whole)
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        flipped.append(bytes(content))
    return [c for c in cut + flipped if c != whole]


def test_damage_is_refused_by_name_and_the_previous_one_used(tmp_path: Path) -> None:
    old = save(tmp_path, 1, 10)
    new = save(tmp_path, 2, 20, scale=-1.0)
    directory = CheckpointDirectory(tmp_path)
    assert directory.newest(pytest.fail).path == new.path
    rng = random.Random(3)
    for name in (new.path.name, *(part.file for part in new.manifest.parts)):
        whole = (tmp_path / name).read_bytes()
        for content in damages(tmp_path / name, rng):
            (tmp_path / name).write_bytes(content)
            notes: list[str] = []
            found = directory.newest(notes.append)
            if found.path == new.path:
                # only white space or such was changed: it must still be the same checkpoint
                assert found.manifest == new.manifest
                continue
            assert found.path == old.path
            assert len(notes) == 1 and name in notes[0] and new.path.name in notes[0]
        (tmp_path / name).write_bytes(whole)
        os.unlink(tmp_path / name)
        assert directory.newest(lambda text: None).path == old.path
        (tmp_path / name).write_bytes(whole)
    for part in old.manifest.parts:
        (tmp_path / part.file).unlink()
    os.truncate(new.path, 50)
    with pytest.raises(CheckpointError, match="none of 2 checkpoints is whole"):
        directory.newest(lambda text: None)
    with pytest.raises(CheckpointError, match="there is no checkpoint here"):
        CheckpointDirectory(tmp_path / "..").newest(pytest.fail)
    with pytest.raises(CheckpointError, match="there is no such directory"):
        CheckpointDirectory(tmp_path / "nowhere").newest(pytest.fail)


def test_a_damaged_part_is_refused_even_with_a_matching_checksum(tmp_path: Path) -> None:
    """The manifest vouches for the bytes; the reader checks what they say all the same."""
    import dataclasses

    found = save(tmp_path, 1, 10)
    held = {e.id: e for e in entries()}
    part = max(found.manifest.parts, key=lambda p: p.bytes)
    path = tmp_path / part.file
    whole = path.read_bytes()
    rng = random.Random(4)
    accepted = 0
    for content in damages(path, rng):
        path.write_bytes(content)
        size, checksum = durable.sha256(path)
        lying = dataclasses.replace(part, bytes=size, sha256=checksum)
        try:
            chunks = read_part(tmp_path, lying, held)
        except FormatError as error:
            assert part.file in str(error)
            continue
        accepted += 1  # a flipped bit of a value: shapes and dtypes still agree
        for saved in chunks:
            low, high = held[saved.chunk.key].bounds(saved.chunk.part)
            assert saved.weight.size == high - low
    assert accepted < 49
    path.write_bytes(whole)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda b: b.update(format=99), "checkpoint format 99; this kvtrain reads up to 1"),
        (lambda b: b.update(kind="guess"), "kind 'guess'; known: exact, aligned, fuzzy"),
        (lambda b: b.pop("keys"), "keys is missing"),
        (lambda b: b.update(workers="2"), r"workers: expected int, got '2'"),
        (lambda b: b["parts"][0].update(file="../../etc/passwd"), "is no name of a part"),
        (lambda b: b["parts"][0].update(shard=99), "a chunk of another shard"),
        (lambda b: b["parts"].pop(), "chunks are in no part"),
        (lambda b: b["parts"].append(b["parts"][0]), "which is wrong"),
        (lambda b: b["keys"][0]["spec"].update(dtype="object"), "dtype object"),
        (lambda b: b["keys"][0]["spec"].update(shape=[1 << 40, 1 << 40]), "elements"),
        (lambda b: b["keys"][0]["spec"].update(shape=[-1]), r"shape \(-1,\)"),
        (lambda b: b["keys"].append(b["keys"][0]), "key id 0 is there twice"),
    ],
    ids=range(12),
)
def test_manifests_that_contradict_themselves(tmp_path: Path, change: object, error: str) -> None:
    from kvtrain.checkpoint.manifest import _checksum

    body = json.loads(save(tmp_path, 1, 10).path.read_bytes())
    body.pop("checksum")
    change(body)  # type: ignore[operator]
    body["checksum"] = _checksum(body)
    with pytest.raises(FormatError, match=error):
        parse(json.dumps(body).encode(), "m.json")


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"null", b'{"format":1}', b"[" * 100_000, b"\xff" * 50]
)
def test_what_is_no_manifest(content: bytes) -> None:
    with pytest.raises(FormatError, match=r"m\.json"):
        parse(content, "m.json")


def test_another_jobs_directory_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 1, 10)
    CheckpointDirectory(tmp_path).claim("0123abcd", "again")
    with pytest.raises(CheckpointError, match=r"another job \(made\).*--resume"):
        CheckpointDirectory(tmp_path).claim("ffff", "mine")
    (tmp_path / "job.json").unlink()  # the manifests still tell whose it is
    with pytest.raises(CheckpointError, match="another job"):
        CheckpointDirectory(tmp_path).claim("ffff", "mine")


def test_retention_deletes_only_what_is_older_than_a_verified_one(tmp_path: Path) -> None:
    made = [save(tmp_path, n, 10 * n) for n in range(1, 6)]
    directory = CheckpointDirectory(tmp_path)
    for i, found in enumerate(made):  # file systems have coarse clocks
        for name in (found.path.name, *(p.file for p in found.manifest.parts)):
            os.utime(tmp_path / name, (1000 + i, 1000 + i))
    # the third is the newest that is known to be whole: the later two stay whatever happens
    directory.retain(1, made[2])
    assert [f.path for f in directory.list()] == [f.path for f in made[2:]]
    for found in made[2:]:
        directory.verify(found)
    kept = {p.file for f in made[2:] for p in f.manifest.parts}
    assert {p.name for p in tmp_path.glob("part-*")} == kept
    directory.retain(2, made[4])
    assert [f.path for f in directory.list()] == [f.path for f in made[3:]]


def test_a_full_disk_leaves_the_previous_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = save(tmp_path, 1, 10)
    before = sorted(p.name for p in tmp_path.iterdir())

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parts_module.durable, "settle", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        save(tmp_path, 2, 20)
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert CheckpointDirectory(tmp_path).newest(pytest.fail).path == old.path


def test_publishing_checks_the_parts(tmp_path: Path) -> None:
    found = save(tmp_path, 1, 10)
    part = tmp_path / found.manifest.parts[0].file
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="torn or damaged"):
        CheckpointDirectory(tmp_path).publish(found.manifest)
    assert len(CheckpointDirectory(tmp_path).list()) == 1


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "c")
    save(tmp_path / "c", 1, 10)
    new = save(tmp_path / "c", 2, 20)
    assert commands.list_(folder, False) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 2 and "exact  step 20" in out and "4 keys" in out
    assert commands.list_(folder, True) == 0
    assert [row["steps"]["0"] for row in json.loads(capsys.readouterr().out)] == [10, 20]
    assert commands.inspect(folder, False) == 0
    assert "'w': shape (10, 3), dtype float32" in capsys.readouterr().out
    assert commands.verify(folder) == 0
    assert commands.export_(folder, str(tmp_path / "x.params"), 0) == 0
    assert commands.export_(str(new.path), str(tmp_path / "y.params"), 0) == 0
    capsys.readouterr()
    os.truncate(tmp_path / "c" / new.manifest.parts[0].file, 3)
    assert commands.verify(folder) == 1
    out = capsys.readouterr().out
    assert f"{new.path.name}  DAMAGED" in out and new.manifest.parts[0].file in out
    with pytest.raises(CheckpointError, match="neither a directory nor"):
        commands.verify(str(tmp_path / "no"))
    with pytest.raises(CheckpointError, match="there is no checkpoint here"):
        commands.list_(str(tmp_path), False)

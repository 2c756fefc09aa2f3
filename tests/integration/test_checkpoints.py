# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of real jobs: saved by hand and by themselves, gone on from, refused, exported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvtrain import nd
from kvtrain.checkpoint import CheckpointDirectory
from tests.integration.jobs import ROOT, Result, environment, launch, left_over, write

pytestmark = pytest.mark.integration

#: momentum and a changing learning rate: states, counters and hyper-parameters matter
TRAIN = """
import os, sys, hashlib
steps, stop = int(sys.argv[1]), int(sys.argv[2])
kv = mx.kv.create("dist_sync")
schedule = mx.lr_scheduler.FactorScheduler(step=3, factor=0.7, base_lr=0.1)
kv.set_optimizer(mx.optimizer.SGD(momentum=0.9, lr_scheduler=schedule))
shapes = {"w": (40, 50), "b": (7,), "large": (300, 1000)}
values = {k: nd.ones(s) * len(k) for k, s in shapes.items()}
kv.init(list(values), list(values.values()))
kv.pull(list(values), list(values.values()))
# rows that are all there, and rows that arise when they are touched
kv.init("rows", nd.ones((90, 3)).tostype("row_sparse"))
kv.init_row_sparse("table", (4000, 3), initializer="normal", seed=5)
out = {k: nd.sparse.zeros("row_sparse", s) for k, s in (("rows", (90, 3)), ("table", (4000, 3)))}
print("from", kv.resume_step)
for step in range(kv.resume_step, steps):
    for i, (name, value) in enumerate(values.items()):
        # depends on weights, rank and step only
        grad = nd.sin(value * (kv.rank + 2) + step) * 0.1
        kv.pushpull(name, grad, out=value, priority=-i)
    for name, target in out.items():
        ids = nd.array([1, 2 + kv.rank, 7 * step % 89, target.shape[0] - 1 - step], dtype="int64")
        kv.row_sparse_pull(name, out=target, row_ids=ids)
        grad = nd.sin(target.data * (kv.rank + 2) + step)
        grad = nd.sparse.row_sparse_array((grad, target.indices), shape=target.shape)
        kv.push(name, grad)
        kv.row_sparse_pull(name, out=target, row_ids=nd.arange(90))
        target.wait_to_read()
    for value in values.values():
        value.wait_to_read()
    kv.tick()
    if step + 1 == stop:
        path = kv.save_checkpoint()
        assert os.path.exists(path), path
        print("saved", path)
        break
parts = [*values.values(), *(target.data for target in out.values())]
digest = hashlib.sha256(b"".join(v.asnumpy().tobytes() for v in parts))
print("bits", digest.hexdigest())
"""


def train(run_base: Path, tmp_path: Path, *arguments: str, n: int = 2, code: int = 0) -> Result:
    *options, steps, stop = arguments
    script = write(tmp_path, TRAIN)
    result = launch(run_base, "-n", str(n), *options, script, steps, stop)
    assert result.code == code, result.err + result.out
    assert left_over(run_base) == []
    return result


def bits(result: Result) -> str:
    """The digest on which all workers agree."""
    (found,) = {line.split("bits ")[1] for line in result.out.splitlines() if "bits " in line}
    return found


def test_a_job_goes_on_with_the_same_bits(run_base: Path, tmp_path: Path) -> None:
    """By hand, on another number of servers, with replicas."""
    whole = bits(train(run_base, tmp_path, "-s", "1", "9", "0"))
    where = str(tmp_path / "c")
    saved = train(run_base, tmp_path, "-s", "2", "--checkpoint-dir", where, "9", "4")
    assert len([x for x in saved.out.splitlines() if "saved" in x]) == 2
    for options in (("-s", "3"), ("-s", "1"), ("-s", "2", "--replicas", "1")):
        elsewhere = ("--checkpoint-dir", str(tmp_path / "".join(options)))
        again = train(run_base, tmp_path, *options, "--resume", where, *elsewhere, "9", "0")
        assert again.lines("worker-0")[0] == "from 4"
        assert bits(again) == whole, options


def test_checkpoints_by_themselves(run_base: Path, tmp_path: Path) -> None:
    where = tmp_path / "c"
    options = ("--checkpoint-dir", str(where), "--checkpoint-every", "3", "--checkpoint-keep", "9")
    whole = bits(train(run_base, tmp_path, *options, "40", "0"))
    directory = CheckpointDirectory(where)
    found = directory.list()
    steps = [f.manifest.steps[0] for f in found]
    assert steps[0] == 3 and steps[-1] == 40, steps
    assert all(step % 3 == 0 for step in steps[:-1])
    for one in found:
        assert one.manifest.kind == "exact"
        directory.verify(one, deep=True)
    again = train(
        run_base,
        tmp_path,
        "--resume",
        str(found[0].path),
        "--checkpoint-dir",
        str(tmp_path / "d"),
        "40",
        "0",
    )
    assert again.lines("worker-1")[0] == "from 3"
    assert bits(again) == whole
    exported = tmp_path / "x.params"
    command = [sys.executable, "-m", "kvtrain", "checkpoint"]
    env = environment(run_base)
    for arguments in (["list", str(where)], ["export", str(where), str(exported)]):
        subprocess.run([*command, *arguments], check=True, env=env, cwd=ROOT, capture_output=True)
    assert nd.load(str(exported))["w"].shape == (40, 50)


def test_damage_other_models_and_other_jobs(run_base: Path, tmp_path: Path) -> None:
    where = tmp_path / "c"
    options = ("--checkpoint-dir", str(where), "--checkpoint-every", "2")
    train(run_base, tmp_path, *options, "12", "0")
    found = CheckpointDirectory(where).list()
    assert len(found) >= 2
    # the directory of another job
    result = train(run_base, tmp_path, *options, "12", "0", code=1)
    assert "holds checkpoints of another job" in result.err
    # the newest one is torn: refused by name, and the previous one used
    part = where / max(found[-1].manifest.parts, key=lambda p: p.bytes).file
    os.truncate(part, part.stat().st_size - 9)
    elsewhere = ("--checkpoint-dir", str(tmp_path / "d"))
    again = train(run_base, tmp_path, "--resume", str(where), *elsewhere, "12", "0")
    assert f"{found[-1].path.name} is not used" in again.err and part.name in again.err
    assert again.lines("worker-0")[0] == f"from {found[-2].manifest.steps[0]}"
    result = train(run_base, tmp_path, "--resume", str(found[-1].path), "12", "0", code=1)
    assert part.name in result.err and "torn or damaged" in result.err
    # another model
    script = (tmp_path / "script.py").read_text().replace('"b": (7,)', '"bias": (7,)')
    (tmp_path / "other.py").write_text(script)
    result = launch(
        run_base, "-n", "2", "--resume", str(where), str(tmp_path / "other.py"), "1", "0"
    )
    assert result.code == 1
    assert "another model than the one in the checkpoint: key 'bias'" in result.err
    assert "it holds 'b', 'large'" in result.err


def test_a_disk_that_cannot_be_written_does_not_end_the_job(run_base: Path, tmp_path: Path) -> None:
    """The job goes on, loud; the error reaches whoever asked."""
    text = """
    import os, pathlib, sys
    kv = mx.kv.create("dist_sync")
    kv.set_optimizer(mx.optimizer.SGD(learning_rate=0.1))
    kv.init("w", nd.ones((50,)))
    out = nd.zeros((50,))
    kv.pushpull("w", nd.ones((50,)), out=out)
    out.wait_to_read()
    kv.tick()
    if kv.rank == 0:
        try:
            kv.save_checkpoint(sys.argv[1])
        except mx.errors.CheckpointError as error:
            print("refused:", error)
    kv.barrier()
    kv.pushpull("w", nd.ones((50,)), out=out)
    print("value", round(float(out[0].asscalar()), 3))
    """
    (tmp_path / "file").write_text("in the way")
    result = launch(run_base, "-n", "2", write(tmp_path, text), str(tmp_path / "file" / "c"))
    assert result.code == 0, result.err
    assert result.out.count("value 0.6") == 2
    assert "refused: checkpoint at" in result.out and "the previous one is kept" in result.err

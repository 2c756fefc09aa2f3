# SPDX-License-Identifier: Apache-2.0
"""Jobs that go on from a checkpoint come to the bits of jobs that were never stopped."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kvtrain.checkpoint import CheckpointDirectory
from tests.integration.jobs import ROOT, Result, environment, launch, left_over, write

pytestmark = pytest.mark.integration

#: a store for each row, all in one job: optimizers by element and by key, schedules, a rate that
#: is changed on the way, master weights, whole numbers, keys pushed several times or not at all;
#: and two Trainers with the same names
EVERY = """
import hashlib, sys
import numpy as np
from kvtrain import autograd, gluon, lr_scheduler, optimizer

steps, stop = int(sys.argv[1]), int(sys.argv[2])
schedule = lr_scheduler.MultiFactorScheduler([2, 5], 0.5, base_lr=0.1)
rows = {
    "schedule": (optimizer.SGD(momentum=0.9, wd=0.01, lr_scheduler=schedule), "float32"),
    "adam": (optimizer.Adam(0.01), "float32"),
    "lamb": (optimizer.LAMB(learning_rate=0.01), "float32"),
    "lars": (optimizer.LARS(learning_rate=0.1, momentum=0.9), "float32"),
    "nadam": (optimizer.Nadam(), "float32"),
    "ftrl": (optimizer.Ftrl(), "float32"),
    "half": (optimizer.SGD(learning_rate=0.1, momentum=0.9, multi_precision=True), "float16"),
    "noise": (optimizer.SGLD(learning_rate=0.01), "float32"),
    "changed": (optimizer.SGD(learning_rate=0.1), "float32"),
    "counters": (optimizer.SGD(learning_rate=1.0), "int64"),
    "uneven": (optimizer.Adam(0.01), "float32"),
}
shapes = {"w": (30, 20), "b": (7,), "large": (200, 50)}
stores = {}
for name, (made, dtype) in rows.items():
    kv = mx.kv.create("dist_sync")
    kv.set_optimizer(made)
    values = {k: (nd.arange(int(np.prod(s))).reshape(s) % 7 + 1).astype(dtype)
              for k, s in shapes.items()}
    kv.init(list(values), list(values.values()))
    kv.pull(list(values), list(values.values()))
    stores[name] = (kv, values)
first = stores["adam"][0]

def trainer(overlap):
    net = gluon.nn.Dense(3, in_units=8, prefix="net_")
    net.initialize(mx.init.Constant(0.1))
    return net, gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.01},
                              kvstore="dist_sync", overlap=overlap)

nets = [trainer(False), trainer(True)]
print("from", first.resume_step)
for step in range(first.resume_step, steps):
    for name, (kv, values) in stores.items():
        if name == "changed" and step == 2 and kv.rank == 0:
            kv.set_hyper("learning_rate", 0.3)
        for key, value in values.items():
            if name == "uneven" and key == "b" and step % 3:
                continue
            grad = nd.ones(value.shape, dtype="int64") * (kv.rank + 1)
            if value.dtype != np.int64:
                grad = nd.sin(value.astype("float32") * (kv.rank + 2) + step) * 0.1
                grad = grad.astype(value.dtype)
            for n in range(2 if (name, key) == ("uneven", "w") else 1):
                kv.pushpull(key, grad, out=value)
        for value in values.values():
            value.wait_to_read()
        kv.tick()
    for net, one in nets:
        if step == 2:
            one.set_learning_rate(0.02)
        with autograd.record():
            loss = (net(nd.ones((4, 8)) * (step + first.rank)) ** 2).sum()
        loss.backward()
        one.step(8)
    if step + 1 == stop:
        first.save_checkpoint()
        break
for i, (net, _) in enumerate(nets):
    stores[f"trainer {i}"] = (None, {k: p.data() for k, p in net.collect_params().items()})
for name, (_, values) in stores.items():
    digest = hashlib.sha256(b"".join(v.asnumpy().tobytes() for v in values.values()))
    print("bits of", name, digest.hexdigest())
"""


def run(run_base: Path, *arguments: str) -> list[str]:
    result = launch(run_base, "-n", "2", *arguments)
    assert result.code == 0, result.err + result.out
    return [line for line in result.lines("worker-1") if line.startswith(("from", "bits"))]


def test_every_kind_of_store_goes_on_with_the_same_bits(run_base: Path, tmp_path: Path) -> None:
    script, where = write(tmp_path, EVERY), str(tmp_path / "c")
    whole = run(run_base, "-s", "1", script, "7", "0")
    assert len(whole) == 14
    run(run_base, "-s", "2", "--checkpoint-dir", where, script, "7", "4")
    again = run(run_base, "-s", "3", "--resume", where, script, "7", "0")
    assert again[0] == "from 4"
    assert again[1:] == whole[1:]


def test_workers_of_async_keys_stop_a_moment(run_base: Path, tmp_path: Path) -> None:
    """And a Trainer whose weights are not on the servers is told where they should be."""
    text = """
    import sys
    from kvtrain import autograd, gluon
    net = gluon.nn.Dense(3, in_units=8)
    net.initialize()
    here = sys.argv[1] == "here"
    trainer = gluon.Trainer(net.collect_params(), "sgd", kvstore="dist_" + sys.argv[1],
                            update_on_kvstore=sys.argv[2] == "there")
    for step in range(60):
        with autograd.record():
            loss = net(nd.ones((4, 8))).sum()
        loss.backward()
        trainer.step(4)
    """
    script, where = write(tmp_path, text), tmp_path / "c"
    options = ("-n", "2", "--checkpoint-every", "5", "--checkpoint-dir")
    result = launch(run_base, *options, str(where), script, "async", "there")
    assert result.code == 0, result.err
    kinds = {found.manifest.kind for found in CheckpointDirectory(where).list() if found.manifest}
    assert kinds == {"aligned"}
    refused = launch(run_base, *options, str(tmp_path / "d"), script, "sync", "here")
    assert refused.code != 0 and "set update_on_kvstore=True" in refused.err


def on_a_small_disk(run_base: Path, where: Path, *arguments: str) -> Result:
    """``kvtrain launch`` where `where` is a file system of 400 KiB."""
    where.mkdir()
    mount = f"mount -t tmpfs -o size=400k none {where}"
    if (
        shutil.which("unshare") is None
        or subprocess.run(
            ["unshare", "-rm", "sh", "-c", mount], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("mounting is not permitted here")
    command = [sys.executable, "-m", "kvtrain", "launch", *arguments]
    verify = f"{sys.executable} -m kvtrain checkpoint verify {where}"
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f'{mount} && "$@" && {verify}', "sh", *command],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(run_base),
        cwd=ROOT,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def test_a_disk_that_fills_up(run_base: Path, tmp_path: Path) -> None:
    """The previous checkpoint stays, the job goes on, and what came to nothing is deleted."""
    text = """
    import glob, sys
    kv = mx.kv.create("dist_sync")
    kv.set_optimizer(mx.optimizer.SGD(learning_rate=0.1))
    out, big = nd.zeros((50,)), nd.zeros((300, 1000))
    kv.init("w", nd.ones((50,)))
    for step in range(4):
        kv.pushpull("w", nd.ones((50,)), out=out)
        if step == 2:
            kv.init("large", nd.ones((300, 1000)))
        out.wait_to_read()
        kv.tick()
        try:
            print("saved", kv.save_checkpoint().rpartition("/")[2])
        except mx.errors.CheckpointError as error:
            print("refused", error)
        kv.barrier()
    print("value", round(float(out[0].asscalar()), 3))
    """
    where = tmp_path / "small"
    script = write(tmp_path, text)
    result = on_a_small_disk(run_base, where, "-n", "1", "--checkpoint-dir", str(where), script)
    assert result.code == 0, result.err + result.out
    said = result.lines("worker-0")
    assert [line.split()[0] for line in said] == ["saved", "saved", "refused", "refused", "value"]
    assert "No space left on device" in said[2] and "the previous one is kept" in result.err
    assert said[4] == "value 0.6"
    assert "checkpoint-00000002.json  whole" in result.out
    assert left_over(run_base) == []

# SPDX-License-Identifier: Apache-2.0
"""Weights read in the servers' memory, while servers are killed and hand over."""

import os
import random
import signal
import tempfile
from pathlib import Path

import pytest

from tests.integration.chaos import Running, pause, running
from tests.integration.jobs import launch, left_over, write
from tests.integration.test_chaos import wait_until_whole

pytestmark = pytest.mark.integration
STEPS = 150
SCRIPT = """
import os, sys, zlib
import numpy as np
from kvtrain import autograd, gluon

steps, overlap = int(sys.argv[1]), sys.argv[2] == "overlap"
kv = mx.kv.create("dist_sync")
mx.random.seed(5)
net = gluon.nn.Sequential(prefix="wide_")
with net.name_scope():
    net.add(gluon.nn.Dense(512, activation="relu", in_units=700))
    net.add(gluon.nn.Dense(300, in_units=512), gluon.nn.Dense(10, in_units=300))
net.initialize(mx.init.Xavier())
how = {"learning_rate": 0.05, "momentum": 0.9}
trainer = gluon.Trainer(net.collect_params(), "sgd", how, kvstore=kv, overlap=overlap)
loss = gluon.loss.SoftmaxCrossEntropyLoss()
first, second = net[0].weight.data(), net[1].weight.data()


def mark(array):
    return zlib.crc32(np.ascontiguousarray(array._read()).data)


mapped, held = 0, []
for step in range(steps):
    rng = np.random.default_rng([kv.rank, step])
    x = nd.array(rng.standard_normal((8, 700)).astype("f"))
    y = nd.array(rng.integers(0, 10, 8))
    with autograd.record():
        out = loss(net(x), y)
    out.backward()
    trainer.step(8 * kv.num_workers)
    before = [mark(first), mark(second)]
    mapped += sum(w.mapped for w in kv._mapped._weights.values())
    if step % 50 == 4:  # kept by reference, read after other steps
        held.append((first._read(), mark(first), second.asnumpy(), mark(second)))
    if step % 50 == 6:
        raw, then, copy, also = held.pop()
        assert zlib.crc32(copy.data) == also
        del raw
    if step % 9 == 7:  # a write of the same values moves it to private memory
        second *= 1
        weight = kv._mapped._weights.get(net[1].weight.name)
        assert weight is None or not weight.mapped
    if step in (20, 21):
        there = np.from_dlpack(second)
        kv.pull(net[0].weight.name, out=nd.zeros(first.shape))
    if step == 23:
        del there
    assert before == [mark(first), mark(second)], f"step {step}: it changed under its reader"
    if step % 10 == 0 and kv.rank == 0:
        print(f"step {step}:", flush=True)
del held
print("mapped", mapped > steps // 2, flush=True)
print("end", [mark(p.data()) for p in net.collect_params().values()], flush=True)
"""


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The last line of a run in which everything is copied."""
    script = write(tmp_path_factory.mktemp("copied"), SCRIPT)
    with tempfile.TemporaryDirectory(prefix="kt", dir="/tmp") as base:
        command = ("-n", "2", "-s", "2", "--transport", "ipc", script, str(STEPS), "plain")
        result = launch(Path(base), *command, timeout=120)
    assert result.code == 0, result.err
    assert result.lines("worker-1")[-2:] == ["mapped False", result.lines("worker-0")[-1]]
    return result.lines("worker-0")[-1]


def disturb(job: Running, how: int) -> None:
    """One server after the other ends, so that every weight moves."""
    rng = random.Random(how)
    for number in range(2):
        job.wait_for(f"step {10 + 60 * number}:")
        if not wait_until_whole(job):
            return
        pause(rng.uniform(0.0, 0.1))
        job.signal(f"server-{number}", how)


@pytest.mark.parametrize(
    ("how", "overlap"), [(signal.SIGKILL, "plain"), (signal.SIGTERM, "overlap")]
)
def test_mapped_weights_survive_their_servers(
    run_base: Path, tmp_path: Path, copied: str, how: int, overlap: str
) -> None:
    command = ("-n", "2", "-s", "2", "--replicas", "1", write(tmp_path, SCRIPT), str(STEPS))
    before = set(os.listdir("/dev/shm"))
    with running(run_base, "mapped", *command, overlap) as job:
        disturb(job, how)
        result = job.end(120)
        assert result.code == 0, result.err[-4000:]
        for rank in range(2):
            assert result.lines(f"worker-{rank}")[-2:] == ["mapped True", copied], result.err
    assert left_over(run_base) == [] and set(os.listdir("/dev/shm")) <= before

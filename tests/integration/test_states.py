# SPDX-License-Identifier: Apache-2.0
"""Optimizer states of a job's servers: saved, loaded elsewhere, gone on from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.jobs import launch, left_over, write

pytestmark = pytest.mark.integration
SCRIPT = """
import os
import numpy as np
from kvtrain import autograd, gluon

folder = os.environ["FOLDER"]

def network():
    net = gluon.nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(gluon.nn.Dense(700, in_units=500), gluon.nn.Dense(3, in_units=700))
    mx.random.seed(5)
    net.initialize(mx.init.Xavier())
    return net

def trainer_of(net, kind, options):
    schedule = mx.lr_scheduler.FactorScheduler(2, 0.7, base_lr=options.get("learning_rate", 0.01))
    options = {**options, "lr_scheduler": schedule}
    return gluon.Trainer(net.collect_params(), kind, options, kvstore="dist_sync")

def train(net, trainer, steps):
    for step in steps:
        rng = np.random.RandomState(10 * step + rank)
        x = nd.array(rng.standard_normal((4, 500)))
        with autograd.record():
            loss = (net(x) ** 2).mean()
        loss.backward()
        trainer.step(2)

rank = mx.kv.create("dist_sync").rank
for kind, options in (
    ("sgd", {"momentum": 0.9, "learning_rate": 0.05}),
    ("adam", {"learning_rate": 0.01}),
    ("lamb", {"learning_rate": 0.01}),
):
    whole, first, second = network(), network(), network()
    train(whole, trainer_of(whole, kind, options), range(7))
    one = trainer_of(first, kind, options)
    train(first, one, range(4))
    mine = f"{folder}/{kind}-{rank}.states"
    one.save_states(mine)
    first.save_parameters(f"{folder}/{kind}-{rank}.params")
    train(first, one, range(4, 6))           # what was saved is older than this
    second.load_parameters(f"{folder}/{kind}-{rank}.params")
    two = trainer_of(second, kind, options)
    two.load_states(mine)
    train(second, two, range(4, 7))
    same = all(
        a.data().asnumpy().tobytes() == b.data().asnumpy().tobytes()
        for a, b in zip(whole.collect_params().values(), second.collect_params().values())
    )
    alone = gluon.Trainer(second.collect_params(), kind, options, kvstore=None)
    alone.load_states(mine)                  # a Trainer of one process reads the file too
    counts = set(alone._optimizer._index_update_count.values())
    kinds = sorted(alone._updaters[0].states)
    print(kind, same, counts, kinds, flush=True)
"""


def test_states_go_on_in_another_store(tmp_path: Path, run_base: Path) -> None:
    done = launch(
        run_base, "-n", "2", "-s", "2", write(tmp_path, SCRIPT), FOLDER=str(tmp_path), timeout=120
    )
    assert done.code == 0, done.err + done.out
    for rank in range(2):
        assert done.lines(f"worker-{rank}") == [
            f"{kind} True {{4}} [0, 1, 2, 3]" for kind in ("sgd", "adam", "lamb")
        ]
    assert len(list(tmp_path.glob("*.states*"))) == 6
    assert not left_over(run_base)


BAD = """
kv = mx.kv.create("dist_sync")
kv.set_optimizer(mx.optimizer.create("adam"))
kv.init("w", nd.ones((4,)))
other = mx.optimizer.get_updater(mx.optimizer.create("sgd", momentum=0.9))
other("w", nd.ones((4,)), nd.ones((4,)))
for make in (
    lambda: other.get_states(dump_optimizer=True),   # of another optimizer
    lambda: other.get_states(),                      # one array of state, two are wanted
    lambda: b"nonsense",
):
    open("FILE", "wb").write(make())
    try:
        kv.load_optimizer_states("FILE")
    except mx.MXNetError as error:
        print(type(error).__name__, str(error)[:200], flush=True)
kv.push("w", nd.ones((4,)))
out = nd.zeros((4,))
kv.pull("w", out)
print(*[f"{value:.4f}" for value in out.asnumpy()])
"""


def test_files_that_do_not_fit(tmp_path: Path, run_base: Path) -> None:
    script = write(tmp_path, BAD.replace("FILE", str(tmp_path / "file")))
    done = launch(run_base, "-n", "1", script)
    assert done.code == 0, done.err + done.out
    lines = done.lines("worker-0")
    assert lines[0].startswith("FormatError") and "states of SGD; this store runs Adam" in lines[0]
    assert lines[1].startswith("FormatError") and "1 arrays of state for key 'w'" in lines[1]
    assert lines[2].startswith("FormatError")
    assert lines[3] == "0.9990 0.9990 0.9990 0.9990"


ROWS = """
import os, signal
import numpy as np

folder, kill = os.environ["FOLDER"], os.environ["KILL"]
shape = (301, 6)

def store_of(kind, options):
    kv = mx.kv.create("dist_sync")
    kv.set_optimizer(mx.optimizer.create(kind, begin_num_update=0, **options))
    kv.init_row_sparse("table", shape, initializer=mx.init.Normal(0.1), seed=4)
    first = np.random.default_rng(1).standard_normal(shape).astype("f4")
    kv.init("whole", nd.array(first).tostype("row_sparse"))
    kv.init("dense", nd.array(first))
    return kv

def train(kv, steps):
    for step in steps:
        rng = np.random.default_rng([kv.rank, step])
        ids = np.unique(rng.integers(0, 301, 40))
        rows = rng.standard_normal((ids.size, 6)).astype("f4")
        sparse = nd.sparse.row_sparse_array((rows, ids), shape=shape)
        for key in ("table", "whole"):
            kv.push(key, sparse)
        kv.push("dense", sparse.tostype("default"))
        kv.tick()

def values(kv):
    found = []
    for key in ("table", "whole"):
        out = nd.sparse.zeros("row_sparse", shape)
        kv.row_sparse_pull(key, out=out, row_ids=nd.arange(301))
        found.append(out.data.asnumpy())
    out = nd.zeros(shape)
    kv.pull("dense", out=out)
    return [*found, out.asnumpy()]

def lose_a_server():
    # the launcher starts it again; what it held was on the other server too
    parent = os.getppid()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
            text = open(f"/proc/{pid}/cmdline").read()
        except OSError:
            continue
        if int(stat[1]) == parent and "server" in text:
            os.kill(int(pid), signal.SIGKILL)
            return
    raise AssertionError("no server")

for kind, options in (("sgd", {"momentum": 0.9, "learning_rate": 0.05}),
                      ("adam", {"learning_rate": 0.01})):
    kv = store_of(kind, options)
    train(kv, range(4))
    mine = f"{folder}/{kind}-{kv.rank}.states"
    kv.save_optimizer_states(mine, dump_optimizer=True)
    before = values(kv)
    train(kv, range(4, 7))
    whole = values(kv)
    # weights of then, states of then, in the same store: nothing differs afterwards
    kv.barrier()
    again = mx.kv.create("dist_sync")
    again.set_optimizer(mx.optimizer.create(kind, begin_num_update=0, **options))
    for key, value in zip(("table", "whole", "dense"), before):
        value = nd.array(value)
        again.init(key, value if key == "dense" else value.tostype("row_sparse"))
    again.load_optimizer_states(mine)
    again.barrier()
    if kill == "yes" and kv.rank == 0 and kind == "sgd":
        lose_a_server()
    for _ in range(4):
        again.tick()
    train(again, range(4, 7))
    same = [a.tobytes() == b.tobytes() for a, b in zip(whole, values(again))]
    print(kind, same, flush=True)
"""


@pytest.mark.parametrize(("replicas", "kill"), [("0", "no"), ("1", "yes")])
def test_states_of_rows_and_with_replicas(
    tmp_path: Path, run_base: Path, replicas: str, kill: str
) -> None:
    more = {"FOLDER": str(tmp_path), "KILL": kill}
    script = write(tmp_path, ROWS)
    done = launch(
        run_base, "-n", "2", "-s", "2", "--replicas", replicas, script, timeout=90, **more
    )
    assert done.code == 0, done.err + done.out
    for rank in range(2):
        assert done.lines(f"worker-{rank}") == [
            f"{kind} [True, True, True]" for kind in ("sgd", "adam")
        ]
    assert not left_over(run_base)

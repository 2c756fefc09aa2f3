# SPDX-License-Identifier: Apache-2.0
"""Row-sparse keys in jobs of real processes."""

from pathlib import Path

import pytest

from tests.integration.jobs import launch, left_over, write

pytestmark = pytest.mark.integration

COMMON = """
import numpy as np
shape = (50_000, 4)

def gradient(rank, step, count=600):
    rng = np.random.default_rng([rank, step])
    ids = np.sort(rng.choice(2_000 if step % 2 else shape[0], count, replace=False))
    values = (rng.standard_normal((count, *shape[1:])) * 10.0 ** rng.integers(-2, 3)).astype("f4")
    return nd.sparse.row_sparse_array((values, ids), shape=shape)

first = np.random.default_rng(0).standard_normal(shape).astype("f4")
"""


@pytest.mark.parametrize(("workers", "servers"), [("1", "1"), ("3", "2")])
def test_rows_have_the_bits_of_one_process(
    run_base: Path, tmp_path: Path, workers: str, servers: str
) -> None:
    script = write(
        tmp_path,
        COMMON
        + """
n = mx.kv.create("dist_sync").num_workers
for made in (None, mx.optimizer.SGD(learning_rate=0.1, momentum=0.9, wd=0.01),
             mx.optimizer.Adam(), mx.optimizer.AdaGrad()):
    stores = [mx.kv.create("dist_sync"), mx.kv.create("local")]
    outs = [nd.sparse.zeros("row_sparse", shape) for _ in stores]
    dense = [nd.zeros((3,)) for _ in stores]
    for kv in stores:
        if made is not None:
            kv.set_optimizer(made if kv is stores[0] else
                             mx.optimizer.create(type(made).__name__, **(
                                 {"learning_rate": 0.1, "momentum": 0.9, "wd": 0.01}
                                 if type(made).__name__ == "SGD" else {})))
        kv.init("emb", nd.array(first).tostype("row_sparse"))
        kv.init("bias", nd.zeros((3,)))
    for step in range(4):
        rank = stores[0].rank
        mine = gradient(rank, step) if (rank or step % 2 == 0) else nd.sparse.zeros(
            "row_sparse", shape)
        others = [gradient(r, step) if (r or step % 2 == 0) else nd.sparse.zeros(
            "row_sparse", shape) for r in range(n)]
        ids = nd.array(np.random.default_rng(step).integers(0, shape[0], (30, 30)), dtype="int64")
        stores[0].push(["bias", "emb"], [nd.ones((3,)) * (rank + 1), mine])
        stores[1].push(["bias", "emb"], [[nd.ones((3,)) * (r + 1) for r in range(n)], others])
        for kv, out, bias in zip(stores, outs, dense):
            kv.row_sparse_pull("emb", out=out, row_ids=ids)
            kv.pull("bias", bias)
        for part in ("indices", "data"):
            a, b = (getattr(out, part).asnumpy() for out in outs)
            assert a.tobytes() == b.tobytes(), (made, step, part)
        assert dense[0].asnumpy().tobytes() == dense[1].asnumpy().tobytes()
        stores[0].tick()
    whole = [nd.zeros(shape) for _ in stores]
    for kv, out in zip(stores, whole):
        kv.pull("emb", out)
    assert whole[0].asnumpy().tobytes() == whole[1].asnumpy().tobytes()
print("fine")
""",
    )
    result = launch(run_base, "-n", workers, "-s", servers, script)
    assert result.code == 0, result.err
    assert result.lines("worker-0") == ["fine"]
    assert left_over(run_base) == []


def test_a_table_of_two_hundred_million_rows(run_base: Path, tmp_path: Path) -> None:
    script = write(
        tmp_path,
        """
        import numpy as np
        shape = (200_000_000, 16)
        kv = mx.kv.create("dist_async")
        kv.set_optimizer(mx.optimizer.SGD(learning_rate=0.5, momentum=0.9))
        kv.init_row_sparse("big", shape, initializer="uniform", seed=3)
        local = mx.kv.create("local")
        local.init_row_sparse("big", shape, initializer="uniform", seed=3)
        rng = np.random.default_rng(1)
        ids = np.unique(rng.integers(0, shape[0], 150_000))
        mine = np.array_split(ids, kv.num_workers)[kv.rank]
        out, same = (nd.sparse.zeros("row_sparse", shape) for _ in range(2))
        for part in np.array_split(mine, 4):
            kv.row_sparse_pull("big", out=out, row_ids=nd.array(part, dtype="int64"))
            local.row_sparse_pull("big", out=same, row_ids=nd.array(part, dtype="int64"))
            first = out.data.asnumpy()
            assert first.tobytes() == same.data.asnumpy().tobytes()
            kv.push("big", nd.sparse.row_sparse_array((np.ones_like(first), part), shape=shape))
            kv.row_sparse_pull("big", out=out, row_ids=nd.array(part, dtype="int64"))
            np.testing.assert_allclose(out.data.asnumpy(), first - 0.5, rtol=1e-5, atol=1e-6)
        kv.barrier()
        stats = kv.stats()
        held = [s["rows_held"] for s in stats]
        assert sum(held) == ids.size and min(held) > 0.45 * ids.size, held
        if kv.rank == 0:  # every process of the job: most memory that one ever had, in KiB
            import os, re
            most = 0
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    text = open(f"/proc/{pid}/status").read()
                except OSError:
                    continue
                if re.search(rf"^PPid:\\s+{os.getppid()}$", text, re.M):
                    most = max(most, int(re.search(r"VmHWM:\\s+(\\d+)", text)[1]))
            print(most)
        kv.barrier()
        """,
    )
    result = launch(run_base, "-n", "2", "-s", "2", script, timeout=90)
    assert result.code == 0, result.err
    assert 50_000 < int(result.lines("worker-0")[0]) < 500_000, "the dense table: 12,800,000 KiB"


def test_rows_that_arise_count_and_are_refused_beyond_the_limit(
    run_base: Path, tmp_path: Path
) -> None:
    script = write(
        tmp_path,
        """
        import numpy as np
        shape = (10**9, 16)
        kv = mx.kv.create("dist_sync")
        kv.set_optimizer(mx.optimizer.SGD(learning_rate=0.5, momentum=0.9))
        kv.init_row_sparse("big", shape, seed=3)
        def push(first, count):
            ids = np.arange(first, first + 7 * count, 7)
            rows = np.ones((count, 16), "f4")
            kv.push("big", nd.sparse.row_sparse_array((rows, ids), shape=shape))
            kv.row_sparse_pull("big", out=nd.sparse.zeros("row_sparse", shape),
                               row_ids=nd.array(ids[:1], dtype="int64"))
            mx.nd.waitall()
        push(5, 1000)
        push(5, 1000)
        [s] = kv.stats()
        kinds = ("weights", "state", "contributions", "kept")
        print(*(s["memory_" + kind] for kind in kinds), flush=True)
        push(5 * 10**8, 10_000)
        """,
    )
    result = launch(run_base, "-n", "1", "-s", "1", "--server-memory", "1M", script)
    assert result.code == 1
    # 1,000 rows of 16, as much momentum, and a table of 2,048 numbers and places
    assert result.lines("worker-0") == [f"64000 64000 0 {2048 * 16}"]
    assert "ServerMemoryExceeded: server-0: with rows of key 'big' it needs" in result.err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kv.push('a', nd.ones((6, 2)))", "got a default array, the key is row_sparse"),
        ("kv.push('d', rows([1]))", "got a row_sparse array, the key is dense"),
        ("kv.row_sparse_pull('a', out=rows([]), row_ids=nd.array([6]))", "key 'a': row 6;"),
        ("kv.row_sparse_pull('a', out=rows([]), row_ids=nd.array([-1]))", "row -1;"),
        ("kv.row_sparse_pull('a', out=rows([]), row_ids=nd.array([0.5]))", "no whole number"),
        ("kv.row_sparse_pull('d', out=rows([]), row_ids=nd.array([1]))", "the key is dense"),
        ("kv.row_sparse_pull('x', out=rows([]), row_ids=nd.array([1]))", "not initialised"),
        ("kv.pushpull('a', rows([1]), out=nd.ones((6, 3)))", "got shape (6, 3)"),
        ("kv.init('a', rows([1]))", "already initialised"),
        ("kv.init('z', [rows([1]), nd.ones((6, 2))][kv.rank])", "storage row_sparse"),
        ("kv.init_row_sparse('z', (9, 2), seed=kv.rank)", "initializer"),
    ],
)
def test_bad_rows_end_the_job_with_one_clear_error(
    run_base: Path, tmp_path: Path, text: str, expected: str
) -> None:
    script = write(
        tmp_path,
        f"""
        import numpy as np
        def rows(ids):
            values = np.ones((len(ids), 2), "f4")
            return nd.sparse.row_sparse_array((values, ids), shape=(6, 2))
        kv = mx.kv.create("dist_sync")
        kv.init("a", rows([1, 2]))
        kv.init("d", nd.zeros((6, 2)))
        {text}
        kv.barrier()
        """,
    )
    result = launch(run_base, "-n", "2", script)
    assert result.code == 1 and expected in result.err, result.err


@pytest.mark.parametrize("servers", ["1", "2"])
def test_embeddings_through_a_trainer(run_base: Path, tmp_path: Path, servers: str) -> None:
    """Dense weights with sparse gradients, and weights that live by rows on the servers."""
    script = write(
        tmp_path,
        """
        import numpy as np
        from kvtrain import autograd, gluon

        def batch(rank, step):
            return nd.array(np.random.default_rng([rank, step]).integers(0, 50, (8,)))

        def build(stored, ctx):
            layer = gluon.contrib.nn.SparseEmbedding if stored else gluon.nn.Embedding
            more = {} if stored else {"sparse_grad": True}
            net = gluon.nn.Sequential(prefix=f"net{int(stored)}_")
            net.add(layer(50, 4, prefix="emb_", **more),
                    gluon.nn.Dense(1, in_units=4, prefix="out_", flatten=False))
            mx.random.seed(3)
            net.initialize(mx.init.Uniform(0.5), ctx=ctx)
            return net

        def run(net, trainer, contexts, ranks):
            for step in range(6):
                losses = []
                with autograd.record():
                    for ctx, rank in zip(contexts, ranks):
                        x = batch(rank, step).as_in_context(ctx)
                        losses.append(((net(x) - 1) ** 2).sum())
                for loss in losses:
                    loss.backward()
                trainer.step(16)
            emb = net[0].weight
            rows = emb.row_sparse_data(nd.arange(50)) if emb.stype != "default" else emb.data(
                contexts[0])
            return rows.asnumpy(), net[1].weight.data(contexts[0]).asnumpy()

        for stored in (False, True):
            for name, options in (("sgd", {"learning_rate": 0.1, "momentum": 0.9, "wd": 0.01}),
                                  ("adam", {"learning_rate": 0.05})):
                net = build(stored, mx.cpu())
                trainer = gluon.Trainer(net.collect_params(), name, options, kvstore="dist_sync")
                trainer._open()
                rank = trainer.kvstore.rank
                found = run(net, trainer, [mx.cpu()], [rank])
                both = [mx.cpu(0), mx.cpu(1)]
                net = build(stored, both)
                trainer = gluon.Trainer(
                    net.collect_params(), name, options, kvstore="local", update_on_kvstore=True)
                for a, b in zip(found, run(net, trainer, both, [0, 1])):
                    np.testing.assert_array_equal(a, b)
        print("fine")
        """,
    )
    result = launch(run_base, "-n", "2", "-s", servers, script)
    assert result.code == 0, result.err
    assert result.lines("worker-0") == result.lines("worker-1") == ["fine"]

# SPDX-License-Identifier: Apache-2.0
"""Jobs of real processes: codecs, consistency modes, row-sparse keys."""

from pathlib import Path

import pytest

from tests.integration.jobs import launch, left_over, write

pytestmark = pytest.mark.integration


def test_compressed_pushes_are_the_sum_of_what_each_worker_sent(
    run_base: Path, tmp_path: Path
) -> None:
    script = write(
        tmp_path,
        """
        import numpy as np
        from kvtrain.compression import ErrorFeedback, create
        size = 700_001  # several chunks of 262,144 values on two servers
        for given in ({"type": "2bit", "threshold": 0.25}, {"type": "topk", "ratio": 0.01},
                      {"type": "bf16"}, {"type": "1bit"}, {"type": "fp16"}):
            kv = mx.kv.create("dist_sync")
            kv.set_gradient_compression(given)
            kv.init(["w", "n"], [nd.zeros((size,)), nd.zeros((3,), dtype="int32")])
            try:
                kv.set_gradient_compression(given)
                raise SystemExit("set after init")
            except mx.errors.ConfigError as error:
                assert "between kv.create and the first init" in str(error)
            cuts = [(low, min(size, low + 262_144)) for low in range(0, size, 262_144)]
            model = [[ErrorFeedback(create(given)) for _ in cuts] for _ in range(3)]
            out = nd.zeros((size,))
            for step in range(3):
                grads = [np.random.default_rng([step, r]).standard_normal(size).astype("f4")
                         for r in range(3)]
                kv.push("w", nd.array(grads[kv.rank]), priority=step)
                kv.pull("w", out)
                kv.pushpull("n", nd.array([1, 2, kv.rank], dtype="int32"),
                            out=(n := nd.zeros((3,), dtype="int32")))
                expected = None
                for r in range(3):
                    part = np.empty(size, "f4")
                    for (low, high), feedback in zip(cuts, model[r]):
                        feedback.compressor.decompress(
                            feedback.compress(grads[r][low:high]), part[low:high])
                    expected = part if expected is None else expected + part
                np.testing.assert_array_equal(out.asnumpy(), expected)
                assert n.asnumpy().tolist() == [3, 6, 3]
                kv.tick()
            codec = create(given)
            sent = sum(s["bytes_in"] for s in kv.stats())
            wire = sum(codec.wire_bytes(high - low) for low, high in cuts)
            kv.barrier()
            if kv.rank == 0:
                assert 9 * wire < sent <= 9 * (wire + 12), (given, sent, 9 * wire)
        print("fine", kv.rank)
        """,
    )
    result = launch(run_base, "-n", "3", "-s", "2", script)
    assert result.code == 0, result.err
    for rank in range(3):
        assert result.lines(f"worker-{rank}") == [f"fine {rank}"]
    assert "costs more than it saves" in result.err
    assert left_over(run_base) == []


def test_workers_must_agree_on_the_codec(run_base: Path, tmp_path: Path) -> None:
    script = write(
        tmp_path,
        """
        kv = mx.kv.create("dist_sync")
        kv.set_gradient_compression({"type": "2bit", "threshold": 0.5 + kv.rank})
        kv.init("w", nd.zeros((3,)))
        """,
    )
    result = launch(run_base, "-n", "2", script)
    assert result.code == 1
    assert "KeyMismatch" in result.err and '"threshold": 1.5' in result.err
    assert '"threshold": 0.5' in result.err


def test_a_fast_worker_waits_for_the_bound_and_statistics_show_it(
    run_base: Path, tmp_path: Path
) -> None:
    script = write(
        tmp_path,
        """
        import os
        kv = mx.kv.create("dist_ssp", staleness=2)
        assert kv.type == "dist_ssp"
        kv.set_optimizer(mx.optimizer.SGD(learning_rate=-1.0))
        kv.init("w", nd.zeros((300_000,)))
        out = nd.zeros((300_000,))
        steps = 12
        for step in range(steps):
            if kv.rank == 1:  # each step of the slow one begins when the fast one is stuck
                while float(open("%(dir)s/fast").read() or 0) < min(step + 2, steps):
                    pass
            kv.pull("w", out)
            value = out.asnumpy()
            # both have made at least step - 2 steps, this one all of its own
            assert value.min() >= step + 1000 * max(0, step - 2) if kv.rank == 0 else True
            kv.push("w", nd.ones((300_000,)) * (1 if kv.rank == 0 else 1000))
            kv.tick()
            if kv.rank == 0:
                with open("%(dir)s/fast.new", "w") as file:
                    file.write(str(step + 1))
                os.replace("%(dir)s/fast.new", "%(dir)s/fast")
        kv.barrier()
        kv.pull("w", out)
        assert (out.asnumpy() == 12012).all()
        from kvtrain.ps.core.clocks import total
        lead = total(s["lead"] for s in kv.stats())
        stale = total(s["staleness"] for s in kv.stats())
        print(sum(lead.values()), max(lead), sum(stale.values()))
        kv.barrier()
        """.replace("%(dir)s", str(tmp_path)),
    )
    (tmp_path / "fast").write_text("")
    result = launch(run_base, "-n", "2", "-s", "2", script)
    assert result.code == 0, result.err
    count, most, pushes = map(int, result.lines("worker-0")[0].split())
    assert most <= 2 and count >= 24 and pushes >= 22
    assert left_over(run_base) == []


def test_consistency_by_pattern_and_a_trainer_over_both(run_base: Path, tmp_path: Path) -> None:
    script = write(
        tmp_path,
        """
        from kvtrain import autograd, gluon
        kv = mx.kv.create("dist_sync")
        kv.set_consistency("free*", "async")
        kv.set_consistency("free_bounded*", "ssp", staleness=1)
        net = gluon.nn.Sequential(prefix="")
        net.add(gluon.nn.Dense(3, in_units=2, prefix="tight_"),
                gluon.nn.Dense(3, in_units=3, prefix="free_"),
                gluon.nn.Dense(1, in_units=3, prefix="free_bounded_"))
        net.initialize()
        trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1}, kvstore=kv)
        for step in range(10):
            with autograd.record():
                loss = (net(nd.ones((4, 2)) * (kv.rank + 1)) ** 2).sum()
            loss.backward()
            trainer.step(8)
        kv.barrier()
        try:
            kv.set_consistency("free*", "sync")
            raise SystemExit("no error")
        except mx.errors.ConfigError as error:
            assert "was initialised already" in str(error), error
        spec = kv._node._core.entry
        assert spec(0, "tight_weight").spec.consistency == ""
        assert spec(0, "free_weight").spec.consistency == "async"
        assert spec(0, "free_bounded_bias").spec.consistency == "ssp:1"
        pushes = sum(s["pushes"] for s in kv.stats())
        kv.barrier()
        print(pushes)
        """,
    )
    result = launch(run_base, "-n", "3", script)
    assert result.code == 0, result.err
    assert result.lines("worker-0") == ["180"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mx.kv.create('dist_ssp', staleness=1 + int(rank))", "staleness"),
        ("mx.kv.create('dist_sync', staleness=1)", "staleness=1 is for ssp"),
        ("mx.kv.create('dist_ssp', staleness=-1)", "whole number of steps"),
        ("mx.kv.create('dist_ssp'); kv.set_consistency('*', 'eventual')", "known are sync, async"),
        (
            "mx.kv.create('dist_sync'); kv.set_consistency('w', ['sync', 'async'][int(rank)]); "
            "kv.init('w', nd.zeros((2,)))",
            "consistency async",
        ),
    ],
)
def test_modes_that_cannot_be(run_base: Path, tmp_path: Path, text: str, name: str) -> None:
    script = write(
        tmp_path, f"import os; rank = os.environ['KVTRAIN_RANK']\nkv = {text}\nkv.barrier()\n"
    )
    result = launch(run_base, "-n", "2", script)
    assert result.code == 1 and name in result.err


def test_half_precision_weights_have_masters_on_the_servers(run_base: Path, tmp_path: Path) -> None:
    script = write(
        tmp_path,
        """
        import numpy as np
        for name, options in (("sgd", {"learning_rate": 1e-4, "momentum": 0.9}),
                              ("adam", {"learning_rate": 1e-4})):
            made = [mx.optimizer.create(name, multi_precision=m, **options) for m in (1, 1, 0)]
            stores = [mx.kv.create("dist_sync"), mx.kv.create("local"), mx.kv.create("dist_sync")]
            outs = [nd.zeros((600,), dtype="float16") for _ in stores]
            for kv, optimizer in zip(stores, made):
                kv.set_optimizer(optimizer)
                kv.init("w", nd.ones((600,), dtype="float16"))
                kv.init_row_sparse("rows", (1000, 8), dtype="float16", initializer="ones")
            for step in range(30):
                grads = [nd.full((600,), 0.5 + r, dtype="float16") for r in range(2)]
                ids = np.arange(step % 3, 1000, 3)
                rows = [nd.sparse.row_sparse_array(
                    (np.full((len(ids), 8), 0.5 + r, "float16"), ids), shape=(1000, 8),
                    dtype="float16") for r in range(2)]
                for kv, out in zip(stores, outs):
                    mine = slice(kv.rank, kv.rank + 1) if "dist" in kv.type else slice(2)
                    kv.push("w", grads[mine])
                    kv.push("rows", rows[mine])
                    kv.pull("w", out)
            got = [out.asnumpy() for out in outs]
            assert got[0].tobytes() == got[1].tobytes() and got[0].dtype == np.float16
            assert (got[0] < 1).all(), "small updates add up in the float32 copies"
            assert (got[2] == 1).all() or name == "sgd", "and are lost without them"
            pulled = [nd.sparse.zeros("row_sparse", (1000, 8), dtype="float16") for _ in range(2)]
            for kv, out in zip(stores, pulled):
                kv.row_sparse_pull("rows", out=out, row_ids=nd.arange(1000))
            a, b = (out.data.asnumpy() for out in pulled)
            assert a.tobytes() == b.tobytes() and (a < 1).all()
        plain = mx.kv.create("dist_sync")
        for dtype in ("int32", "int64", "uint8", "float64", "float16", "int8"):
            plain.init(dtype, nd.zeros((7,), dtype=dtype))
            plain.push(dtype, nd.array(np.arange(7) * (1 + plain.rank), dtype=dtype))
            out = nd.zeros((7,), dtype=dtype)
            plain.pull(dtype, out)
            assert out.asnumpy().tolist() == (3 * np.arange(7)).tolist() and out.dtype == np.dtype(
                dtype)
        print("fine")
        """,
    )
    result = launch(run_base, "-n", "2", "-s", "2", script)
    assert result.code == 0, result.err
    assert result.lines("worker-0") == ["fine"]

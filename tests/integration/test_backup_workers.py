# SPDX-License-Identifier: Apache-2.0
"""Jobs of real processes whose rounds close without their slowest worker."""

from pathlib import Path

import pytest

from tests.integration.jobs import launch, left_over, write

pytestmark = pytest.mark.integration


def test_a_late_gradient_is_dropped_and_its_worker_jumps(run_base: Path, tmp_path: Path) -> None:
    script = write(
        tmp_path,
        """
        import os
        from kvtrain import autograd, gluon

        def tell(name, step):
            with open(f"%(dir)s/{name}.new", "w") as file:
                file.write(str(step))
            os.replace(f"%(dir)s/{name}.new", f"%(dir)s/{name}")

        def wait(name, step):
            while not os.path.exists(path := f"%(dir)s/{name}") or int(open(path).read()) < step:
                pass

        size, steps, pushes = 300_000, 12, 0  # two chunks
        kv = mx.kv.create("dist_sync", backup_workers=1)
        kv.set_optimizer(mx.optimizer.SGD(learning_rate=-1.0))
        kv.init("w", nd.zeros((size,)))
        out = nd.zeros((size,))
        if kv.rank == 2:
            wait("first", 5)
        while kv.step < steps:
            before = kv.step
            kv.pushpull("w", nd.full((size,), 100.0**kv.rank), out=out)
            value, pushes = out.asnumpy(), pushes + 1
            kv.tick()
            if kv.rank == 0:
                tell("first", kv.step)
            if kv.rank == 2 and before == 0:
                assert kv.step >= 5, kv.step
                assert (value >= 5 * 101).all() and (value % 10000 // 100 >= 5).all()
        kv.barrier()
        kv.pull("w", out)
        parts = [out.asnumpy()[:1], out.asnumpy()[-1:]]
        assert (out.asnumpy()[:200_000] == parts[0]).all()
        counted = sum(int(p[0]) // 100**kv.rank % 100 for p in parts)
        dropped = sum(s["dropped"].get(str(kv.rank), 0) for s in kv.stats())
        assert counted + dropped == 2 * pushes, (counted, dropped, pushes)
        if kv.rank == 2:
            assert dropped >= 2 and pushes <= steps - 4
        kv.barrier()

        # a loop of so many steps, whose worker that was late ends it alone
        net = gluon.nn.Dense(3, in_units=4)
        net.initialize()
        more = mx.kv.create("dist_sync", backup_workers=1)
        trainer = gluon.Trainer(net.collect_params(), "adam", kvstore=more)
        for step in range(6):
            if kv.rank == 2 and step == 0:
                wait("second", 3)
            with autograd.record():
                loss = net(nd.ones((2, 4)) * (1 + kv.rank)).sum()
            loss.backward()
            trainer.step(2)
            if kv.rank == 0:
                tell("second", step + 1)
        more.barrier()
        weight = nd.zeros(net.weight.shape)
        more.pull(net.weight.name, out=weight)
        print(weight.asnumpy().tobytes().hex(), more.step > 6)
        more.barrier()
        """.replace("%(dir)s", str(tmp_path)),
    )
    result = launch(run_base, "-n", "3", "-s", "2", script)
    assert result.code == 0, result.err
    said = [result.lines(f"worker-{rank}")[0].split() for rank in range(3)]
    assert len({bits for bits, _ in said}) == 1
    assert said[2][1] == "True"
    assert left_over(run_base) == []


def test_backup_workers_that_cannot_be(run_base: Path, tmp_path: Path) -> None:
    script = write(
        tmp_path,
        """
        try:
            mx.kv.create("dist_sync", backup_workers=2)
        except mx.errors.ConfigError as error:
            assert "at most 1" in str(error), error
        kv = mx.kv.create("dist_sync", backup_workers=1)
        try:
            kv.set_consistency("w*", "sync")
        except mx.errors.ConfigError as error:
            assert "has backup workers" in str(error), error
        else:
            raise SystemExit("not refused")
        kv.init("w", nd.zeros((2,)))
        out = nd.zeros((2,))
        try:
            kv.pushpull("w", nd.ones((2,)), out=out)
            out.asnumpy()
        except mx.errors.JobError as error:
            assert "call kv.set_optimizer" in str(error), error
            print("three are refused")
        kv.barrier()
        mx.kv.create("dist_sync", backup_workers=kv.rank)
        """,
    )
    result = launch(run_base, "-n", "2", script)
    assert result.code == 1 and "backup_workers 1" in result.err, result.err
    assert result.lines("worker-1") == ["three are refused"]

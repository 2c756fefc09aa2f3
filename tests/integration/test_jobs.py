# SPDX-License-Identifier: Apache-2.0
"""Jobs of real processes: stores, examples, equal bits."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.jobs import ROOT, environment, launch, left_over, write

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("transport", ["shm", "ipc", "tcp"])
def test_values_of_a_synchronous_store(run_base: Path, tmp_path: Path, transport: str) -> None:
    script = write(
        tmp_path,
        """
        kv = mx.kv.create("dist_sync")
        assert kv.type == "dist_sync"
        assert kv.num_workers == 3
        big = 300_000  # several chunks on two servers
        kv.init("big", nd.ones((big,)) * (kv.rank + 5))
        kv.init(["a", "b"], [nd.zeros((2, 2)), nd.zeros((1,), dtype="float64")])
        out = nd.zeros((big,))
        kv.pull("big", out)
        assert (out.asnumpy() == 5).all(), "rank 0's value counts"
        for step in range(3):
            value = 10 ** kv.rank * (step + 1)
            kv.push("big", [nd.ones((big,)) * value, nd.ones((big,)) * value], priority=-1)
            kv.push(["a", "b"], [nd.ones((2, 2)) * value, nd.ones((1,), dtype="float64")])
            a, b = nd.zeros((2, 2)), nd.zeros((1,), dtype="float64")
            kv.pull(["a", "b"], [a, b])
            kv.pull("big", out)
            assert (out.asnumpy() == 222 * (step + 1)).all()
            assert (a.asnumpy() == 111 * (step + 1)).all() and b.asscalar() == 3
            kv.pushpull("a", nd.ones((2, 2)) * value, out=a)
            assert (a.asnumpy() == 111 * (step + 1)).all()
            kv.tick()
        second = mx.kv.create("dist_sync")
        second.init("a", nd.ones((3,)))
        second.set_optimizer(mx.optimizer.SGD(learning_rate=0.5, rescale_grad=1))
        second.push("a", nd.ones((3,)) * (kv.rank + 1))
        three = nd.zeros((3,))
        second.pull("a", three)
        assert three.asnumpy().tolist() == [-2.0] * 3
        second.set_hyper("learning_rate", 1.0)
        second.push("a", nd.ones((3,)))
        second.pull("a", three)
        assert three.asnumpy().tolist() == [-5.0] * 3
        kv.barrier()
        print("fine", kv.rank)
        """,
    )
    result = launch(run_base, "-n", "3", "-s", "2", "--transport", transport, script)
    assert result.code == 0, result.err
    for rank in range(3):
        assert result.lines(f"worker-{rank}") == [f"fine {rank}"]
    assert left_over(run_base) == []


def test_a_sum_of_async_pushes_loses_none_and_doubles_none(run_base: Path, tmp_path: Path) -> None:
    script = write(
        tmp_path,
        """
        kv = mx.kv.create("dist_async")
        kv.init("w", nd.zeros((4,), dtype="float64"))
        kv.set_optimizer(mx.optimizer.create("test"))
        for i in range(50):
            kv.push("w", nd.ones((4,), dtype="float64") * (2.0 ** kv.rank * 1000.0 ** (i % 4)))
        kv.barrier()
        out = nd.zeros((4,), dtype="float64")
        kv.pull("w", out)
        if kv.rank == 0:
            print(int(out.asnumpy()[0]), sum(s["pushes"] for s in kv.stats()))
        kv.barrier()
        """,
    )
    result = launch(run_base, "-n", "4", script)
    assert result.code == 0, result.err
    expected = sum(15 * 1000 ** (i % 4) for i in range(50))
    assert result.lines("worker-0") == [f"{expected} 200"]


@pytest.fixture(scope="module")
def local_bits(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("local") / "net.params"
    command = ["examples/train_digits.py", "--contexts", "4", "--epochs", "2", "--save", str(path)]
    subprocess.run(
        [sys.executable, *command],
        check=True,
        cwd=ROOT,
        env=environment(path.parent),
        capture_output=True,
    )
    return path.read_bytes()


@pytest.mark.parametrize("transport", ["shm", "ipc", "tcp"])
@pytest.mark.parametrize("servers", ["1", "2", "3"])
def test_four_workers_compute_the_bits_of_one_process_with_four_contexts(
    run_base: Path, tmp_path: Path, local_bits: bytes, transport: str, servers: str
) -> None:
    path = tmp_path / "net.params"
    result = launch(
        run_base,
        *("-n", "4", "-s", servers, "--transport", transport, "examples/train_digits.py"),
        *("--epochs", "2", "--save", str(path)),
    )
    assert result.code == 0, result.err
    assert path.read_bytes() == local_bits


def _accuracy(text: str) -> float:
    return float(re.findall(r"held-out accuracy ([0-9.]+)", text)[-1])


def test_the_main_job_learns_the_digits_and_async_does_too(run_base: Path) -> None:
    sync = launch(run_base, "-n", "4", "examples/train_digits.py")
    assert sync.code == 0, sync.err
    assert _accuracy(sync.out) >= 0.97
    assert "samples/s" in sync.out
    assert "\r" not in sync.out, "no progress bar in a pipe"
    free = launch(run_base, "-n", "4", "examples/train_async.py")
    assert free.code == 0, free.err
    assert _accuracy(free.out) >= _accuracy(sync.out) - 0.011
    # 4 workers, 25 epochs of 23 batches, 8 parameters: all applied, none twice
    assert f"applied {4 * 25 * 23 * 8} pushes" in free.out


@pytest.mark.parametrize("n", ["1", "2"])
def test_kvstore_basics_in_a_job(run_base: Path, n: str) -> None:
    result = launch(run_base, "-n", n, "examples/kvstore_basics.py")
    assert result.code == 0, result.err
    assert f"sum over {n} workers" in result.out


def test_trainer_in_both_modes_and_two_trainers(run_base: Path, tmp_path: Path) -> None:
    script = write(
        tmp_path,
        """
        import numpy as np
        from kvtrain import autograd, gluon
        found = []
        for on_store in (True, False):
            mx.random.seed(1)
            nets = [gluon.nn.Dense(2, in_units=3, prefix=f"{n}{on_store}_") for n in "gd"]
            trainers = []
            for net in nets:
                net.initialize()
                trainers.append(gluon.Trainer(
                    net.collect_params(), "adam", {"learning_rate": 0.1}, kvstore="dist_sync",
                    update_on_kvstore=on_store))
            rank = trainers[0]._open() and trainers[0].kvstore.rank
            x = nd.array([[1.0, 2.0, 3.0 + rank]])
            for step in range(4):
                for net, trainer in zip(nets, trainers):
                    with autograd.record():
                        loss = (net(x) ** 2).sum()
                    loss.backward()
                    if step == 2:
                        trainer.set_learning_rate(0.05)
                    trainer.step(2)
            found.append([n.weight.data().asnumpy() for n in nets])
        a, b = found
        for i in range(2):
            np.testing.assert_array_equal(a[i], b[i])
        assert trainers[0].learning_rate == 0.05
        print(a[0].tobytes().hex())
        """,
    )
    result = launch(run_base, "-n", "2", script)
    assert result.code == 0, result.err
    assert result.lines("worker-0") == result.lines("worker-1") != []


def test_uneven_data_does_not_hang_the_last_epoch(run_base: Path, tmp_path: Path) -> None:
    script = write(
        tmp_path,
        """
        kv = mx.kv.create("dist_sync")
        kv.init(1, nd.zeros((2,)))
        out = nd.zeros((2,))
        for step in range(3 + 2 * kv.rank):
            kv.push(1, nd.ones((2,)) * (kv.rank + 1))
            kv.pull(1, out)
            last = out.asnumpy()[0]
            kv.tick()
        print(last)
        """,
    )
    result = launch(run_base, "-n", "3", script)
    assert result.code == 0, result.err
    assert [result.lines(f"worker-{r}") for r in range(3)] == [["6.0"], ["5.0"], ["3.0"]]


def test_a_plain_command_and_log_files(run_base: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    result = launch(
        run_base, "-n", "2", "--log-dir", str(logs), "--", "sh", "-c", "echo $KVTRAIN_RANK"
    )
    assert result.code == 0, result.err
    assert result.lines("worker-1") == ["1"]
    assert (logs / "worker-0.log").read_text() == "0\n"


def test_by_hand_with_roles_of_the_command_line(run_base: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(os.urandom(32).hex())
    script = write(tmp_path, "kv = mx.kv.create('dist_sync'); kv.barrier(); print(kv.num_workers)")
    env = environment(run_base, PYTHONUNBUFFERED="1")
    base = [sys.executable, "-m", "kvtrain"]
    secret = ["--token-file", str(token)]
    scheduler = subprocess.Popen(
        [*base, "scheduler", "--bind", "tcp://127.0.0.1:0", "-n", "2", "-s", "1", *secret],
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )
    assert scheduler.stderr is not None
    first = scheduler.stderr.readline()
    address = re.search(r"tcp://[0-9.:]+", first)
    assert address, first
    join = ["--join", address.group(), *secret]
    others = [subprocess.Popen([*base, "server", *join], env=env)]
    workers = [
        subprocess.Popen(
            [*base, "worker", *join, "--", script], env=env, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        assert [w.communicate(timeout=30)[0] for w in workers] == ["2\n", "2\n"]
        assert others[0].wait(timeout=30) == 0
        assert scheduler.wait(timeout=30) == 0
        assert "the job has finished" in scheduler.stderr.read()
    finally:
        for process in (scheduler, *others, *workers):
            process.kill()
            process.wait()
        scheduler.stderr.close()
        for worker in workers:
            assert worker.stdout is not None
            worker.stdout.close()


@pytest.mark.parametrize("transport", ["shm", "ipc"])
def test_gradients_sent_during_backward_give_the_same_bits(
    run_base: Path, tmp_path: Path, transport: str
) -> None:
    script = write(
        tmp_path,
        """
        import numpy as np
        from kvtrain import autograd, gluon

        class Net(gluon.Block):  # its middle layer is used twice
            def __init__(self, prefix):
                super().__init__(prefix=prefix)
                with self.name_scope():
                    self.a = gluon.nn.Dense(16, activation="relu", in_units=5)
                    self.b = gluon.nn.Dense(16, activation="relu", in_units=16)
                    self.c = gluon.nn.Dense(3, in_units=16)

            def forward(self, x):
                return self.c(self.b(self.b(self.a(x))))

        def train(overlap, on_store):
            mx.random.seed(3)
            net = Net(f"o{overlap}s{on_store}_")
            net.initialize()
            trainer = gluon.Trainer(
                net.collect_params(), "sgd", {"learning_rate": 0.1, "momentum": 0.9},
                kvstore="dist_sync", update_on_kvstore=on_store, overlap=overlap,
            )
            loss = gluon.loss.SoftmaxCrossEntropyLoss()
            rng = np.random.default_rng(trainer.kvstore.rank if trainer.kvstore else 0)
            for step in range(12):
                n = 4 if step % 4 == 3 else 8  # a smaller last batch
                x = nd.array(rng.standard_normal((n, 5)).astype("f"))
                y = nd.array(rng.integers(0, 3, n))
                with autograd.record():
                    out = loss(net(x), y)
                out.backward()
                trainer.step(n * 2)
            return b"".join(p.data().asnumpy().tobytes() for p in net.collect_params().values())

        for on_store in (True, False):
            assert train(True, on_store) == train(False, on_store), on_store
        net = gluon.nn.Dense(1, in_units=2, prefix="twice_")
        net.initialize()
        trainer = gluon.Trainer(net.collect_params(), "sgd", kvstore="dist_sync", overlap=True)
        x = nd.ones((4, 2))
        for step in range(2):
            with autograd.record():
                out = net(x)
            out.backward()
            if step == 0:
                trainer.step(8)
        for wrong in (lambda: out.backward(), lambda: trainer.step(9)):
            try:
                with autograd.record():
                    out = net(x)
                wrong()
            except mx.errors.ConfigError as error:
                print(str(error).split(";")[0].split(" with")[0])
        """,
    )
    result = launch(run_base, "-n", "2", "-s", "2", "--transport", transport, script)
    assert result.code == 0, result.err
    for rank in range(2):
        lines = result.lines(f"worker-{rank}")
        assert lines == [
            "parameter 'twice_bias': a second backward before step()",
            "step(9):",
        ] or lines == ["parameter 'twice_weight': a second backward before step()", "step(9):"]


@pytest.mark.parametrize("side", ["open_segment", "create_segment", "shared_memory_reason"])
def test_without_shared_memory_there_is_one_note_and_the_same_values(
    run_base: Path, tmp_path: Path, side: str
) -> None:
    """A worker in another container, say, cannot map what the server offers."""
    script = write(
        tmp_path,
        f"""
        from kvtrain import platform

        def refuse(*given):
            if {side!r} == "shared_memory_reason":
                return "this system has no memfd_create"
            raise OSError(2, "No such file or directory")

        platform.{side} = refuse
        kv = mx.kv.create("dist_sync")
        kv.init("w", nd.zeros((300_000,)))
        out = nd.zeros((300_000,))
        for step in range(1, 4):
            kv.pushpull("w", nd.ones((300_000,)) * 10 ** kv.rank * step, out)
            assert (out.asnumpy() == 11 * step).all()
        kv.barrier()
        """,
    )
    result = launch(run_base, "-n", "2", "-s", "1", script)
    assert result.code == 0, result.err
    notes = [line for line in result.err.splitlines() if "instead of shared memory" in line]
    workers = [line for line in notes if line.startswith("worker")]
    assert len(workers) == 2, "one for each process that has to do without"
    assert all("over ipc instead" in line for line in workers)
    assert left_over(run_base) == []

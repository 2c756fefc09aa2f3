# SPDX-License-Identifier: Apache-2.0
"""The store of one process."""

from pathlib import Path

import numpy as np
import pytest

import kvtrain as mx
from kvtrain import nd
from kvtrain.errors import (
    ConfigError,
    KeyAlreadyInitialized,
    KeyMismatch,
    KeyNotInitialized,
    NotLaunched,
    UnknownName,
)

SHAPE = (2, 3)


@pytest.mark.parametrize(
    "name",
    ["local", "device", "local_update_cpu", "local_allreduce_cpu", "local_allreduce_device"],
)
def test_names(name: str) -> None:
    kv = mx.kv.create(name)
    assert (kv.type, kv.rank, kv.num_workers) == (name, 0, 1)


@pytest.mark.parametrize("name", ["Local", "local ", "nccl", "dist_sync2", ""])
def test_a_name_must_match_exactly(name: str) -> None:
    with pytest.raises(UnknownName, match="known: device, dist, dist_async"):
        mx.kv.create(name)


@pytest.mark.parametrize(
    "name", ["dist_sync", "dist_async", "dist_device_sync", "dist_sync_device"]
)
def test_distributed_types_need_a_job(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KVTRAIN_ROLE", raising=False)
    assert not mx.launched()
    with pytest.raises(NotLaunched, match=r"kvtrain launch -n 4 script\.py"):
        mx.kv.create(name)


def test_push_replaces_by_the_sum_over_devices() -> None:
    kv = mx.kv.create("local")
    kv.init(3, nd.ones(SHAPE) * 4)
    kv.init([5, 7], [nd.zeros(SHAPE), nd.zeros((1,))])
    devices = [mx.cpu(i) for i in range(4)]
    kv.push(3, [nd.ones(SHAPE, d) * 2**i for i, d in enumerate(devices)], priority=3)
    outs = [nd.zeros(SHAPE, d) for d in devices]
    kv.pull(3, out=outs)
    assert all((o.asnumpy() == 15).all() for o in outs)
    kv.push([5, 7], [[nd.ones(SHAPE), nd.ones(SHAPE)], nd.ones((1,)) * 9])
    a, b = nd.zeros(SHAPE), [nd.zeros((1,)), nd.zeros((1,))]
    kv.pull([5, 7], [a, b])
    assert (a.asnumpy() == 2).all() and b[1].asscalar() == 9
    kv.push([7, 7], [nd.ones((1,)), nd.ones((1,)) * 10])  # one key named twice: summed
    kv.pull(7, b[0])
    assert b[0].asscalar() == 11
    kv.pushpull(3, nd.ones(SHAPE) * 6, out=a)
    assert (a.asnumpy() == 6).all()
    c = nd.zeros((2,))
    kv.broadcast(11, nd.array([1, 2]), out=c)
    assert c.asnumpy().tolist() == [1, 2]


def test_the_sum_is_made_in_the_order_given() -> None:
    values = np.random.RandomState(1).standard_normal((5, 1000)).astype(np.float32)
    values *= 10.0 ** np.arange(-2, 3)[:, None].astype(np.float32)
    kv = mx.kv.create("device")
    kv.init("w", nd.zeros((1000,)))
    kv.push("w", [nd.array(v) for v in values])
    out = nd.zeros((1000,))
    kv.pull("w", out)
    expected = values[0].copy()
    for value in values[1:]:
        expected += value
    assert out.asnumpy().tobytes() == expected.tobytes()


def test_an_updater_and_an_optimizer() -> None:
    kv = mx.kv.create("local")
    kv.init("w", nd.ones(SHAPE))
    seen = []

    def update(key, pushed, stored) -> None:
        seen.append(key)
        stored += pushed * 2

    kv.set_updater(update)
    kv.push("w", [nd.ones(SHAPE), nd.ones(SHAPE)])
    out = nd.zeros(SHAPE)
    kv.pull("w", out)
    assert (out.asnumpy() == 5).all() and seen == ["w"]
    kv.set_optimizer(mx.optimizer.SGD(learning_rate=0.5))
    kv.push("w", nd.ones(SHAPE))
    kv.set_hyper("learning_rate", 1.0)
    kv.push("w", nd.ones(SHAPE))
    kv.pull("w", out)
    assert (out.asnumpy() == 3.5).all()
    with pytest.raises(ConfigError, match="is no Optimizer"):
        kv.set_optimizer("sgd")
    assert kv.is_capable("optimizer")


def test_states_survive_a_file(tmp_path) -> None:
    def trained(steps: int, load: bool) -> tuple[mx.kv.KVStore, nd.NDArray]:
        kv = mx.kv.create("local")
        kv.init("w", nd.ones(SHAPE))
        kv.set_optimizer(mx.optimizer.Adam(learning_rate=0.1))
        if load:
            kv.load_optimizer_states(tmp_path / "s")
        for i in range(steps):
            kv.push("w", nd.ones(SHAPE) * (i + 1))
        out = nd.zeros(SHAPE)
        kv.pull("w", out)
        return kv, out

    kv, _ = trained(3, False)
    kv.save_optimizer_states(tmp_path / "s", dump_optimizer=True)
    _, fresh = trained(1, False)
    _, resumed = trained(1, True)
    assert not np.allclose(fresh.asnumpy(), resumed.asnumpy())
    (tmp_path / "bad").write_bytes(b"\x80\x04.")
    with pytest.raises(mx.errors.FormatError, match="was not written by save_states"):
        kv.load_optimizer_states(tmp_path / "bad")


@pytest.mark.parametrize(
    ("misuse", "error", "text"),
    [
        (lambda kv: kv.push("v", nd.ones(SHAPE)), KeyNotInitialized, "push of key 'v'"),
        (lambda kv: kv.pull("v", nd.ones(SHAPE)), KeyNotInitialized, "pull of key 'v'"),
        (lambda kv: kv.init("w", nd.ones(SHAPE)), KeyAlreadyInitialized, "already initialised"),
        (lambda kv: kv.push("w", nd.ones((3,))), KeyMismatch, "got shape \\(3,\\)"),
        (lambda kv: kv.push("w", nd.ones(SHAPE, dtype="int32")), KeyMismatch, "dtype int32"),
        (lambda kv: kv.push(3, nd.ones(SHAPE)), KeyMismatch, "has str keys"),
        (lambda kv: kv.push(["w"], [nd.ones(SHAPE)] * 2), KeyMismatch, "1 keys and 2 values"),
        (lambda kv: kv.push("w", 3), KeyMismatch, "one or more NDArrays"),
        (lambda kv: kv.push(1.5, nd.ones(SHAPE)), KeyMismatch, "use str or int"),
        (lambda kv: kv.push("w", [nd.ones(SHAPE), nd.ones((1,))]), KeyMismatch, "differ"),
        (lambda kv: kv.pull("w"), ConfigError, "out must be given"),
        (lambda kv: kv.set_gradient_compression({"type": "2bit"}), ConfigError, "not supported"),
    ],
)
def test_misuse_changes_nothing(misuse, error: type[Exception], text: str) -> None:
    kv = mx.kv.create("local")
    kv.init("w", nd.ones(SHAPE))
    with pytest.raises(error, match=text):
        misuse(kv)
    out = nd.zeros(SHAPE)
    kv.pull("w", out)
    assert (out.asnumpy() == 1).all()


def test_device_compresses_as_mxnet_does() -> None:
    held = np.load(Path(__file__).parents[1] / "reference" / "compression.npz")
    for name in "abc":
        kv = mx.kv.create("device")
        threshold = float(held[f"{name}_threshold"])
        kv.set_gradient_compression({"type": "2bit", "threshold": threshold})
        kv.init("w", nd.zeros((103,)))
        out = nd.zeros((103,))
        for grads, expected in zip(held[f"{name}_grads"], held[f"{name}_sums"], strict=True):
            kv.push("w", [nd.array(grads[i], ctx=mx.cpu(i)) for i in range(2)])
            kv.pull("w", out=out)
            np.testing.assert_array_equal(out.asnumpy(), expected)


def test_compression_is_refused_where_it_cannot_be() -> None:
    with pytest.raises(ConfigError, match="not supported for this type of kvstore"):
        mx.kv.create("local").set_gradient_compression({"type": "2bit"})
    kv = mx.kv.create("device")
    with pytest.raises(UnknownName, match="known: 1bit, 2bit, bf16, fp16, topk"):
        kv.set_gradient_compression({"type": "4bit"})
    kv.set_gradient_compression({"type": "none"})
    kv.init(1, nd.zeros((2,), dtype="int32"))
    with pytest.raises(ConfigError, match=r"between kv\.create and the first init"):
        kv.set_gradient_compression({"type": "2bit"})


def test_compression_leaves_whole_numbers_alone_and_works_with_an_optimizer() -> None:
    kv = mx.kv.create("device")
    kv.set_gradient_compression({"type": "2bit", "threshold": 0.5})
    kv.set_optimizer(mx.optimizer.SGD(learning_rate=1.0))
    kv.init("w", nd.zeros((2,)))
    kv.init("d", nd.zeros((2,), dtype="float64"))
    out = nd.zeros((2,))
    kv.pushpull("w", nd.array([0.7, 0.3]), out=out)
    assert out.asnumpy().tolist() == [-0.5, 0.0]
    kv.pushpull("w", nd.array([0.7, 0.3]), out=out)
    assert out.asnumpy().tolist() == [-1.0, -0.5]
    other = mx.kv.create("device")
    other.set_gradient_compression({"type": "2bit"})
    other.init("i", nd.zeros((2,), dtype="int32"))
    found = nd.zeros((2,), dtype="int32")
    other.pushpull("i", nd.array([7, -3], dtype="int32"), out=found)
    assert found.asnumpy().tolist() == [7, -3]


@pytest.mark.parametrize("size", [10, 200_001])
def test_sums_go_straight_into_arrays_that_may_be_those_that_are_summed(size: int) -> None:
    rng = np.random.default_rng(size)
    raws = [rng.standard_normal(size).astype(np.float32) for _ in range(3)]
    total = (raws[0] + raws[1]) + raws[2]
    kv = mx.kv.create("local")
    kv.init("w", nd.zeros((size,)))
    given = [nd.array(raw) for raw in raws]
    others = [nd.zeros((size,)) for _ in range(2)]
    kv.pushpull("w", given, out=others)
    assert all(out.asnumpy().tobytes() == total.tobytes() for out in others)
    kv.pushpull("w", given, out=[given[1], others[0], given[0]])
    for out in (given[1], others[0], given[0]):
        assert out.asnumpy().tobytes() == total.tobytes()
    assert given[2].asnumpy().tobytes() == raws[2].tobytes()
    # an array that overlaps with the one it is written to, a place further
    base = nd.array(np.append(raws[0], 0.0))
    expected = base[:-1].asnumpy() + raws[1]
    kv.pushpull("w", [base[:-1], nd.array(raws[1])], out=base[1:])
    assert base[1:].asnumpy().tobytes() == expected.tobytes()
    kv.pull("w", out=others)
    assert all(out.asnumpy().tobytes() == expected.tobytes() for out in others)

# SPDX-License-Identifier: Apache-2.0
"""Blocks, parameters, losses, data, the Trainer."""

import warnings
from pathlib import Path

import numpy as np
import pytest

import kvtrain as mx
from kvtrain import autograd, gluon, nd
from kvtrain.errors import ConfigError, DeferredInitializationError, FormatError, KVTrainError
from kvtrain.gluon import nn
from kvtrain.testing import check_gradient


def test_shapes_are_told_by_the_first_batch() -> None:
    net = nn.HybridSequential()
    net.add(nn.Conv2D(4, 3, activation="relu"), nn.MaxPool2D(), nn.Flatten(), nn.Dense(5))
    net.initialize()
    with pytest.raises(DeferredInitializationError, match="first forward pass"):
        net[0].weight.data()
    assert net(nd.ones((2, 3, 8, 8))).shape == (2, 5)
    assert net[0].weight.shape == (4, 3, 3, 3)
    assert net[3].weight.shape == (5, 36)
    net.hybridize(static_alloc=True)
    assert net(nd.ones((1, 3, 8, 8))).shape == (1, 5)
    with pytest.raises(KVTrainError, match="has not been initialized"):
        nn.Dense(2, in_units=2)(nd.ones((1, 2)))


class Net(gluon.HybridBlock):
    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.first = nn.Dense(4)
            self.second = nn.Dense(2)
            self.scale = self.params.get("scale", shape=(1, 4), init="ones")

    def hybrid_forward(self, F, x, scale):
        return self.second(F.relu(self.first(x)) * F.broadcast_like(scale, self.first(x)))


def test_names_and_parameters_of_an_own_block(tmp_path: Path) -> None:
    net = Net(prefix="net_")
    assert sorted(net.collect_params()) == [
        "net_dense0_bias",
        "net_dense0_weight",
        "net_dense1_bias",
        "net_dense1_weight",
        "net_scale",
    ]
    assert list(net.collect_params(".*weight")) == ["net_dense0_weight", "net_dense1_weight"]
    net.initialize()
    x = nd.ones((3, 5))
    out = net(x)
    net.save_parameters(str(tmp_path / "n.params"))
    assert set(nd.load(str(tmp_path / "n.params"))) == {
        "scale",
        "first.weight",
        "first.bias",
        "second.weight",
        "second.bias",
    }
    other = Net()
    other.load_parameters(str(tmp_path / "n.params"), ctx=mx.cpu())
    np.testing.assert_array_equal(other(x).asnumpy(), out.asnumpy())
    with pytest.raises(KVTrainError, match="not present in this Block"):
        nn.Dense(2).load_parameters(str(tmp_path / "n.params"), allow_missing=True)
    with pytest.raises(KVTrainError, match=r"Parameter 'weight' is missing"):
        nn.Dense(2).load_parameters(str(tmp_path / "n.params"))
    (tmp_path / "bad").write_bytes(b"\x13\x01" + bytes(30))
    with pytest.raises(FormatError, match="bad: "):
        net.load_parameters(str(tmp_path / "bad"))


@pytest.mark.parametrize("cut", range(0, 300, 7))
def test_a_torn_file_is_refused(tmp_path: Path, cut: int) -> None:
    nd.save(str(tmp_path / "f"), {"a": nd.ones((4, 9)), "b": nd.ones((3,), dtype="int64")})
    data = (tmp_path / "f").read_bytes()
    assert len(data) > 280
    (tmp_path / "f").write_bytes(data[: min(cut, len(data) - 1)])
    with pytest.raises(FormatError):
        nd.load(str(tmp_path / "f"))


def test_printing() -> None:
    net = nn.HybridSequential()
    net.add(nn.Dense(3, activation="relu"), nn.Dropout(0.5))
    assert repr(net) == (
        "HybridSequential(\n  (0): Dense(None -> 3, Activation(relu))\n"
        "  (1): Dropout(p = 0.5, axes=())\n)"
    )
    assert repr(nn.Dense(2, in_units=4, prefix="d_").weight) == (
        "Parameter d_weight (shape=(2, 4), dtype=float32)"
    )


def test_batch_norm_keeps_running_averages() -> None:
    layer = nn.BatchNorm(momentum=0.8, epsilon=1e-4)
    layer.initialize()
    x = nd.array(np.random.RandomState(0).standard_normal((6, 3, 2)) * 3 + 1)
    with autograd.record():
        out = layer(x)
    raw = x.asnumpy()
    mean, var = raw.mean(axis=(0, 2)), raw.var(axis=(0, 2))
    np.testing.assert_allclose(out.asnumpy().mean(axis=(0, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(layer.running_mean.data().asnumpy(), 0.2 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.running_var.data().asnumpy(), 0.8 + 0.2 * var, rtol=1e-5)
    before = layer.running_mean.data().asnumpy()
    layer(x)
    np.testing.assert_array_equal(layer.running_mean.data().asnumpy(), before)


def test_dropout_only_in_training() -> None:
    layer = nn.Dropout(0.4)
    x = nd.ones((100, 100))
    assert (layer(x).asnumpy() == 1).all()
    with autograd.record():
        out = layer(x).asnumpy()
    assert set(np.unique(out)) == {0, np.float32(1 / 0.6)}
    assert abs((out == 0).mean() - 0.4) < 0.02


P = np.random.RandomState(1).standard_normal((4, 3))
L = np.random.RandomState(2).standard_normal((4, 3))
LOSSES = [
    (gluon.loss.L2Loss(), L, lambda p, y: ((p - y) ** 2 / 2).mean(1)),
    (gluon.loss.L1Loss(), L, lambda p, y: abs(p - y).mean(1)),
    (gluon.loss.HuberLoss(), L, None),
    (gluon.loss.HingeLoss(), np.sign(L), lambda p, y: np.maximum(0, 1 - p * y).mean(1)),
    (
        gluon.loss.SigmoidBCELoss(),
        (L > 0) * 1.0,
        lambda p, y: (np.log1p(np.exp(-abs(p))) + np.maximum(p, 0) - p * y).mean(1),
    ),
    (
        gluon.loss.SoftmaxCELoss(),
        np.array([0.0, 2, 1, 1]),
        lambda p, y: -(p - np.log(np.exp(p).sum(1, keepdims=True)))[np.arange(4), y.astype(int)],
    ),
    (gluon.loss.SoftmaxCELoss(sparse_label=False), np.eye(4, 3), None),
    (gluon.loss.KLDivLoss(from_logits=False), np.full((4, 3), 1 / 3), None),
]


@pytest.mark.parametrize(("loss", "label", "formula"), LOSSES, ids=lambda v: type(v).__name__)
def test_losses(loss, label, formula) -> None:
    pred, truth = nd.array(P, dtype="float64"), nd.array(label, dtype="float64")
    out = loss(pred, truth)
    assert out.shape == (4,)
    if formula is not None:
        np.testing.assert_allclose(out.asnumpy(), formula(P, label), rtol=1e-6)
    check_gradient(lambda p, y: loss(p, y), [P, label], [0])
    weights = nd.array([[1.0], [0], [2], [0]], dtype="float64")
    weighted = loss(pred, truth, weights).asnumpy()
    np.testing.assert_allclose(weighted, out.asnumpy() * [1, 0, 2, 0], rtol=1e-6)


def _train(contexts: int, kvstore, on_store, optimizer: str = "sgd") -> np.ndarray:
    mx.random.seed(5)
    ctx = [mx.cpu(i) for i in range(contexts)]
    net = nn.Dense(2, in_units=3, prefix="n_")
    net.initialize(ctx=ctx)
    options = {"learning_rate": 0.1, "wd": 0.01}
    trainer = gluon.Trainer(
        net.collect_params(), optimizer, options, kvstore=kvstore, update_on_kvstore=on_store
    )
    data = nd.array(np.random.RandomState(4).standard_normal((5, 8, 3)))
    for i in range(5):
        parts = gluon.utils.split_and_load(data[i], ctx)
        with autograd.record():
            losses = [(net(x) ** 2).sum() for x in parts]
        autograd.backward(losses)
        trainer.step(8)
    values = [d.asnumpy() for d in net.weight.list_data()]
    for value in values[1:]:
        np.testing.assert_array_equal(values[0], value)
    return values[0]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_trainer_gives_one_result_in_every_mode(optimizer: str) -> None:
    alone = _train(1, None, None, optimizer)
    for contexts in (2, 4):
        a = _train(contexts, "local", True, optimizer)
        b = _train(contexts, "device", False, optimizer)
        c = _train(contexts, mx.kv.create("local"), None, optimizer)
        assert a.tobytes() == b.tobytes() == c.tobytes()
        np.testing.assert_allclose(a, alone, rtol=1e-5)


def test_trainer_and_stale_gradients() -> None:
    used, unused = nn.Dense(1, in_units=1), nn.Dense(1, in_units=1)
    params = gluon.ParameterDict()
    for net in (used, unused):
        net.initialize()
        params.update(net.collect_params())
    trainer = gluon.Trainer(params, "sgd", {"learning_rate": 0.5, "wd": 0.1})
    with autograd.record():
        loss = used(nd.ones((1, 1)))
    loss.backward()
    before = unused.weight.data().asscalar()
    with pytest.raises(UserWarning, match="has not been updated by backward"):
        trainer.step(1)
    trainer.step(1, ignore_stale_grad=True)
    assert unused.weight.data().asscalar() == before
    assert trainer.learning_rate == 0.5
    trainer.set_learning_rate(0.25)
    assert trainer.optimizer.lr == 0.25


def test_trainer_states(tmp_path: Path) -> None:
    net = nn.Dense(1, in_units=2)
    net.initialize()
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.1})
    for _ in range(2):
        with autograd.record():
            loss = net(nd.ones((1, 2)))
        loss.backward()
        trainer.step(1)
    trainer.save_states(tmp_path / "t")
    again = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.5})
    again.load_states(tmp_path / "t")
    assert again.learning_rate == 0.1
    assert again.optimizer.num_update == 2
    assert again._updaters[0].states[0][0].asnumpy().any()


def test_learning_rate_multipliers_and_weight_decay() -> None:
    net = nn.Dense(1, in_units=1, use_bias=False)
    net.initialize(mx.init.One())
    net.weight.lr_mult = 0.1
    net.weight.wd_mult = 0.0
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 1.0, "wd": 0.5})
    with autograd.record():
        loss = net(nd.ones((1, 1)))
    loss.backward()
    trainer.step(1)
    assert net.weight.data().asscalar() == pytest.approx(0.9)
    name, config = trainer.optimizer.to_config()
    remote = mx.optimizer.Optimizer.from_config(name, config)
    hyper = remote.hyper(net.weight.name, 1, 1)
    assert (hyper.lr, hyper.wd) == (pytest.approx(0.1), 0.0)


def test_initializers() -> None:
    cases = [
        (mx.init.Zero(), 0, 0),
        (mx.init.One(), 1, 1),
        (mx.init.Constant(0.25), 0.25, 0.25),
        (mx.init.Uniform(0.5), -0.5, 0.5),
        ("xavier", -np.sqrt(3 / 50), np.sqrt(3 / 50)),
    ]
    for init, low, high in cases:
        net = nn.Dense(40, in_units=60)
        net.initialize(init)
        values = net.weight.data().asnumpy()
        assert low <= values.min() and values.max() <= np.float32(high)
        assert (net.bias.data().asnumpy() == 0).all()
    net = nn.Dense(100, in_units=100, bias_initializer="ones")
    net.initialize(mx.init.Normal(2.0))
    assert abs(net.weight.data().asnumpy().std() - 2) < 0.1
    assert (net.bias.data().asnumpy() == 1).all()
    with warnings.catch_warnings(), pytest.raises(UserWarning, match="already initialized"):
        warnings.simplefilter("error")
        net.initialize()
    net.initialize(mx.init.Zero(), force_reinit=True)
    assert not net.weight.data().asnumpy().any()
    with pytest.raises(mx.errors.UnknownName, match="unknown initializer"):
        net.initialize("Xavierr", force_reinit=True)


def test_samplers_split_by_rank() -> None:
    data = gluon.data
    for length, parts in ((10, 3), (12, 4), (2, 4)):
        samplers = [data.SplitSampler(length, parts, i, seed=1) for i in range(parts)]
        for _ in range(2):
            seen = [list(s) for s in samplers]
            assert sorted(i for part in seen for i in part) == list(range(length))
            assert [len(s) for s in seen] == [len(s) for s in samplers]
        even = [data.SplitSampler(length, parts, i, even=True) for i in range(parts)]
        assert len({len(list(s)) for s in even}) == 1
    batches = data.BatchSampler(data.SequentialSampler(5), 2, "rollover")
    assert list(batches) == [[0, 1], [2, 3]]
    assert list(batches) == [[4, 0], [1, 2], [3, 4]]
    assert list(data.BatchSampler(data.SequentialSampler(5), 2, "discard")) == [[0, 1], [2, 3]]
    with pytest.raises(ValueError, match="part_index=3"):
        data.SplitSampler(10, 3, 3)


@pytest.mark.parametrize("last", ["keep", "discard"])
def test_a_sampler_goes_on_with_what_is_left(last: str) -> None:
    """However many batches were taken before, the rest is what the undisturbed run takes."""
    data, batch, parts = gluon.data, 4, 3

    def batches(sampler: object) -> list[list[int]]:
        return list(data.BatchSampler(sampler, batch, last))

    for part in range(parts):
        undisturbed = data.SplitSampler(50, parts, part, seed=5, even=True)
        run = [(e, b) for e in range(3) for b in batches(undisturbed)]
        for step in range(len(run)):
            again = data.SplitSampler(50, parts, part, seed=5, even=True)
            epoch, first = again.at_step(step, batch, last)
            assert run[step][0] == epoch == again.epoch
            rest = batches(again)
            assert rest == [b for e, b in run[step:] if e == epoch]
            assert len(rest) + first == sum(e == epoch for e, _ in run)
            assert batches(again) == [b for e, b in run if e == epoch + 1] or epoch == 2
    # two of three workers go on: what is left of the order is dealt among them
    three = [data.SplitSampler(50, 3, i, seed=5) for i in range(3)]
    for sampler in three:
        assert sampler.at_step(2, batch) == (0, 2) and sampler.position == 24
    rest = [i for sampler in three for i in sampler]
    two = [data.SplitSampler(50, 2, i, seed=5) for i in range(2)]
    for sampler in two:
        sampler.set_epoch(0, 24)
        assert len(sampler) == 13
    assert sorted(i for sampler in two for i in sampler) == sorted(rest)
    for bad in ((-1, 0), (0, 51), (0, -1)):
        with pytest.raises(ValueError, match="position from 0 to 50"):
            two[0].set_epoch(*bad)
    with pytest.raises(ValueError, match="has no batch of 64"):
        two[0].at_step(1, 64, "discard")


@pytest.mark.parametrize("workers", [0, 2])
def test_loader(workers: int) -> None:
    x, y = nd.array(np.arange(10).reshape(5, 2)), nd.array([0, 1, 2, 3, 4])
    dataset = gluon.data.ArrayDataset(x, y).transform_first(lambda a: a * 2)
    loader = gluon.data.DataLoader(dataset, 2, num_workers=workers, thread_pool=True)
    assert len(loader) == 3
    batches = list(loader)
    assert [b[0].shape for b in batches] == [(2, 2), (2, 2), (1, 2)]
    assert batches[1][0].asnumpy().tolist() == [[8, 10], [12, 14]]
    assert np.concatenate([b[1].asnumpy() for b in batches]).tolist() == [0, 1, 2, 3, 4]
    shuffled = gluon.data.DataLoader(
        dataset, 5, shuffle=True, num_workers=workers, thread_pool=True
    )
    assert sorted(next(iter(shuffled))[1].asnumpy().tolist()) == [0, 1, 2, 3, 4]


def test_metrics() -> None:
    accuracy = mx.metric.create("acc")
    accuracy.update([nd.array([0, 1, 1])], [nd.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])])
    assert accuracy.get() == ("accuracy", pytest.approx(2 / 3))
    accuracy.reset()
    assert np.isnan(accuracy.get()[1])
    loss = mx.metric.Loss()
    loss.update(None, [nd.array([1.0, 3.0]), nd.array([5.0])])
    assert loss.get() == ("loss", 3.0)
    both = mx.metric.create(["mse", "mae"])
    both.update(nd.array([1.0, 2.0]), nd.array([2.0, 4.0]))
    assert both.get() == (["mse", "mae"], [2.5, 1.5])
    with pytest.raises(ValueError, match="does not match"):
        accuracy.update([nd.ones((1,))], [])


def test_hooks_apply_and_summary(capsys: pytest.CaptureFixture[str]) -> None:
    net = nn.HybridSequential()
    net.add(nn.Dense(3, in_units=2), nn.Dense(1, in_units=3))
    net.initialize()
    seen: list[str] = []
    hook = net[0].register_forward_hook(lambda b, i, o: seen.append(f"out {o.shape}"))
    with net[1].register_forward_pre_hook(lambda b, i: seen.append(f"in {i[0].shape}")):
        net(nd.ones((4, 2)))
    hook.detach()
    net(nd.ones((4, 2)))
    assert seen == ["out (4, 3)", "in (4, 3)"]
    names: list[str] = []
    net.apply(lambda b: names.append(type(b).__name__))
    assert names == ["Dense", "Dense", "HybridSequential"]
    net.summary(nd.ones((4, 2)))
    assert "Total params: 13" in capsys.readouterr().out


def test_misuse_is_named() -> None:
    with pytest.raises(ConfigError, match="two parameters are named"):
        p = gluon.Parameter("w", shape=(1,))
        gluon.Trainer([p, p], "sgd")
    with pytest.raises(ValueError, match="also be HybridBlock"):
        nn.HybridSequential().add(nn.Lambda("relu"))
    with pytest.raises(ConfigError, match="must be one NDArray among the inputs"):
        nn.Dense(1)(np.ones((1, 2)))
    with pytest.raises(ConfigError, match="async"):
        gluon.update_policy.choose("dist_async", 1, False)
    with pytest.raises(ValueError, match="evenly split"):
        gluon.utils.split_data(nd.ones((5, 1)), 2)


def test_splits_of_a_batch() -> None:
    x = nd.arange(14).reshape((7, 2))
    parts = gluon.utils.split_data(x, 3, even_split=False)
    assert [p.shape for p in parts] == [(3, 2), (2, 2), (2, 2)]
    assert np.concatenate([p.asnumpy() for p in parts]).tolist() == x.asnumpy().tolist()
    assert [p.shape for p in gluon.utils.split_data(x, 2, batch_axis=1)] == [(7, 1), (7, 1)]
    two = gluon.utils.split_and_load(np.ones((4, 2)), [mx.cpu(0), mx.cpu(1)])
    assert [(p.context, p.shape) for p in two] == [(mx.cpu(0), (2, 2)), (mx.cpu(1), (2, 2))]
    arrays = [nd.ones((2,)) * 3, nd.ones((2,)) * 4]
    assert gluon.utils.clip_global_norm(arrays, 1) == pytest.approx(50**0.5)
    assert np.linalg.norm([a.asnumpy() for a in arrays]) == pytest.approx(1, rel=1e-6)
    with pytest.warns(UserWarning, match="nan or inf"):
        gluon.utils.clip_global_norm([nd.array([np.nan])], 1)


def test_files_are_copied_and_never_fetched(tmp_path: Path) -> None:
    source = tmp_path / "a b.txt"
    source.write_text("hello")
    sha1 = "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"
    assert gluon.utils.check_sha1(source, sha1)
    assert not gluon.utils.check_sha1(source, sha1[::-1])
    copy = gluon.utils.download(source.as_uri(), tmp_path / "new" / "b.txt", sha1_hash=sha1)
    assert Path(copy).read_text() == "hello"
    source.write_text("other")
    assert gluon.utils.download(source.as_uri(), copy, sha1_hash=sha1) == copy
    assert Path(copy).read_text() == "hello"  # it was there already
    with pytest.raises(ConfigError, match="another SHA-1"):
        gluon.utils.download(source.as_uri(), copy, overwrite=True, sha1_hash=sha1)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["b.txt"]
    with pytest.raises(ConfigError, match="does not use the network"):
        gluon.utils.download("https://example.com/data.zip", tmp_path)


def test_a_file_holds_the_mean_of_what_differs_between_contexts(tmp_path: Path) -> None:
    two = [mx.cpu(0), mx.cpu(1)]
    layer = nn.BatchNorm(in_channels=1)
    layer.initialize(ctx=two)
    with autograd.record():
        for i, ctx in enumerate(two):
            layer(nd.array([[1.0 + 10 * i], [3.0 + 10 * i]], ctx=ctx))
    means = [layer.running_mean.data(ctx).asscalar() for ctx in two]
    assert means == pytest.approx([0.2, 1.2])
    layer.save_parameters(str(tmp_path / "n.params"))
    assert nd.load(str(tmp_path / "n.params"))["running_mean"].asscalar() == pytest.approx(0.7)


CHANNELS_LAST = {
    "conv1d": lambda **k: nn.Conv1D(4, 3, **k),
    "conv2d": lambda **k: nn.Conv2D(6, 3, strides=2, groups=3, padding=1, **k),
    "conv3d": lambda **k: nn.Conv3D(2, 2, use_bias=False, **k),
    "deconv2d": lambda **k: nn.Conv2DTranspose(4, 3, strides=2, activation="relu", **k),
    "max2d": lambda **k: nn.MaxPool2D(**k),
    "avg1d": lambda **k: nn.AvgPool1D(**k),
    "global2d": lambda **k: nn.GlobalAvgPool2D(**k),
}


@pytest.mark.parametrize("name", CHANNELS_LAST)
def test_channels_in_the_last_place(name: str) -> None:
    rank = int(name[-2])
    channels = 3 if name != "conv2d" else 6
    x = np.random.RandomState(0).standard_normal((2, channels, *range(5, 5 + rank)))
    usual = CHANNELS_LAST[name]()
    last = CHANNELS_LAST[name](layout={1: "NWC", 2: "NHWC", 3: "NDHWC"}[rank])
    usual.initialize(mx.init.Uniform(1))
    last.initialize()
    out = usual(nd.array(x)).asnumpy()
    turned = nd.array(np.moveaxis(x, 1, -1))
    last(turned)
    for (_, a), (_, b) in zip(usual.params.items(), last.params.items(), strict=True):
        values = a.data().asnumpy()
        b.set_data(nd.array(np.moveaxis(values, 1, -1) if values.ndim > 1 else values))
    np.testing.assert_allclose(
        np.moveaxis(last(turned).asnumpy(), -1, 1), out, rtol=1e-5, atol=1e-6
    )

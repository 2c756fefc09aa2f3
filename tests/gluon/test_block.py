# SPDX-License-Identifier: Apache-2.0
"""Blocks of one's own: deferred shapes, names, warnings, files, summary."""

from pathlib import Path

import numpy as np
import pytest

import kvtrain as mx
from kvtrain import autograd, gluon, nd
from kvtrain.errors import ConfigError, DeferredInitializationError, KVTrainError
from kvtrain.gluon import nn


class Scaled(gluon.HybridBlock):
    """Has no infer_shape: the operators tell the shapes."""

    def __init__(self, units: int, scales: nd.NDArray, **kwargs) -> None:
        super().__init__(**kwargs)
        self.weights = self.params.get("weights", shape=(units, 0), allow_deferred_init=True)
        self.scales = self.params.get(
            "scales", shape=scales.shape, init=mx.init.Constant(scales.asnumpy())
        )
        self.shift = self.params.get_constant("shift", [[1.0, 2.0]])

    def hybrid_forward(self, F, x, weights, scales, shift):
        x = F.broadcast_div(x - F.min(x), F.max(x) - F.min(x) + 1)
        out = F.FullyConnected(x, weights, num_hidden=self.weights.shape[0], no_bias=True)
        return F.broadcast_add(F.broadcast_mul(scales, out), shift)


def test_own_layer_with_deferred_weights() -> None:
    layer = Scaled(2, nd.array([2.0, 3.0]))
    layer.initialize(mx.init.One())
    x = nd.array([[1, 2, 3], [4, 5, 6]])
    with autograd.record():
        out = layer(x)
    out.backward()
    assert layer.weights.shape == (2, 3)
    row = ((x.asnumpy() - 1) / 6).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(out.asnumpy(), row * [2, 3] + [1, 2], rtol=1e-6)
    np.testing.assert_allclose(layer.scales.grad().asnumpy(), row.sum().repeat(2), rtol=1e-6)
    np.testing.assert_array_equal(layer(x).asnumpy(), out.asnumpy())
    assert layer.shift.grad_req == "null"
    with pytest.warns(UserWarning, match="does not support grad_req"):
        layer.collect_params().setattr("grad_req", "write")


RULES = {
    "conv": ((2, 3, 5, 5), (4, 0, 3, 3), lambda F, x, w: F.Convolution(
        x, w, num_filter=4, kernel=(3, 3), no_bias=True), (4, 3, 3, 3)),
    "dot": ((2, 3), (0, 4), lambda F, x, w: F.dot(x, w), (3, 4)),
    "times": ((2, 3), (0, 0), lambda F, x, w: x * w, (2, 3)),
    "added": ((2, 3), (0, 3), lambda F, x, w: F.elemwise_add(w, x), (2, 3)),
    "embedding": ((2, 3), (0, 0), lambda F, x, w: F.Embedding(
        x, w, input_dim=5, output_dim=4), (5, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_operators_tell_shapes(name: str) -> None:
    data, shape, function, expected = RULES[name]

    class Layer(gluon.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            self.w = self.params.get("w", shape=shape, allow_deferred_init=True)

        def hybrid_forward(self, F, x, w):
            return function(F, x, w)

    layer = Layer()
    layer.initialize()
    out = layer(nd.ones(data))
    assert layer.w.shape == expected
    np.testing.assert_array_equal(layer(nd.ones(data)).asnumpy(), out.asnumpy())


def test_a_shape_that_nothing_tells() -> None:
    class Layer(gluon.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            self.w = self.params.get("w", shape=(0, 3), allow_deferred_init=True)

        def hybrid_forward(self, F, x, w):
            return F.broadcast_mul(x, w)

    layer = Layer()
    layer.initialize()
    with pytest.raises(DeferredInitializationError, match=r"w' cannot be told from the inputs of"):
        layer(nd.ones((2, 3)))


def test_blocks_in_a_list_are_missed_with_a_warning() -> None:
    class Net(gluon.Block):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [nn.Dense(2)]

    with pytest.warns(UserWarning, match=r"\"Net.layers\" is an unregistered container"):
        assert not list(Net().collect_params())


def test_lists_and_none_as_inputs() -> None:
    class Net(gluon.HybridBlock):
        def hybrid_forward(self, F, pair, extra=None):
            return pair[0] + pair[1] if extra is None else extra[0]

    net = Net()
    net.hybridize()
    one, two = nd.ones((2,)), nd.ones((2,)) * 2
    assert net([one, two]).asnumpy().tolist() == [3, 3]
    assert net((one, two), [two]).asnumpy().tolist() == [2, 2]
    with pytest.raises(ConfigError, match="one NDArray among the inputs; got int"):
        net(3)
    with pytest.raises(NotImplementedError, match="save_parameters"):
        net.export("net")


def test_default_initializer_does_not_look_at_names() -> None:
    for name in ("x_bias", "x_gamma", "anything"):
        parameter = gluon.Parameter(name, shape=(3,))
        parameter.initialize(default_init=mx.init.Constant(3))
        assert parameter.data().asnumpy().tolist() == [3, 3, 3]
    net = nn.HybridSequential()
    net.add(nn.Dense(1, in_units=1, prefix="a_"), nn.Dense(1, in_units=1, prefix="b_"))
    net.initialize(mx.init.Mixed(["a_.*", ".*"], [mx.init.One(), mx.init.Constant(5)]))
    assert [net[i].weight.data().asscalar() for i in (0, 1)] == [1, 5]


def test_shared_parameters_and_files(tmp_path: Path) -> None:
    first = nn.Dense(2, in_units=2, prefix="a_")
    second = nn.Dense(2, prefix="b_", params=first.params)
    assert second.weight is first.weight
    net = nn.HybridSequential()
    net.add(first, second)
    net.initialize()
    assert list(net.collect_params()) == ["a_weight", "a_bias"]
    file = str(tmp_path / "n.params")
    net.save_parameters(file)
    assert list(nd.load(file)) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    net.save_parameters(file, deduplicate=True)
    assert len(nd.load(file)) == 2
    net.load_parameters(file)
    net.collect_params().save(file)
    assert list(nd.load(file)) == ["a_weight", "a_bias"]
    net.collect_params().load(file)
    first.load_parameters(file)  # by names instead of structure
    with pytest.raises(ValueError, match="does not begin with"):
        net.collect_params().save(file, strip_prefix="b_")
    prefix = str(tmp_path / "m")
    net.save(prefix)
    before = first.weight.data().asnumpy()
    first.weight.set_data(nd.zeros((2, 2)))
    net.load(prefix)
    np.testing.assert_array_equal(first.weight.data().asnumpy(), before)
    with pytest.raises(ConfigError, match="'shape': desired"):
        first.params.get("weight", shape=(3, 3))


def test_summary_counts_shared_parameters_once(capsys: pytest.CaptureFixture[str]) -> None:
    net = nn.HybridSequential()
    net.add(nn.Dense(3, in_units=3), nn.BatchNorm())
    net.add(nn.Dense(3, params=net[0].params))
    net.initialize()
    net.summary(nd.ones((2, 3)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "-" * 80
    assert [line.split() for line in lines[3:7]] == [
        ["Input", "(2,", "3)", "0"],
        ["Dense-1", "(2,", "3)", "12"],
        ["BatchNorm-2", "(2,", "3)", "12"],
        ["Dense-3", "(2,", "3)", "12"],
    ]
    assert lines[7] == "=" * 80
    assert lines[8:14] == [
        "Parameters in forward computation graph, duplicate included",
        "   Total params: 36",
        "   Trainable params: 30",
        "   Non-trainable params: 6",
        "Shared params in forward computation graph: 12",
        "Unique parameters in model: 24",
    ]


def test_op_hooks_see_outputs() -> None:
    net = nn.HybridSequential(prefix="n_")
    with net.name_scope():
        net.add(nn.Dense(2, in_units=3, activation="relu"))
    net.initialize()
    seen: list[tuple[str, str, tuple[int, ...]]] = []
    net.register_op_hook(lambda name, kind, a: seen.append((name, kind, a.shape)))
    net(nd.ones((1, 3)))
    assert ("n_dense0_fwd_output", "Dense", (1, 2)) in seen
    assert seen[-1] == ("n_fwd_output", "HybridSequential", (1, 2))


def test_modified_cells_are_not_called_directly() -> None:
    cell = gluon.rnn.LSTMCell(3)
    zone = gluon.rnn.ZoneoutCell(cell)
    assert len(zone.begin_state(batch_size=2)) == 2
    with pytest.raises(KVTrainError, match="modifier"):
        cell.begin_state(2)
    with pytest.raises(KVTrainError, match="already modified"):
        gluon.rnn.ResidualCell(cell)
    both = gluon.rnn.BidirectionalCell(gluon.rnn.RNNCell(2), gluon.rnn.RNNCell(2))
    with pytest.raises(NotImplementedError, match="use unroll"):
        both(nd.ones((1, 2)), [])
    with pytest.raises(ConfigError, match="doesn't support zoneout"):
        gluon.rnn.ZoneoutCell(both)
    layer = gluon.rnn.GRU(3)
    layer.initialize()
    with pytest.raises(ValueError, match="Invalid recurrent state shape"):
        layer(nd.ones((4, 2, 5)), layer.begin_state(3))
    ones = gluon.rnn.RNNCell(3).begin_state(2, func=nd.ones, dtype="float64", ctx=mx.cpu(1))
    assert (ones[0].context, ones[0].dtype) == (mx.cpu(1), np.float64)


@pytest.mark.parametrize("projection", [None, 3])
def test_a_layer_is_the_cells_that_it_unfuses_to(projection: int | None) -> None:
    layer = gluon.rnn.LSTM(4, 2, bidirectional=True, projection_size=projection, input_size=5)
    layer.initialize(mx.init.Uniform(0.5))
    x = nd.array(np.random.RandomState(0).standard_normal((3, 2, 5)))
    out, states = layer(x, layer.begin_state(2))
    whole, _ = layer._unfuse().unroll(3, x, layout="TNC", merge_outputs=True)
    np.testing.assert_allclose(out.asnumpy(), whole.asnumpy(), rtol=1e-5, atol=1e-6)
    assert [s.shape for s in states] == [i["shape"] for i in layer.state_info(2)]


def test_clipped_states_stay_in_bounds() -> None:
    layer = gluon.rnn.LSTM(3, input_size=2, state_clip_min=-0.01, state_clip_max=0.01)
    layer.initialize(mx.init.One())
    _, (_, cell) = layer(nd.ones((4, 1, 2)), layer.begin_state(1))
    np.testing.assert_allclose(cell.asnumpy(), 0.01, rtol=1e-6)


def test_infer_shape_without_a_batch_of_ones_own() -> None:
    net = nn.HybridSequential()
    net.add(nn.Conv2D(4, 3), nn.BatchNorm(), nn.Dense(2))
    net.initialize()
    with autograd.record():
        net.infer_shape(nd.ones((1, 3, 6, 6)))
    assert [p.shape for p in net.collect_params(".*weight").values()] == [(4, 3, 3, 3), (2, 64)]
    assert net[1].running_mean.data().asnumpy().tolist() == [0, 0, 0, 0]


def test_setting_the_dtype_casts() -> None:
    net = nn.Dense(2, in_units=3)
    net.initialize()
    net.collect_params().setattr("dtype", "float64")
    assert (net.weight.dtype, net.weight.data().dtype) == ("float64", np.float64)
    assert net(nd.ones((1, 3), dtype="float64")).dtype == np.float64


def test_deformable_convolution_without_offsets_is_a_convolution() -> None:
    x = nd.array(np.random.RandomState(0).standard_normal((2, 4, 5, 6)))
    plain = nn.Conv2D(6, 3, strides=2, padding=1, groups=2, in_channels=4)
    plain.initialize(mx.init.Uniform(1))
    for kind in ("DeformableConvolution", "ModulatedDeformableConvolution"):
        layer = getattr(gluon.contrib.cnn, kind)(
            6, kernel_size=3, strides=2, padding=1, groups=2, num_deformable_group=2
        )
        layer.initialize()
        layer(x)
        layer.deformable_conv_weight.set_data(plain.weight.data())
        np.testing.assert_allclose(layer(x).asnumpy(), plain(x).asnumpy(), rtol=1e-4, atol=1e-5)
        # one place down and to the right: the window sees the image moved
        bias = np.zeros(layer.offset_bias.shape)
        bias[:36] = 1
        layer.offset_bias.set_data(nd.array(bias))
        moved = nd.array(np.pad(x.asnumpy()[..., 1:, 1:], ((0, 0), (0, 0), (0, 1), (0, 1))))
        found = layer(x).asnumpy()[..., 1:, 1:]
        np.testing.assert_allclose(found, plain(moved).asnumpy()[..., 1:, 1:], rtol=1e-4, atol=1e-5)
    with pytest.raises(KVTrainError, match=r"offset has shape \(1, 18, 3, 3\)"):
        w = nd.ones((2, 1, 3, 3))
        nd.contrib.DeformableConvolution(
            nd.ones((1, 1, 4, 4)), nd.ones((1, 18, 3, 3)), w, kernel=(3, 3), num_filter=2
        )


def test_files_of_another_dtype_or_shape(tmp_path: Path) -> None:
    file = str(tmp_path / "n.params")
    net = nn.Dense(2, in_units=3)
    net.initialize()
    net.save_parameters(file)
    half = nn.Dense(2, dtype="float16")
    with pytest.raises(ConfigError, match="expected float16, saved float32; set cast_dtype"):
        half.load_parameters(file)
    half.load_parameters(file, cast_dtype=True)
    assert (half.weight.dtype, half.weight.data().dtype) == ("float16", np.float16)
    saved = nn.Dense(2, dtype="float16")
    saved.load_parameters(file, cast_dtype=True, dtype_source="saved")
    assert saved.weight.data().dtype == np.float32
    with pytest.raises(ConfigError, match=r"expected \(5, 0\), saved \(2, 3\)"):
        nn.Dense(5).load_parameters(file)
    with pytest.raises(FileNotFoundError):
        net.load_parameters(str(tmp_path / "none"))


def test_the_context_of_parameters_and_data_must_agree() -> None:
    net = nn.Dense(2, in_units=3, prefix="d_")
    with pytest.raises(RuntimeError, match="'d_weight' has not been initialized"):
        net(nd.ones((1, 3)))
    net.initialize(ctx=[mx.cpu(0), mx.cpu(1)])
    assert net(nd.ones((1, 3), ctx=mx.cpu(1))).context == mx.cpu(1)
    with pytest.raises(RuntimeError, match=r"'d_weight' was not initialized on context cpu\(2\)"):
        net(nd.ones((1, 3), ctx=mx.cpu(2)))
    net.collect_params().reset_ctx(mx.cpu(2))
    assert net(nd.ones((1, 3), ctx=mx.cpu(2))).context == mx.cpu(2)

# SPDX-License-Identifier: Apache-2.0
"""Sparse gradients and row-sparse parameters in Gluon: shapes, Trainer, files, errors."""

import numpy as np
import pytest

import kvtrain as mx
from kvtrain import autograd, gluon, nd
from kvtrain.errors import ConfigError, ParameterStorageError
from kvtrain.gluon.update_policy import UpdatePolicy, choose

LOOKED_UP = nd.array([1, 3, 1])


def table(sparse: bool, ctx=None, **kwargs) -> gluon.Block:
    layer = gluon.contrib.nn.SparseEmbedding if sparse else gluon.nn.Embedding
    net = layer(4, 2, **({} if sparse else {"sparse_grad": True}), **kwargs)
    net.initialize(mx.init.One(), ctx=ctx)
    return net


def backward(net: gluon.Block, x: nd.NDArray = LOOKED_UP) -> None:
    with autograd.record():
        y = net(x)
    y.backward()


def values(net: gluon.Block) -> np.ndarray:
    if net.weight.stype == "default":
        return net.weight.data().asnumpy()
    return net.weight.row_sparse_data(nd.arange(4)).asnumpy()


def test_the_gradient_of_an_embedding_holds_the_rows_looked_up() -> None:
    net = table(False)
    assert net.weight.grad().stype == "row_sparse"
    assert net.weight.grad().indices.shape == (0,)
    backward(net)
    grad = net.weight.grad()
    assert grad.indices.asnumpy().tolist() == [1, 3]
    assert grad.data.asnumpy().tolist() == [[2, 2], [1, 1]]
    net.weight.zero_grad()
    assert net.weight.grad().indices.shape == (0,)
    net.weight.grad_req = "add"
    for _ in range(2):
        backward(net)
    assert net.weight.grad().data.asnumpy().tolist() == [[4, 4], [2, 2]]
    net.cast("float64")
    assert net.weight.grad().stype == "row_sparse"
    assert net.weight.grad().dtype is np.float64


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kvstore", ["local", "device"])
@pytest.mark.parametrize("lazy", [True, False])
def test_a_trainer_updates_the_rows_of_the_gradient(sparse: bool, kvstore: str, lazy: bool) -> None:
    net = table(sparse)
    options = {"learning_rate": 0.5, "momentum": 0.5, "wd": 0.25, "lazy_update": lazy}
    trainer = gluon.Trainer(net.collect_params(), "sgd", options, kvstore=kvstore)
    want, momentum = np.ones((4, 2)), np.zeros((4, 2))
    for _ in range(2):
        backward(net)
        trainer.step(1)
        grad = np.array([[0.0, 0], [2, 2], [0, 0], [1, 1]])
        touched = [1, 3] if lazy else [0, 1, 2, 3]
        momentum[touched] = (0.5 * momentum - 0.5 * (grad + 0.25 * want))[touched]
        want[touched] += momentum[touched]
    np.testing.assert_allclose(values(net), want, rtol=1e-6)


@pytest.mark.parametrize("sparse", [False, True])
def test_several_contexts(sparse: bool) -> None:
    contexts = [mx.cpu(0), mx.cpu(1)]
    net = table(sparse, contexts)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    with autograd.record():
        outs = [net(nd.array([1, 3, 1 + i], ctx=c)) for i, c in enumerate(contexts)]
    autograd.backward(outs)
    trainer.step(1)
    want = [[1, 1], [0.7, 0.7], [0.9, 0.9], [0.8, 0.8]]
    if sparse:
        found = net.weight.list_row_sparse_data(nd.arange(4))
    else:
        found = net.weight.list_data()
    assert [array.context for array in found] == contexts
    for array in found:
        np.testing.assert_allclose(array.asnumpy(), want, rtol=1e-6)


def test_a_context_holds_the_rows_it_asked_for() -> None:
    net = table(True)
    trainer = gluon.Trainer(net.collect_params(), "adam")
    held = net.weight.row_sparse_data(nd.array([3, 1, 3]))
    assert held.indices.asnumpy().tolist() == [1, 3]
    assert net.weight._arrays()[0] is held
    assert held.context == mx.cpu(0)
    assert trainer.kvstore is not None
    assert net.weight._reduce().indices.asnumpy().tolist() == [0, 1, 2, 3]


def test_values_are_set_and_moved_with_all_their_rows() -> None:
    net = table(True)
    net.weight.set_data(nd.array([[1, 2], [0, 0], [3, 4], [5, 6]]))
    assert net.weight._arrays()[0].indices.asnumpy().tolist() == [0, 1, 2, 3]
    net.weight.reset_ctx(mx.cpu(1))
    assert net.weight.list_ctx() == [mx.cpu(1)]
    assert net.weight._reduce().asnumpy().tolist() == [[1, 2], [0, 0], [3, 4], [5, 6]]
    net.weight.cast("float64")
    assert net.weight._arrays()[0].dtype is np.float64
    zero = gluon.Parameter("w", shape=(3, 2), stype="row_sparse")
    zero.initialize(mx.init.Zero())
    assert zero._arrays()[0].indices.asnumpy().tolist() == [0, 1, 2]
    assert zero.grad().stype == "default"


def _trained() -> gluon.Block:
    net = table(True)
    gluon.Trainer(net.collect_params(), "sgd")
    return net


@pytest.mark.parametrize(
    ("run", "error", "text"),
    [
        (lambda: table(True).weight.data(), ParameterStorageError, "use row_sparse_data"),
        (lambda: table(True).weight.list_data(), ParameterStorageError, "use row_sparse_data"),
        (
            lambda: table(True).weight.row_sparse_data(LOOKED_UP),
            ParameterStorageError,
            "no Trainer is created",
        ),
        (
            lambda: table(False).weight.row_sparse_data(LOOKED_UP),
            ParameterStorageError,
            "storage type is default. Please use data",
        ),
        (
            lambda: table(False).weight.list_row_sparse_data(LOOKED_UP),
            ParameterStorageError,
            "storage type is default",
        ),
        (lambda: _trained().weight.row_sparse_data([1]), TypeError, "must have NDArray type"),
        (
            lambda: gluon.Trainer(_trained().collect_params(), "sgd"),
            ConfigError,
            "More than one trainers for a row_sparse Parameter",
        ),
        (
            lambda: gluon.Parameter("w", shape=(2, 2), stype="rows"),
            ConfigError,
            "stype for Parameter 'w' must be one of csr, default, row_sparse, but got 'rows'",
        ),
        (
            lambda: gluon.Parameter("w", shape=(2, 2), grad_stype="rows"),
            ConfigError,
            "grad_stype for Parameter 'w'",
        ),
    ],
)
def test_bad_calls(run, error, text: str) -> None:
    with pytest.raises(error, match=text):
        run()


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        (("local", 1, None, True, True), UpdatePolicy(True, True)),
        (("dist_sync", 1, None, True, True), UpdatePolicy(True, True)),
        (("device", 1, None, False, True), UpdatePolicy(False, False)),
        (("device", 2, None, False, True), UpdatePolicy(True, False)),
        (("device", 2, True, False, True), UpdatePolicy(True, True)),
        (("dist_sync", 2, None, False, True), UpdatePolicy(True, True)),
        ((None, 1, None, True, True), "live in a store"),
        (("local", 1, False, True, True), "update_on_kvstore=False when sparse weights"),
        (("dist_sync", 1, False, False, True), "sparse gradients are present"),
    ],
)
def test_where_the_optimizer_of_sparse_parameters_runs(arguments, want) -> None:
    if isinstance(want, str):
        with pytest.raises(ConfigError, match=want):
            choose(*arguments)
    else:
        assert choose(*arguments) == want


class FactorizationMachine(gluon.Block):
    """Linear and pairwise terms of sparse features; both tables live in the store as rows."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        rows = {"stype": "row_sparse", "grad_stype": "row_sparse", "init": mx.init.Normal(0.01)}
        with self.name_scope():
            self.w = self.params.get("w", shape=(features, 1), **rows)
            self.v = self.params.get("v", shape=(features, width), **rows)
            self.b = self.params.get("b", shape=(1,), init=mx.init.Zero())

    def forward(self, x: nd.NDArray) -> nd.NDArray:
        w = self.w.row_sparse_data(x.indices)
        v = self.v.row_sparse_data(x.indices)
        squares = nd.sparse.dot(nd.sparse.square(x), nd.sparse.square(v))
        pairs = nd.square(nd.sparse.dot(x, v)) - squares
        return nd.sparse.dot(x, w) + 0.5 * pairs.sum(axis=1, keepdims=True) + self.b.data()


def test_a_factorization_machine_learns_from_csr_batches(tmp_path) -> None:
    mx.random.seed(0)
    rng = np.random.default_rng(0)
    raw = (rng.random((256, 400)) < 0.02).astype(np.float32)
    wanted = (raw @ rng.standard_normal((400, 1)) > 0).astype(np.float32)
    x, y = nd.sparse.csr_matrix(raw), nd.array(wanted)
    net = FactorizationMachine(400, 4)
    net.initialize()
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.05})
    loss = gluon.loss.SigmoidBinaryCrossEntropyLoss()
    for _ in range(8):
        for low in range(0, 256, 64):
            with autograd.record():
                error = loss(net(x[low : low + 64]), y[low : low + 64])
            error.backward()
            assert net.v.grad().indices.shape[0] < 400
            trainer.step(64)
    assert error.mean().asscalar() < 0.1
    path = str(tmp_path / "net.params")
    net.save_parameters(path)
    assert nd.load(path)["v"].stype == "row_sparse"
    again = FactorizationMachine(400, 4)
    again.load_parameters(path)
    gluon.Trainer(again.collect_params(), "adam")
    np.testing.assert_array_equal(again(x).asnumpy(), net(x).asnumpy())

# SPDX-License-Identifier: Apache-2.0
"""Operators written in Python: arguments, gradients, states, storage, errors."""

import numpy as np
import pytest

import kvtrain as mx
from kvtrain import autograd, gluon, nd
from kvtrain.errors import AutogradError, OperatorError, UnknownName

SEEN: list = []


class Scaled(mx.operator.CustomOp):
    """a * x + b, whose gradient is a times that of the output; counts its calls in a state."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def forward(self, is_train, req, in_data, out_data, aux):
        SEEN.append((is_train, list(req), autograd.is_recording()))
        aux[0][:] = aux[0] + 1
        self.assign(out_data[0], req[0], in_data[0] * self.scale + in_data[1])

    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        SEEN.append((list(req), autograd.is_recording()))
        self.assign(in_grad[0], req[0], out_grad[0] * self.scale)
        self.assign(in_grad[1], req[1], out_grad[0])


@mx.operator.register("test_scaled")
class ScaledProp(mx.operator.CustomOpProp):
    def __init__(self, scale: str = "1", **rest: str) -> None:
        super().__init__()
        SEEN.append((scale, rest))
        self.scale = float(scale)

    def list_arguments(self):
        return ["x", "b"]

    def list_auxiliary_states(self):
        return ["calls"]

    def infer_shape(self, in_shape):
        return in_shape, [in_shape[0]], [(1,)]

    def create_operator(self, ctx, in_shapes, in_dtypes):
        SEEN.append((ctx, in_shapes, in_dtypes))
        return Scaled(self.scale)


def inputs() -> tuple[nd.NDArray, nd.NDArray, nd.NDArray]:
    return nd.array([1, 2, 3]), nd.array([10, 10, 10]), nd.zeros((1,))


def test_what_the_classes_are_given() -> None:
    SEEN.clear()
    x, b, calls = inputs()
    x.attach_grad()
    with autograd.record():
        y = nd.Custom(x, b, calls, op_type="test_scaled", scale=2.5, flag=True, name="hi")
        z = y * nd.array([1, 2, 3])
    z.backward()
    assert y.asnumpy().tolist() == [12.5, 15, 17.5]
    assert x.grad.asnumpy().tolist() == [2.5, 5, 7.5]
    assert calls.asnumpy().tolist() == [1]
    assert SEEN == [
        ("2.5", {"flag": "True"}),
        (mx.cpu(0), [[3], [3]], [np.float32, np.float32]),
        (True, ["write"], False),
        (["write", "null"], False),
    ]
    SEEN.clear()
    assert nd.Custom(b=b, x=x, calls=calls, op_type="test_scaled").asnumpy().tolist() == [
        11,
        12,
        13,
    ]
    assert SEEN[2] == (False, ["write"], False)
    out = nd.zeros((3,))
    assert nd.Custom(x, b, calls, op_type="test_scaled", out=out) is out
    assert out.asnumpy().tolist() == [11, 12, 13]


def test_gradients_add_up_and_flow_on() -> None:
    x, b, calls = inputs()
    x.attach_grad("add")
    b.attach_grad()
    for _ in range(2):
        with autograd.record():
            inner = x * x
            y = nd.Custom(inner, b, calls, op_type="test_scaled", scale=3)
            y = nd.Custom(y, inner, calls, op_type="test_scaled", scale=2)
        y.backward()
    assert y.asnumpy().tolist() == [27, 48, 83]
    assert x.grad.asnumpy().tolist() == [28, 56, 84]
    assert b.grad.asnumpy().tolist() == [2, 2, 2]
    (g,) = autograd.grad(_once(x, b, calls), [x])
    assert g.asnumpy().tolist() == [4, 4, 4]


def _once(x, b, calls, scale=4):
    with autograd.record():
        return nd.Custom(x, b, calls, op_type="test_scaled", scale=scale)


class Softmax(mx.operator.CustomOp):
    """The tutorial's loss in NumPy."""

    def forward(self, is_train, req, in_data, out_data, aux):
        x = in_data[0].asnumpy()
        y = np.exp(x - x.max(axis=1, keepdims=True))
        self.assign(out_data[0], req[0], nd.array(y / y.sum(axis=1, keepdims=True)))

    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        label = in_data[1].asnumpy().ravel().astype(int)
        y = out_data[0].asnumpy()
        y[np.arange(label.shape[0]), label] -= 1.0
        self.assign(in_grad[0], req[0], nd.array(y))


@mx.operator.register("test_softmax")
class SoftmaxProp(mx.operator.CustomOpProp):
    def __init__(self):
        super().__init__(need_top_grad=False)

    def list_arguments(self):
        return ["data", "label"]

    def infer_shape(self, in_shape):
        return [in_shape[0], (in_shape[0][0],)], [in_shape[0]], []

    def create_operator(self, ctx, shapes, dtypes):
        return Softmax()


def test_a_loss_in_a_hybrid_block_trains() -> None:
    class Net(gluon.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            with self.name_scope():
                self.dense = gluon.nn.Dense(2)

        def hybrid_forward(self, F, x, label):
            return F.Custom(self.dense(x), label, op_type="test_softmax")

    mx.random.seed(1)
    net = Net()
    net.initialize()
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.5})
    x = nd.random.normal(shape=(60, 3))
    label = (x.sum(axis=1) > 0).astype("float32")
    for _ in range(60):
        with autograd.record():
            out = net(x, label)
        out.backward()
        trainer.step(60)
    assert (out.argmax(axis=1) == label).mean().asscalar() > 0.9


class Pair(mx.operator.CustomOp):
    def forward(self, is_train, req, in_data, out_data, aux):
        self.assign(out_data[0], req[0], in_data[0] + 1)
        self.assign(out_data[1], "add", (in_data[0] * 2).astype("float64"))

    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        assert [g.dtype for g in out_grad] == [np.float32, np.float64]
        self.assign(in_grad[0], req[0], out_grad[0] + 2 * out_grad[1].astype("float32"))


@mx.operator.register("test_pair")
class PairProp(mx.operator.CustomOpProp):
    def list_outputs(self):
        return ["more", "twice"]

    def infer_type(self, in_type):
        return in_type, [in_type[0], np.float64], []

    def create_operator(self, ctx, shapes, dtypes):
        return Pair()


def test_several_outputs_of_several_types() -> None:
    x = nd.array([1, 2])
    x.attach_grad()
    with autograd.record():
        more, twice = nd.Custom(x, op_type="test_pair")
        head = more * 3
    assert twice.dtype is np.float64
    assert twice.asnumpy().tolist() == [2, 4]
    head.backward()
    assert x.grad.asnumpy().tolist() == [3, 3]
    with autograd.record():
        more, twice = nd.Custom(x, op_type="test_pair")
    autograd.backward([more, twice])
    assert x.grad.asnumpy().tolist() == [3, 3]


class Rows(mx.operator.CustomOp):
    def forward(self, is_train, req, in_data, out_data, aux):
        assert in_data[0].stype == "csr"
        self.assign(out_data[0], req[0], in_data[0] * 2)

    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        assert in_grad[0].stype == "row_sparse"
        self.assign(in_grad[0], req[0], out_grad[0].tostype("row_sparse"))


@mx.operator.register("test_rows")
class RowsProp(mx.operator.CustomOpProp):
    def infer_storage_type(self, in_stype):
        return in_stype, ["csr"], []

    def infer_storage_type_backward(self, ograd, data, out, igrad, aux):
        return ograd, data, out, ["row_sparse"], aux

    def create_operator(self, ctx, shapes, dtypes):
        return Rows()


def test_sparse_arrays() -> None:
    x = nd.sparse.csr_matrix([[0, 1], [2, 0]])
    x.attach_grad(stype="row_sparse")
    with autograd.record():
        y = nd.Custom(x, op_type="test_rows")
    assert y.stype == "csr"
    assert y.asnumpy().tolist() == [[0, 2], [4, 0]]
    y.backward(nd.array([[0, 0], [5, 6]]))
    assert x.grad.indices.asnumpy().tolist() == [1]
    with pytest.raises(OperatorError, match=r"doesnt allow non default stypes: .*'csr'"):
        nd.Custom(x, op_type="test_pair")


def test_defaults_of_the_property_class() -> None:
    prop = mx.operator.CustomOpProp()
    assert prop.list_arguments() == ["data"]
    assert prop.list_outputs() == ["output"]
    assert prop.list_auxiliary_states() == []
    assert prop.infer_shape([[2, 3]]) == ([[2, 3]], [[2, 3]], [])
    assert prop.infer_type([np.float32]) == ([np.float32], [np.float32], [])
    assert prop.infer_storage_type(["default"]) == (["default"], ["default"], [])
    assert prop.declare_backward_dependency([0], [1], [2]) == [0, 1, 2]
    loss = mx.operator.CustomOpProp(need_top_grad=False)
    assert loss.declare_backward_dependency([0], [1], [2]) == [1, 2]


@pytest.mark.parametrize(
    ("req", "want"), [("null", [1, 1]), ("write", [5, 6]), ("inplace", [5, 6]), ("add", [6, 7])]
)
def test_assign(req: str, want: list) -> None:
    target = nd.ones((2,))
    mx.operator.CustomOp().assign(target, req, nd.array([5, 6]))
    assert target.asnumpy().tolist() == want


class Broken(mx.operator.CustomOp):
    def forward(self, is_train, req, in_data, out_data, aux):
        raise RuntimeError("boom")


@mx.operator.register("test_broken")
class BrokenProp(mx.operator.CustomOpProp):
    def __init__(self, kind: str = "") -> None:
        super().__init__()
        self.kind = kind

    def infer_shape(self, in_shape):
        if self.kind == "one list":
            return in_shape
        if self.kind == "two outputs":
            return in_shape, in_shape * 2
        return ([[7]] if self.kind == "other shape" else in_shape), [in_shape[0]], []

    def create_operator(self, ctx, shapes, dtypes):
        return Broken()


@pytest.mark.parametrize(
    ("run", "error", "text"),
    [
        (lambda x: nd.Custom(x), UnknownName, "unknown custom operator ''; known: .*test_pair"),
        (lambda x: nd.Custom(x, op_type="nope"), UnknownName, "'nope'"),
        (lambda x: nd.Custom(op_type="test_pair"), OperatorError, "takes 1 arrays .data., 0 given"),
        (lambda x: nd.Custom(x, x, op_type="test_pair"), OperatorError, "2 given"),
        (lambda x: nd.Custom([1], op_type="test_pair"), OperatorError, "NDArrays, not list"),
        (lambda x: nd.Custom(x, y=x, op_type="test_pair"), OperatorError, "argument 'y'"),
        (lambda x: nd.Custom(x, data=x, op_type="test_pair"), OperatorError, "argument 'data'"),
        (lambda x: nd.Custom(x, op_type="test_broken"), RuntimeError, "boom"),
        (
            lambda x: nd.Custom(x, op_type="test_broken", kind="other shape"),
            OperatorError,
            r"'data' has shape \(3,\), infer_shape wants \(7,\)",
        ),
        (
            lambda x: nd.Custom(x, op_type="test_broken", kind="two outputs"),
            OperatorError,
            "tells 2 outputs; list_outputs has 1",
        ),
        (
            lambda x: nd.Custom(x, op_type="test_broken", kind="one list"),
            OperatorError,
            "must return 2 or 3 lists",
        ),
        (lambda x: mx.operator.register("n")(int), TypeError, "must inherit from CustomOpProp"),
        (lambda x: mx.operator.CustomOp().assign(x, "never", x), OperatorError, "req='never'"),
        (lambda x: mx.operator.get_operator_arguments("nope"), OperatorError, "'nope'"),
    ],
)
def test_bad_calls(run, error, text: str) -> None:
    with pytest.raises(error, match=text):
        run(nd.ones((3,)))


def test_a_gradient_written_in_place_has_no_gradient() -> None:
    x, b, calls = inputs()
    x.attach_grad()
    with autograd.record(), pytest.raises(AutogradError, match=r"use autograd\.Function"):
        y = nd.Custom(x * x, b, calls, op_type="test_scaled")
        autograd.grad(y, [x], create_graph=True)


def test_numpy_operators_of_old() -> None:
    class Square(mx.operator.NumpyOp):
        def list_arguments(self):
            return ["x", "w"]

        def forward(self, in_data, out_data):
            assert type(in_data[0]) is np.ndarray
            out_data[0][:] = in_data[0] ** 2 * in_data[1]

        def backward(self, out_grad, in_data, out_data, in_grad):
            in_grad[0][:] = 2 * in_data[0] * in_data[1] * out_grad[0]

    class Plain(mx.operator.NDArrayOp):
        pass

    x = nd.array([1, 2, 3])
    x.attach_grad()
    with autograd.record():
        y = Plain()(Square()(x, w=nd.array([1, 1, 2])))
    y.backward()
    assert y.asnumpy().tolist() == [1, 4, 18]
    assert x.grad.asnumpy().tolist() == [2, 4, 12]


def test_names_and_arguments_of_all_operators() -> None:
    names = mx.operator.get_all_registered_operators()
    assert {"FullyConnected", "Custom", "elemwise_add", "sgd_update"} - set(names) <= {"sgd_update"}
    grouped = mx.operator.get_all_registered_operators_grouped()
    assert "broadcast_add" in grouped["add"]
    arguments = mx.operator.get_operator_arguments("FullyConnected")
    assert arguments.narg == len(arguments.names) == len(arguments.types)
    assert arguments.names[0] == "data"
    assert "num_hidden" in arguments.names

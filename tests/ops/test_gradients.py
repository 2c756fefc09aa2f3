# SPDX-License-Identifier: Apache-2.0
"""Every differentiable operator against finite differences, and no operator without a row."""

import importlib
import pkgutil

import numpy as np
import pytest

from kvtrain import autograd, nd
from kvtrain.errors import OperatorError
from kvtrain.ndarray.namespace import call
from kvtrain.ops.derive import flat
from kvtrain.ops.registry import all_names, find
from kvtrain.testing import check_gradient
from tests import ops
from tests.ops.case import Case
from tests.ops.cases import SPECIAL

CASES: list[Case] = []
for _found in pkgutil.iter_modules(ops.__path__):
    if _found.name.startswith("cases"):
        CASES += importlib.import_module(f"tests.ops.{_found.name}").CASES


def prepared(case: Case, arrays: tuple[nd.NDArray, ...]) -> tuple[nd.NDArray, ...]:
    return arrays if case.before is None else tuple(case.before(a) for a in arrays)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.op}-{len(c.attrs)}")
def test_gradient(case: Case) -> None:
    op = find(case.op)

    def function(*arrays: nd.NDArray) -> object:
        out = call(op, prepared(case, arrays), dict(case.attrs))
        return out[: case.outputs] if isinstance(out, list) else out

    check_gradient(function, case.inputs, case.wanted)


def test_every_differentiable_operator_has_a_row() -> None:
    rows = {case.op for case in CASES} | SPECIAL
    missing = {op.name for op in all_names().values() if op.vjp not in (None, flat)} - rows
    assert not missing


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.op}-{len(c.attrs)}")
def test_gradient_of_the_gradient(case: Case) -> None:
    op = find(case.op)
    every = list(range(len(case.inputs))) if case.wanted is None else case.wanted
    wanted = every if case.twice is None else case.twice

    def slope(*arrays: nd.NDArray) -> list[nd.NDArray]:
        for i in wanted:
            if arrays[i]._entry is None:
                arrays[i].attach_grad()
        with autograd.record():
            out = call(op, prepared(case, arrays), dict(case.attrs))
            outs = out if isinstance(out, list) else [out]
            heads = [(o * o * 0.5 + o).sum() for o in outs[: case.outputs]]
            grads = autograd.grad(heads, [arrays[i] for i in wanted], create_graph=True)
            # a gradient that does not depend on the variables is no part of the graph
            return [g + arrays[i] * 0 for g, i in zip(grads, wanted, strict=True)]

    check_gradient(slope, case.inputs, wanted, rtol=1e-3, atol=1e-4)


def test_losses_have_the_gradient_they_promise() -> None:
    data, label = nd.array([[1.0, 2.0, 0.5]]), nd.array([1.0])
    data.attach_grad()
    with autograd.record():
        out = nd.SoftmaxOutput(data, label)
    out.backward(nd.array([[7.0, 7.0, 7.0]]))  # ignored
    expected = np.exp(data.asnumpy()) / np.exp(data.asnumpy()).sum()
    expected[0, 1] -= 1
    np.testing.assert_allclose(data.grad.asnumpy(), expected, rtol=1e-5)
    target = nd.array([[0.0, 3.0, 0.0]])
    for name, slope in (
        ("LinearRegressionOutput", lambda d, t: (d - t) / 3),
        ("MAERegressionOutput", lambda d, t: np.sign(d - t) / 3),
        ("LogisticRegressionOutput", lambda d, t: (1 / (1 + np.exp(-d)) - t) / 3),
    ):
        with autograd.record():
            out = getattr(nd, name)(data, target)
        out.backward()
        np.testing.assert_allclose(
            data.grad.asnumpy(), slope(data.asnumpy(), target.asnumpy()), rtol=1e-5
        )
    with autograd.record():
        out = nd.BlockGrad(data * 2) + data
    out.backward()
    assert data.grad.asnumpy().tolist() == [[1, 1, 1]]


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (lambda: nd.dot(nd.ones((2, 3)), nd.ones((2, 3))), "dot: shapes"),
        (lambda: nd.ones((2, 3)) + nd.ones((2, 2)), "add: .*\\(2, 3\\)"),
        (lambda: nd.ones((2,)) + nd.ones((2,), dtype="float64"), "dtypes float32 and float64"),
        (lambda: nd.Activation(nd.ones((2,)), act_type="swoosh"), "known: relu, sigmoid"),
        (lambda: nd.sum(nd.ones((2,)), axes=1), "unknown argument 'axes'"),
        (lambda: nd.one_hot(nd.ones((2,))), "'depth' is missing"),
        (lambda: nd.ones((2, 3)).reshape((4, 2)), "has 6 elements"),
        (lambda: nd.FullyConnected(nd.ones((2, 3)), nd.ones((4, 2)), num_hidden=4), "do not fit"),
        (lambda: nd.sum(nd.ones((2,)), axis=3), "axis 3 is out of range"),
        (lambda: nd.exp([1.0]), "must be an NDArray"),
    ],
)
def test_bad_input_is_one_clear_error(run, text: str) -> None:
    with pytest.raises(OperatorError, match=text):
        run()

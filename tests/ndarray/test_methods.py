# SPDX-License-Identifier: Apache-2.0
"""DLPack, slice assignment, indices that are refused, gradients that are zero."""

import math

import numpy as np
import pytest

from kvtrain import autograd, generators, nd
from kvtrain.errors import AutogradError, OperatorError
from kvtrain.kernels import xp


def test_dlpack_shares_memory_both_ways() -> None:
    a = nd.arange(6).reshape((2, 3))
    b = nd.from_dlpack(a.to_dlpack_for_write())
    b[0, 1] = 50
    assert a[0, 1].asscalar() == 50
    a[1, 2] = 70
    assert b[1, 2].asscalar() == 70
    raw = np.arange(4.0)
    c = nd.from_dlpack(raw)
    c[0] = -1
    assert raw[0] == -1 and c.dtype == np.float64
    assert np.shares_memory(np.from_dlpack(a), a._read())
    assert nd.from_dlpack(nd.to_dlpack_for_read(a)).shape == (2, 3)


def test_dlpack_refuses_what_it_cannot_take() -> None:
    with pytest.raises(OperatorError, match="int has no __dlpack__"):
        nd.from_dlpack(3)
    capsule = nd.ones((2,)).to_dlpack_for_read()
    nd.from_dlpack(capsule)
    with pytest.raises(OperatorError, match="from_dlpack"):
        nd.from_dlpack(capsule)


def test_slices_are_assigned_in_place() -> None:
    a = nd.zeros((3, 4))
    assert a.slice_assign(nd.ones((2, 2)), (0, 1), (2, 3), (1, 1)) is a
    assert a.slice_assign_scalar(7, (2, None), (3, None), (None, 2)) is a
    assert a.asnumpy().tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [7, 0, 7, 0]]
    with pytest.raises(OperatorError, match="does not fit"):
        a.slice_assign(nd.ones((2, 2)), (0, 0), (1, 1), (1, 1))


@pytest.mark.parametrize(
    ("key", "error"),
    [("x", ValueError), (1.5, ValueError), (5, IndexError), ((0, 0, 0), IndexError)],
)
@pytest.mark.parametrize("recording", [False, True])
def test_bad_indices(key, error, recording: bool) -> None:
    a = nd.ones((3, 4))
    a.attach_grad()
    scope = autograd.record() if recording else autograd.pause()
    with scope, pytest.raises(error):
        a[key]


def test_values_of_another_shape_are_refused() -> None:
    a = nd.zeros((2, 4))
    a[:] = nd.arange(8).reshape((1, 2, 4))
    assert a[1, 3].asscalar() == 7
    with pytest.raises(ValueError, match=r"\(8,\) do not fit \(2, 4\)"):
        a[:] = nd.ones((8,))


def test_a_function_without_slope_gives_a_gradient_of_zero() -> None:
    x = nd.array([1.0, -2.0])
    x.attach_grad()
    x.grad[:] = 5
    with autograd.record():
        y = (x > 0) * 3
    y.backward()
    assert x.grad.asnumpy().tolist() == [0, 0]
    with autograd.record():
        z = nd.floor(x)
    assert autograd.grad(z, [x])[0].asnumpy().tolist() == [0, 0]


def test_a_gradient_of_the_third_order() -> None:
    x = nd.array([0.3, -1.2])
    x.attach_grad()
    with autograd.record():
        y = nd.sin(x).sum()
        first = autograd.grad(y, x, create_graph=True)
        first = first[0] if isinstance(first, list) else first
        second = autograd.grad(first.sum(), x, create_graph=True)
        second = second[0] if isinstance(second, list) else second
    autograd.backward(second)
    np.testing.assert_allclose(x.grad.asnumpy(), -np.cos(x.asnumpy()), rtol=1e-6)


def test_loops_are_recorded_and_stop_at_the_limit() -> None:
    x = nd.array([2.0])
    x.attach_grad()
    with autograd.record():
        outputs, last = nd.contrib.while_loop(
            lambda a: a < 100, lambda a: ([a], [a * x]), [x], max_iterations=4
        )
    assert outputs[0].asnumpy().ravel().tolist() == [2, 4, 8, 16]
    last[0].backward()
    assert x.grad.asscalar() == 5 * 2**4
    with pytest.raises(ValueError, match="max_iterations"):
        nd.contrib.while_loop(lambda a: a < 1, lambda a: ([a], [a]), [x])
    with pytest.raises(OperatorError, match="differ along axis 0"):
        nd.contrib.foreach(lambda d, s: (d[0], s), [nd.ones((2,)), nd.ones((3,))], [])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_error_function(dtype: str) -> None:
    x = np.linspace(-6, 6, 501).astype(dtype)
    expected = [math.erf(v) for v in x]
    np.testing.assert_allclose(xp.erf(x), expected, atol=4e-7 if dtype == "float32" else 3e-16)
    y = np.linspace(-0.99, 0.99, 21)
    np.testing.assert_allclose(xp.erf(xp.erfinv(y)), y, atol=1e-15)


def test_integers_below_a_bound_that_throws_words_away() -> None:
    generators.seed(3)
    bound = 2**31 + 1  # nearly half of the words are beyond the last whole multiple
    drawn = generators.below(np.full(50, bound))
    assert (0 <= drawn).all() and (drawn < bound).all()
    generators.seed(3)
    assert (generators.below(np.full(50, bound)) == drawn).all()


def test_a_freed_graph_and_a_foreign_variable_are_told_apart() -> None:
    x = nd.ones((2,))
    x.attach_grad()
    with autograd.record():
        y = (x * x).sum()
    y.backward()
    with pytest.raises(AutogradError, match="freed"):
        y.backward()
    with autograd.record():
        y = (x * x).sum()
    with pytest.raises(AutogradError, match="attach_grad"):
        autograd.grad(y, nd.ones((2,)))


@pytest.mark.parametrize(
    "run",
    [
        lambda a, b: nd.broadcast_add(a, b),
        lambda a, b: nd.broadcast_greater(lhs=a, rhs=b),
        lambda a, b: nd.dot(a, b, transpose_b=True),
        lambda a, b: nd.FullyConnected(a, b, no_bias=True, num_hidden=2),
        lambda a, b: nd.concat(a, b),
        lambda a, b: nd.stack(a, b),
        lambda a, b: nd.LayerNorm(a, b[0], b[0]),
        lambda a, b: nd.linalg.gemm2(a, b, transpose_b=True),
    ],
)
def test_arrays_of_different_dtypes_are_refused(run) -> None:
    with pytest.raises(OperatorError, match=r"has dtype float64, .* float32"):
        run(nd.ones((2, 3)), nd.ones((2, 3), dtype="float64"))

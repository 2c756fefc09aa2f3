# SPDX-License-Identifier: Apache-2.0
"""Recording, gradients, their requests, functions written by users."""

import numpy as np
import pytest

from kvtrain import autograd, nd
from kvtrain.errors import AutogradError


def test_flags_follow_the_scopes() -> None:
    assert not autograd.is_recording() and not autograd.is_training()
    with autograd.record():
        assert autograd.is_recording() and autograd.is_training()
        with autograd.pause():
            assert not autograd.is_recording() and not autograd.is_training()
        with autograd.predict_mode():
            assert autograd.is_recording() and not autograd.is_training()
    with autograd.record(train_mode=False):
        assert not autograd.is_training()
    with autograd.train_mode():
        assert autograd.is_training() and not autograd.is_recording()
    assert autograd.set_recording(True) is False
    assert autograd.set_recording(False) is True


def test_write_add_and_null() -> None:
    x, y, z = (nd.array([2.0]) for _ in range(3))
    x.attach_grad()
    y.attach_grad("add")
    z.attach_grad("null")
    for _ in range(3):
        with autograd.record():
            out = x * y * z
        out.backward()
    assert x.grad.asscalar() == 4
    assert y.grad.asscalar() == 12
    assert z.grad.asscalar() == 0
    with pytest.raises(AutogradError, match="known: write, add, null"):
        x.attach_grad("sometimes")


def test_a_variable_used_twice_and_head_gradients() -> None:
    x = nd.array([1.0, 2.0])
    x.attach_grad()
    with autograd.record():
        a, b = x * x, x + 1
        out = a * b
    out.backward(nd.array([10.0, 1.0]))
    assert x.grad.asnumpy().tolist() == [50.0, 16.0]
    with autograd.record():
        first, second = x * 2, x * 3
    autograd.backward([first, second], [nd.array([1.0, 1.0]), nd.array([10.0, 10.0])])
    assert x.grad.asnumpy().tolist() == [32.0, 32.0]


def test_the_graph_is_freed_unless_kept() -> None:
    x = nd.array([3.0])
    x.attach_grad()
    with autograd.record():
        y = x * x
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(AutogradError, match="freed"):
        y.backward()
    with pytest.raises(AutogradError, match="not in a computational graph"):
        nd.ones((1,)).backward()


def test_pause_and_detach_cut_the_graph() -> None:
    x = nd.array([3.0])
    x.attach_grad()
    with autograd.record():
        y = x * x
        with autograd.pause():
            z = x * 100
        out = y + y.detach() * x + z
    out.backward()
    assert x.grad.asscalar() == 6 + 9


def test_grad_of_inner_arrays_and_higher_orders() -> None:
    x = nd.array([0.5, 1.5])
    x.attach_grad()
    with autograd.record():
        y = nd.sin(x)
        z = (y * y * y).sum()
    (by_y,) = autograd.grad(z, [y], retain_graph=True)
    np.testing.assert_allclose(by_y.asnumpy(), 3 * np.sin(x.asnumpy()) ** 2, rtol=1e-6)
    with autograd.record():
        y = x * x * x * x
        (first,) = autograd.grad(y, x, create_graph=True)
        (second,) = autograd.grad(first, x, create_graph=True)
        (third,) = autograd.grad(second, x)
    np.testing.assert_allclose(third.asnumpy(), 24 * x.asnumpy(), rtol=1e-6)
    assert x.grad.asnumpy().tolist() == [0, 0]
    with pytest.raises(AutogradError, match="attach_grad"):
        autograd.grad(y, nd.ones((2,)))


def test_mark_variables() -> None:
    x, g = nd.array([2.0]), nd.zeros((1,))
    autograd.mark_variables([x], [g])
    with autograd.record():
        y = x * x
    y.backward()
    assert g.asscalar() == 4
    assert x.grad is g


class Sigmoid(autograd.Function):
    def forward(self, x):
        y = 1 / (1 + nd.exp(-x))
        self.save_for_backward(y)
        return y

    def backward(self, dy):
        (y,) = self.saved_tensors
        return dy * y * (1 - y)


def test_a_function_of_the_user() -> None:
    x = nd.array([0.3, -2.0])
    x.attach_grad()
    with autograd.record():
        out = Sigmoid()(x) * 2
    out.backward()
    y = 1 / (1 + np.exp(-x.asnumpy()))
    np.testing.assert_allclose(x.grad.asnumpy(), 2 * y * (1 - y), rtol=1e-6)

    class Two(autograd.Function):
        def forward(self, a, b):
            return a * b, a + b

        def backward(self, dp, ds):
            return dp * 10 + ds, ds

    a, b = nd.array([2.0]), nd.array([5.0])
    a.attach_grad()
    b.attach_grad()
    with autograd.record():
        p, s = Two()(a, b)
        out = p * 3 + s
    out.backward()
    assert (a.grad.asscalar(), b.grad.asscalar()) == (31, 1)


def test_a_long_chain_needs_no_recursion() -> None:
    x = nd.array([1.0])
    x.attach_grad()
    with autograd.record():
        y = x
        for _ in range(5000):
            y = y + 1
    y.backward()
    assert x.grad.asscalar() == 1


def test_indexing_and_views_are_part_of_the_graph() -> None:
    x = nd.array([[1.0, 2.0], [3.0, 4.0]])
    x.attach_grad()
    with autograd.record():
        out = x[0] * 2 + x.reshape((4,))[1:3] * 10 + x[:, 1].copy()
    out.backward()
    assert x.grad.asnumpy().tolist() == [[2, 13], [10, 1]]


def test_threads_record_for_themselves() -> None:
    import threading

    found = []
    with autograd.record():
        thread = threading.Thread(target=lambda: found.append(autograd.is_recording()))
        thread.start()
        thread.join()
    assert found == [False]

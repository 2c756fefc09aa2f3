# SPDX-License-Identifier: Apache-2.0
"""What autograd refuses, user-written functions, threads, sparse variables."""

import threading

import numpy as np
import pytest

from kvtrain import autograd, nd
from kvtrain.errors import AutogradError


class Cube(autograd.Function):
    """x ** 3, without calling the base's __init__."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def forward(self, x):
        self.save_for_backward(x)
        return x * x * x * self.scale

    def backward(self, dy):
        (x,) = self.saved_tensors
        return 3 * x * x * self.scale * dy


class WrongShape(autograd.Function):
    def forward(self, x):
        return x * 2

    def backward(self, dy):
        return dy.sum()


class WrongCount(autograd.Function):
    def forward(self, x, y):
        return x * y

    def backward(self, dz):
        return dz


def variable(*values: float) -> nd.NDArray:
    x = nd.array(values)
    x.attach_grad()
    return x


def test_two_instances_keep_their_own_tensors() -> None:
    x = variable(1, 2)
    with autograd.record():
        y = Cube()(x) + Cube(2)(x * 2)
    y.backward()
    assert x.grad.asnumpy().tolist() == [3 + 48, 12 + 192]


def _second_call() -> None:
    cube = Cube()
    x = variable(1)
    with autograd.record():
        cube(x)
        cube(x)


def _after_backward() -> None:
    x = variable(1)
    with autograd.record():
        y = x * x
        z = y * 3
    z.backward()
    y.backward()


def _grad_of_freed() -> None:
    x = variable(1)
    with autograd.record():
        y = x * x
    autograd.grad(y, [x])
    autograd.grad(y, [x])


def _apply(function: autograd.Function, *arrays: nd.NDArray) -> None:
    with autograd.record():
        y = function(*arrays)
    y.backward()


def _in_place(change) -> None:
    x = variable(1, 2)
    with autograd.record():
        y = x * 2
        change(y)


def _sparse_in_place() -> None:
    r = nd.sparse.row_sparse_array([[0, 0], [1, 2]])
    r.attach_grad()
    with autograd.record():
        r[:] = 0


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (_second_call, "Cube: each Function instance can only be called once"),
        (_after_backward, "freed by an earlier backward.*retain_graph=True"),
        (_grad_of_freed, "freed by an earlier backward"),
        (lambda: _apply(WrongShape(), variable(1, 2)), r"gradient 0 has shape \(1,\), input 0 .*2"),
        (lambda: _apply(WrongCount(), variable(1), variable(2)), "1 gradients for 2 inputs"),
        (lambda: _in_place(lambda y: y.__iadd__(1)), "cannot be written inside record"),
        (lambda: _in_place(lambda y: y.__setitem__(0, 1)), "cannot be written inside record"),
        (lambda: _in_place(lambda y: nd.ones((2,)).copyto(y)), "cannot be written inside record"),
        (lambda: _in_place(lambda y: nd.exp(y, out=y)), "cannot be written inside record"),
        (_sparse_in_place, "cannot be written inside record"),
        (lambda: nd.ones((1,)).backward(), "not in a computational graph"),
        (
            lambda: autograd.grad(variable(1), [nd.ones((1,))]),
            "every variable must be in the graph",
        ),
    ],
)
def test_what_is_refused(run, text: str) -> None:
    with pytest.raises(AutogradError, match=text):
        run()
    assert not autograd.is_recording()


def test_a_graph_that_is_kept_gives_the_same_again() -> None:
    x = variable(2)
    with autograd.record():
        y = x * x * x
    for _ in range(3):
        y.backward(retain_graph=True)
        assert x.grad.asnumpy().tolist() == [12]
    assert [g.asnumpy().tolist() for g in autograd.grad(y, [x], nd.array([10.0]))] == [[120]]


def test_one_element_read_while_recording() -> None:
    x = nd.array([[1.0, 2], [3, 4]])
    x.attach_grad()
    with autograd.record():
        y = x[1, 0] * x[0][1] + x[-1, -1]
    assert y.asnumpy().tolist() == [10]
    y.backward()
    assert x.grad.asnumpy().tolist() == [[0, 3], [2, 1]]


@pytest.mark.parametrize("stype", ["row_sparse", "csr"])
def test_a_sparse_gradient_buffer_takes_any_gradient(stype: str) -> None:
    x = nd.array([[1.0, 2], [3, 4]])
    x.attach_grad(stype=stype)
    for forward, want in (
        (lambda: x * 3, [[3, 3], [3, 3]]),
        (lambda: x[1], [[0, 0], [1, 1]]),
        (lambda: nd.BlockGrad(x) + nd.ones_like(x), [[0, 0], [0, 0]]),
    ):
        with autograd.record():
            y = forward()
        y.backward()
        assert x.grad.stype == stype
        assert x.grad.asnumpy().tolist() == want
    x.attach_grad("add", stype=stype)
    for _ in range(2):
        with autograd.record():
            y = x * x
        y.backward()
    assert x.grad.asnumpy().tolist() == [[4, 8], [12, 16]]


def test_a_gradient_of_a_sparse_gradient() -> None:
    x = nd.array([[1.0, 2], [3, 4]])
    x.attach_grad()
    c = nd.sparse.csr_matrix([[0, 1], [2, 0]])
    with autograd.record():
        (g,) = autograd.grad(nd.sparse.dot(c, x * x), [x], create_graph=True)
        z = (g * g).sum()
    z.backward()
    assert x.grad.asnumpy().tolist() == [[32, 64], [24, 32]]
    x.attach_grad(stype="row_sparse")
    with autograd.record():
        y = nd.Embedding(nd.array([1, 1]), x, input_dim=2, output_dim=2, sparse_grad=True)
        (g,) = autograd.grad((y * y * y).sum(), [x], create_graph=True)
        z = g.sum()
    z.backward()
    assert x.grad.asnumpy().tolist() == [[0, 0], [36, 48]]


def test_threads_keep_their_flags_contexts_and_graphs() -> None:
    weight = nd.array([3.0])  # shared and read by all
    weight.attach_grad("null")
    gate, found = threading.Barrier(4), {}

    def work(number: int) -> None:
        x = variable(number)
        gate.wait(10)
        with autograd.record(train_mode=number % 2 == 0):
            gate.wait(10)
            y = x * x * weight
            flags = autograd.is_recording(), autograd.is_training()
            gate.wait(10)
        gate.wait(10)
        after = autograd.is_recording()
        y.backward()
        found[number] = flags, after, x.grad.asscalar()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    with autograd.pause():
        for thread in threads:
            thread.join(20)
    assert found == {i: ((True, i % 2 == 0), False, np.float32(6 * i)) for i in range(4)}

# SPDX-License-Identifier: Apache-2.0
"""The class NDArray: what it prints, its doors, views, indexing, dtypes."""

import copy
import pickle

import numpy as np
import pytest

import kvtrain as mx
from kvtrain import autograd, nd
from kvtrain.errors import AutogradError, OperatorError


def test_it_prints_as_users_of_the_api_know() -> None:
    x = nd.array([[1, 2], [3, 4], [5, 6]])
    assert str(x) == "\n[[1. 2.]\n [3. 4.]\n [5. 6.]]\n<NDArray 3x2 @cpu(0)>"
    assert str(nd.array([1, 2], dtype="int32", ctx=mx.cpu(1))) == "\n[1 2]\n<NDArray 2 @cpu(1)>"
    assert repr(x.sum()) == "\n[21.]\n<NDArray 1 @cpu(0)>"


@pytest.mark.parametrize(
    ("made", "shape", "dtype"),
    [
        (lambda: nd.array(np.array([1, 2])), (2,), np.float32),
        (lambda: nd.array(np.array([1.5])), (1,), np.float32),
        (lambda: nd.array([1, 2], dtype="int32"), (2,), np.int32),
        (lambda: nd.array(nd.array([1], dtype="int64")), (1,), np.int64),
        (lambda: nd.zeros(3), (3,), np.float32),
        (lambda: nd.ones((2, 3), dtype="float64"), (2, 3), np.float64),
        (lambda: nd.full((2,), 7), (2,), np.float32),
        (lambda: nd.arange(2, 8, 2, repeat=2), (6,), np.float32),
        (lambda: nd.eye(3), (3, 3), np.float32),
        (lambda: nd.linspace(0, 1, 5), (5,), np.float32),
        (lambda: nd.array([1, 2], dtype="int32") / 2, (2,), np.int32),
        (lambda: nd.array([1, 2], dtype="int32") + 1.7, (2,), np.int32),
        (lambda: nd.ones((2,)) > 0, (2,), np.float32),
        (lambda: nd.ones((3, 2)).argmax(axis=1), (3,), np.float32),
        (lambda: nd.ones((3, 2)).sum(), (1,), np.float32),
        (lambda: nd.ones((3, 2))[0, 1], (1,), np.float32),
        (lambda: nd.ones((3, 2))[:, 1], (3,), np.float32),
        (lambda: nd.ones((3, 2)).reshape((-1, 3)), (2, 3), np.float32),
        (lambda: nd.ones((2, 3, 4)).reshape((-4, 1, 2, -2)), (1, 2, 3, 4), np.float32),
        (lambda: nd.ones((2, 3, 4)).reshape((0, -3)), (2, 12), np.float32),
        (lambda: nd.one_hot(nd.array([0, 2]), 3), (2, 3), np.float32),
        (lambda: nd.topk(nd.ones((2, 3)), k=2), (2, 2), np.float32),
        (lambda: nd.ones((2, 3)).astype("float16"), (2, 3), np.float16),
        (lambda: nd.random.randint(0, 10, (3,)), (3,), np.int32),
        (lambda: nd.moveaxis(nd.ones((2, 3, 4)), 0, 2), (3, 4, 2), np.float32),
    ],
)
def test_shapes_and_dtypes(made, shape: tuple[int, ...], dtype: type) -> None:
    array = made()
    assert array.shape == shape
    assert array.dtype is dtype


def test_arithmetic_with_numbers_on_both_sides() -> None:
    x = nd.array([1.0, 2.0, 4.0])
    for got, want in (
        (1 - x, [0, -1, -3]),
        (2**x, [2, 4, 16]),
        (8 / x, [8, 4, 2]),
        (5 % x, [0, 1, 1]),
        (-x, [-1, -2, -4]),
        (abs(-x), [1, 2, 4]),
        (x == 2, [0, 1, 0]),
        (2 < x, [0, 0, 1]),
        (nd.maximum(x, 3), [3, 3, 4]),
        (nd.maximum(3, x), [3, 3, 4]),
        (x + np.array([1, 1, 1]), [2, 3, 5]),
    ):
        assert got.asnumpy().tolist() == want
    x += 1
    x *= nd.array([1.0, 2.0, 3.0])
    assert x.asnumpy().tolist() == [2, 6, 15]
    assert nd.square(x, out=x) is x
    assert x.asnumpy().tolist() == [4, 36, 225]


def test_contiguous_slices_and_reshape_are_views_and_others_are_copies() -> None:
    x = nd.zeros((4, 3))
    x[1:3][:] = 1
    x.reshape((12,))[0] = 5
    x[3][2] = 7
    x[:, 1][:] = 9  # not contiguous: a copy
    assert x.asnumpy().tolist() == [[5, 0, 0], [1, 1, 1], [1, 1, 1], [0, 0, 7]]
    y = nd.array([[1, 2], [3, 4], [5, 6]])
    assert y[nd.array([0, 2])].asnumpy().tolist() == [[1, 2], [5, 6]]
    assert y[[0, 2]].asnumpy().tolist() == [[1, 2], [5, 6]]
    assert y[::-1].asnumpy().tolist() == [[5, 6], [3, 4], [1, 2]]
    assert y[..., 0].asnumpy().tolist() == [1, 3, 5]
    y[nd.array([0, 1])] = 0
    y[2, 0] = nd.array([8])
    assert y.asnumpy().tolist() == [[0, 0], [0, 0], [8, 6]]
    with pytest.raises(IndexError):
        y[5]


def test_copies_do_not_share() -> None:
    x = nd.ones((2,))
    for other in (x.copy(), x.copyto(mx.cpu(1)), copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        other[:] = 5
    x.asnumpy()[:] = 6
    assert x.asnumpy().tolist() == [1, 1]
    assert x.as_in_context(mx.cpu(0)) is x
    assert x.as_in_context(mx.cpu(2)).context == mx.cpu(2)
    y = nd.zeros((2,))
    assert x.copyto(y) is y
    assert y.asnumpy().tolist() == [1, 1]
    with pytest.raises(OperatorError, match="does not fit"):
        x.copyto(nd.zeros((3,)))


def test_scalars_and_truth() -> None:
    assert nd.array([2.5]).asscalar() == 2.5
    assert float(nd.array([2.5])) == 2.5
    assert not nd.array([0])
    assert len(nd.ones((3, 2))) == 3
    with pytest.raises(ValueError, match="not a scalar"):
        nd.ones((2,)).asscalar()
    with pytest.raises(ValueError, match="ambiguous"):
        bool(nd.ones((2,)))


# ---- the two doors --------------------------------------------------------------------------


def test_a_pending_array_and_its_views_wait_once_at_the_first_use() -> None:
    x = nd.zeros((4,))
    view = x[1:3]
    calls = []

    def fill() -> None:
        calls.append(1)
        x._fill()[:] = 7

    x._set_pending(fill)
    assert not calls
    assert (view + 1).asnumpy().tolist() == [8, 8]
    assert x.asnumpy().tolist() == [7, 7, 7, 7]
    assert calls == [1]


def test_a_failed_wait_fails_at_every_read() -> None:
    x = nd.zeros((2,))

    def fail() -> None:
        raise RuntimeError("lost")

    x._set_pending(fail)
    for use in (x.asnumpy, x.wait_to_read, lambda: x + 1, nd.waitall, lambda: x[0]):
        with pytest.raises(RuntimeError, match="lost"):
            use()
    x._storage.wait = None


def test_bytes_on_loan_do_not_change() -> None:
    x = nd.ones((3,))
    view = x[0:2]
    loan = x._lend()
    view[:] = 5
    assert loan.array.tolist() == [1, 1, 1]
    assert x.asnumpy().tolist() == [5, 5, 1]
    loan.release()
    second = x._lend()
    second.release()
    x[:] = 2
    assert second.array.tolist() == [2, 2, 2]


def test_storage_moves_and_views_follow() -> None:
    x = nd.array([1.0, 2.0, 3.0])
    view = x[1:]
    arena = np.zeros(8, np.float32)
    x._move_to(arena[2:5])
    assert arena.tolist() == [0, 0, 1, 2, 3, 0, 0, 0]
    view[:] = 9
    assert arena.tolist() == [0, 0, 1, 9, 9, 0, 0, 0]


def test_an_array_of_the_graph_is_not_written_while_recording() -> None:
    x = nd.ones((2,))
    x.attach_grad()
    with autograd.record():
        with pytest.raises(AutogradError, match="inside record"):
            x += 1
        with pytest.raises(AutogradError, match="inside record"):
            x[0] = 1
    assert x.asnumpy().tolist() == [1, 1]


def test_gpu_arrays_are_refused_with_a_reason() -> None:
    with pytest.raises(OperatorError, match="gpu\\(0\\) is not supported"):
        nd.zeros((2,), ctx=mx.gpu(0))
    assert mx.num_gpus() == 0
    with mx.Context("cpu", 3):
        assert nd.zeros((1,)).context == mx.cpu(3)


def test_functions_have_signatures_and_documentation() -> None:
    import inspect

    assert str(inspect.signature(nd.one_hot)).startswith("(indices, ")
    assert "Softmax" in (nd.softmin.__doc__ or "")
    assert list(inspect.signature(nd.NDArray.sum).parameters)[:2] == ["self", "axis"]

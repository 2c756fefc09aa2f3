# SPDX-License-Identifier: Apache-2.0
"""Row-sparse keys in the store of one process."""

import numpy as np
import pytest

import kvtrain as mx
from kvtrain import nd
from kvtrain.errors import ConfigError, KeyMismatch, KeyNotInitialized

SHAPE = (4, 2)
TABLE = [[1, 2], [3, 4], [0, 0], [7, 8]]


def rows(ids: list[int], *values: list[float]) -> nd.NDArray:
    return nd.sparse.row_sparse_array((list(values), ids), shape=SHAPE)


def empty() -> nd.NDArray:
    return nd.zeros(SHAPE, stype="row_sparse")


def parts(array: nd.NDArray) -> tuple[list, list]:
    return array.indices.asnumpy().tolist(), array.data.asnumpy().tolist()


def store(optimizer: str | None = None, **options: float) -> mx.kv.KVStore:
    kv = mx.kv.create("local")
    kv.init("a", nd.sparse.row_sparse_array(TABLE))
    if optimizer is not None:
        kv.set_optimizer(mx.optimizer.create(optimizer, **options))
    return kv


@pytest.mark.parametrize(
    ("ids", "want"),
    [
        ([1, 3, 1], ([1, 3], [[3, 4], [7, 8]])),
        ([2], ([2], [[0, 0]])),
        ([3, 0], ([0, 3], [[1, 2], [7, 8]])),
        ([], ([], [])),
    ],
)
def test_pulled_are_just_the_rows_asked_for(ids: list[int], want: tuple) -> None:
    kv, out = store(), rows([0], [9, 9])
    kv.row_sparse_pull("a", out=out, row_ids=nd.array(ids, dtype="int64"))
    assert parts(out) == want


def test_lists_of_arrays_and_of_keys() -> None:
    kv, first, second = store(), empty(), empty()
    kv.init("b", rows([0, 1], [5, 5], [6, 6]))
    kv.row_sparse_pull("a", out=[first, second], row_ids=[nd.array([0]), nd.array([1])])
    assert (parts(first), parts(second)) == (([0], [[1, 2]]), ([1], [[3, 4]]))
    kv.row_sparse_pull("a", out=[first, second], row_ids=nd.array([3]))
    assert parts(first) == parts(second) == ([3], [[7, 8]])
    kv.row_sparse_pull(["a", "b"], out=[first, second], row_ids=[nd.array([0]), nd.array([1])])
    assert (parts(first), parts(second)) == (([0], [[1, 2]]), ([1], [[6, 6]]))


def test_pushed_rows_are_summed_in_order_and_kept_as_rows() -> None:
    kv, out = store(), empty()
    kv.push("a", rows([2], [1, 1]))
    kv.pull("a", out=out, ignore_sparse=False)
    assert parts(out) == ([2], [[1, 1]])
    kv.push("a", [rows([2], [1, 1]), rows([0, 2], [1, 1], [2, 2])])
    kv.row_sparse_pull("a", out=out, row_ids=nd.array([0, 1, 2]))
    assert parts(out) == ([0, 1, 2], [[1, 1], [0, 0], [3, 3]])
    dense = nd.zeros(SHAPE)
    kv.pull("a", out=dense)
    assert dense.asnumpy().tolist() == [[1, 1], [0, 0], [3, 3], [0, 0]]
    before = parts(out)
    kv.pull("a", out=out)  # sparse arrays are left alone unless asked for
    assert parts(out) == before
    pushed = rows([1], [4, 4])
    kv.push("a", pushed)
    pushed[:] = 0
    kv.pull("a", out=out, ignore_sparse=False)
    assert parts(out) == ([1], [[4, 4]])


@pytest.mark.parametrize("dense", [False, True])
def test_the_optimizer_updates_the_pushed_rows_only(dense: bool) -> None:
    kv = mx.kv.create("device")
    value = nd.array(TABLE)
    kv.init("a", value if dense else value.tostype("row_sparse"))
    if not dense:  # every row must be stored
        with pytest.raises(ValueError, match="stores 3"):
            kv.set_optimizer(mx.optimizer.SGD())
            kv.push("a", rows([2], [1, 1]))
        kv = mx.kv.create("device")
        kv.init("a", nd.sparse.row_sparse_array((TABLE, [0, 1, 2, 3]), shape=SHAPE))
    kv.set_optimizer(mx.optimizer.SGD(learning_rate=0.5, momentum=0.5, wd=0.25))
    for _ in range(2):
        kv.push("a", [rows([1], [1, 2]), rows([1, 3], [1, 2], [4, 4])])
    want, momentum = np.array(TABLE, np.float32), np.zeros(SHAPE, np.float32)
    for _ in range(2):
        for row, grad in ((1, [2, 4]), (3, [4, 4])):
            momentum[row] = 0.5 * momentum[row] - 0.5 * (np.array(grad) + 0.25 * want[row])
            want[row] += momentum[row]
    out = nd.zeros(SHAPE)
    kv.pull("a", out=out)
    assert out.asnumpy().tolist() == want.tolist()


@pytest.mark.parametrize("optimizer", ["adam", "adagrad", "ftrl", "rmsprop", "sgd"])
def test_a_sparse_gradient_of_all_rows_updates_as_a_dense_one(optimizer: str) -> None:
    rng = np.random.default_rng(4)
    value, grads = rng.random(SHAPE), rng.random((3, *SHAPE))
    found = []
    for stype in ("default", "row_sparse"):
        kv = mx.kv.create("local")
        kv.init(3, nd.array(value).tostype(stype))
        kv.set_optimizer(mx.optimizer.create(optimizer, learning_rate=0.1, wd=0.01))
        for grad in grads:
            kv.push(3, nd.array(grad).tostype(stype))
        out = nd.zeros(SHAPE)
        kv.pull(3, out=out)
        found.append(out.asnumpy())
    assert np.abs(found[0] - value).max() > 0.01
    np.testing.assert_array_equal(*found)


def test_pushpull_and_broadcast_of_sparse_arrays() -> None:
    kv, out = mx.kv.create("local"), empty()
    kv.broadcast("a", rows([1], [1, 1]), out=out)
    assert parts(out) == ([1], [[1, 1]])
    kv.pushpull("a", [rows([2], [1, 1]), rows([2, 3], [1, 1], [5, 5])], out=out)
    assert parts(out) == ([2, 3], [[2, 2], [5, 5]])


@pytest.mark.parametrize(
    ("run", "error", "text"),
    [
        (lambda kv: kv.row_sparse_pull("a", row_ids=nd.array([0])), ConfigError, "must be given"),
        (lambda kv: kv.row_sparse_pull("a", out=empty()), ConfigError, "must be given"),
        (
            lambda kv: kv.row_sparse_pull("a", out=nd.zeros(SHAPE), row_ids=nd.array([0])),
            KeyMismatch,
            "must be row_sparse, got storage type default",
        ),
        (
            lambda kv: kv.row_sparse_pull("a", out=empty(), row_ids=nd.array([1, 4])),
            KeyMismatch,
            "row 4; the key has rows 0 to 3",
        ),
        (
            lambda kv: kv.row_sparse_pull("a", out=empty(), row_ids=nd.array([-1])),
            KeyMismatch,
            "row -1",
        ),
        (
            lambda kv: kv.row_sparse_pull("a", out=empty(), row_ids=[1]),
            KeyMismatch,
            "must be NDArrays, got int",
        ),
        (
            lambda kv: kv.row_sparse_pull("a", out=[empty()], row_ids=[nd.array([1])] * 2),
            KeyMismatch,
            "1 arrays and 2 row_ids",
        ),
        (
            lambda kv: kv.row_sparse_pull("z", out=empty(), row_ids=nd.array([1])),
            KeyNotInitialized,
            "'z'",
        ),
        (
            lambda kv: kv.push("a", nd.zeros((5, 2), stype="row_sparse")),
            KeyMismatch,
            r"shape \(5, 2\)",
        ),
    ],
)
def test_bad_calls(run, error, text: str) -> None:
    with pytest.raises(error, match=text):
        run(store())

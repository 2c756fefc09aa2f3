# SPDX-License-Identifier: Apache-2.0
"""Sparse arrays: how they are made, printed, converted, indexed, and what they refuse."""

import copy
import pickle

import numpy as np
import pytest

import kvtrain as mx
from kvtrain import autograd, nd
from kvtrain.errors import NotSupportedForSparseNDArray, OperatorError
from kvtrain.ndarray import sparse

PARTS = ([1, 2, 3], [1, 0, 2], [0, 1, 1, 2, 3])
DENSE = [[0, 1, 0], [0, 0, 0], [2, 0, 0], [0, 0, 3]]
SQUARE = np.array([[0, 1], [2, 0]])
ROWS = ([[1, 2], [3, 4]], [1, 4])


def show(array) -> tuple:
    """Storage, shape, dtype and stored parts."""
    parts = [array.data.asnumpy().tolist(), array.indices.asnumpy().tolist()]
    if array.stype == "csr":
        parts.append(array.indptr.asnumpy().tolist())
        assert array.indptr.dtype is np.int64
    assert array.indices.dtype is np.int64
    return array.stype, array.shape, np.dtype(array.dtype).name, *parts


@pytest.mark.parametrize(
    ("made", "shape", "dtype", "values"),
    [
        (lambda: sparse.csr_matrix(PARTS, shape=(4, 3)), (4, 3), "float32", DENSE),
        (lambda: sparse.csr_matrix(PARTS), (4, 3), "float32", DENSE),
        (lambda: sparse.csr_matrix(PARTS, dtype="float64"), (4, 3), "float64", DENSE),
        (
            lambda: sparse.csr_matrix((np.array(PARTS[0], "int32"), *PARTS[1:])),
            (4, 3),
            "int32",
            DENSE,
        ),
        (
            lambda: sparse.csr_matrix(tuple(nd.array(p, dtype="float64") for p in PARTS)),
            (4, 3),
            "float64",
            DENSE,
        ),
        (lambda: sparse.csr_matrix(([1, 2, 3], ([3, 3, 0], [1, 1, 2]))), (4, 3), "int64", None),
        (
            lambda: sparse.csr_matrix(([3.0, 2, 1], ([3, 2, 0], [2, 0, 1])), shape=(4, 3)),
            (4, 3),
            "float64",
            DENSE,
        ),
        (lambda: sparse.csr_matrix((4, 3)), (4, 3), "float32", np.zeros((4, 3))),
        (lambda: sparse.csr_matrix(SQUARE), (2, 2), "int64", SQUARE),
        (lambda: sparse.csr_matrix(SQUARE.tolist()), (2, 2), "float32", SQUARE),
        (lambda: sparse.csr_matrix(nd.array(SQUARE, dtype="float16")), (2, 2), "float16", SQUARE),
        (lambda: sparse.csr_matrix(sparse.csr_matrix(SQUARE)), (2, 2), "int64", SQUARE),
        (lambda: sparse.array(sparse.csr_matrix(SQUARE), dtype="float32"), (2, 2), "float32", None),
        (lambda: nd.array(sparse.csr_matrix(SQUARE)), (2, 2), "int64", SQUARE),
        (lambda: nd.array(SQUARE).tostype("csr"), (2, 2), "float32", SQUARE),
        (lambda: nd.cast_storage(nd.array(SQUARE), "csr"), (2, 2), "float32", SQUARE),
        (lambda: nd.zeros((2, 3), stype="csr"), (2, 3), "float32", np.zeros((2, 3))),
        (lambda: nd.empty((2, 3), stype="csr"), (2, 3), "float32", np.zeros((2, 3))),
        (lambda: sparse.empty("csr", (2, 3), dtype="int8"), (2, 3), "int8", np.zeros((2, 3))),
        (lambda: sparse.csr_matrix(([], [], [0, 0]), shape=(1, 2)), (1, 2), "float32", [[0, 0]]),
        (lambda: sparse.csr_matrix(DENSE)[1:3], (2, 3), "float32", DENSE[1:3]),
        (lambda: sparse.csr_matrix(DENSE)[-2], (1, 3), "float32", DENSE[2:3]),
        (lambda: sparse.csr_matrix(DENSE)[2:2], (0, 3), "float32", np.zeros((0, 3))),
        (
            lambda: sparse.slice(sparse.csr_matrix(DENSE), begin=(1, 1), end=(None, 3)),
            (3, 2),
            "float32",
            [[0, 0], [0, 0], [0, 3]],
        ),
    ],
)
def test_csr_arrays(made, shape, dtype: str, values) -> None:
    array = made()
    assert isinstance(array, sparse.CSRNDArray)
    assert (array.shape, np.dtype(array.dtype).name, array.stype) == (shape, dtype, "csr")
    array.check_format()
    if values is not None:
        assert array.asnumpy().tolist() == np.asarray(values).tolist()
    assert array.tostype("default").asnumpy().tolist() == array.asnumpy().tolist()


@pytest.mark.parametrize(
    ("made", "shape", "dtype", "data", "ids"),
    [
        (lambda: sparse.row_sparse_array(ROWS, shape=(6, 2)), (6, 2), "float32", *ROWS),
        (lambda: sparse.row_sparse_array(ROWS), (5, 2), "float32", *ROWS),
        (lambda: sparse.row_sparse_array(ROWS, dtype="int64"), (5, 2), "int64", *ROWS),
        (
            lambda: sparse.row_sparse_array((np.array(ROWS[0], "float64"), nd.array(ROWS[1]))),
            (5, 2),
            "float64",
            *ROWS,
        ),
        (lambda: sparse.row_sparse_array((6, 2, 3)), (6, 2, 3), "float32", [], []),
        (lambda: sparse.row_sparse_array([[0, 0], [2, 0]]), (2, 2), "float32", [[2, 0]], [1]),
        (lambda: sparse.row_sparse_array(SQUARE), (2, 2), "int64", SQUARE.tolist(), [0, 1]),
        (
            lambda: sparse.row_sparse_array(sparse.row_sparse_array(SQUARE), dtype="float32"),
            (2, 2),
            "float32",
            SQUARE.tolist(),
            [0, 1],
        ),
        (lambda: nd.ones((2, 1, 2)).tostype("row_sparse"), (2, 1, 2), "float32", None, [0, 1]),
        (lambda: nd.ones((2,)).tostype("row_sparse"), (2,), "float32", [1, 1], [0, 1]),
        (lambda: nd.zeros((2, 3), stype="row_sparse"), (2, 3), "float32", [], []),
        (lambda: sparse.zeros("row_sparse", (2, 3), dtype="int8"), (2, 3), "int8", [], []),
        (lambda: sparse.row_sparse_array(([], []), shape=(2, 3)), (2, 3), "float32", [], []),
        (
            lambda: sparse.row_sparse_array(ROWS).retain(nd.array([0, 4])),
            (5, 2),
            "float32",
            [[0, 0], [3, 4]],
            [0, 4],
        ),
        (
            lambda: sparse.retain(sparse.row_sparse_array(ROWS), nd.array([4, 1], dtype="int64")),
            (5, 2),
            "float32",
            [[3, 4], [1, 2]],
            [4, 1],
        ),
    ],
)
def test_row_sparse_arrays(made, shape, dtype: str, data, ids) -> None:
    array = made()
    assert isinstance(array, sparse.RowSparseNDArray)
    assert array.shape == shape
    assert np.dtype(array.dtype).name == dtype
    if data is not None:
        assert show(array)[3:] == (data, ids)
    whole = np.zeros(shape, dtype)
    whole[array.indices.asnumpy()] = array.data.asnumpy()
    assert array.asnumpy().tolist() == whole.tolist()
    assert array.tostype("default").asnumpy().tolist() == whole.tolist()


def test_they_print_as_users_of_the_api_know() -> None:
    assert repr(sparse.csr_matrix(SQUARE)) == "\n<CSRNDArray 2x2 @cpu(0)>"
    array = sparse.zeros("row_sparse", (2, 3, 4), ctx=mx.cpu(1))
    assert str(array) == "\n<RowSparseNDArray 2x3x4 @cpu(1)>"
    assert array.context == mx.cpu(1)
    assert (len(array), array.ndim) == (2, 3)


def test_scipy_matrices() -> None:
    scipy_sparse = pytest.importorskip("scipy.sparse")
    source = scipy_sparse.csr_matrix(([1, 2, 3], [2, 0, 1], [0, 3]), shape=(1, 3))
    for made in (sparse.csr_matrix(source), sparse.array(source), nd.array(source)):
        assert show(made) == ("csr", (1, 3), "int64", [2, 3, 1], [0, 1, 2], [0, 3])
    assert np.dtype(sparse.csr_matrix(source, dtype="float32").dtype) == "float32"
    back = sparse.csr_matrix(DENSE).asscipy()
    assert isinstance(back, scipy_sparse.csr_matrix)
    assert back.toarray().tolist() == DENSE


@pytest.mark.parametrize("stype", ["csr", "row_sparse"])
def test_copies_do_not_share(stype: str) -> None:
    array = nd.array(DENSE).tostype(stype)
    copies = (
        array.copy(),
        array.copyto(mx.cpu(1)),
        copy.deepcopy(array),
        copy.copy(array),
        pickle.loads(pickle.dumps(array)),
        array.tostype(stype),
        array.astype("float64"),
    )
    array.data[:] = 9
    array.indices[:] = 0
    for other in copies:
        assert show(other)[3:] == show(array)[3:]
        other[:] = nd.ones((4, 3))
        assert other.asnumpy().tolist() == np.ones((4, 3)).tolist()
    assert array.asnumpy().tolist() == DENSE
    assert array.astype("float32", copy=False) is array
    assert array.as_in_context(mx.cpu(0)) is array
    assert array.as_in_context(mx.cpu(2)).context == mx.cpu(2)
    target = nd.zeros((4, 3))
    assert array.copyto(target) is target
    assert target.asnumpy().tolist() == DENSE
    other = nd.zeros((4, 3), stype=stype)
    assert show(nd.array(DENSE).copyto(other)) == show(array)
    assert show(array.copyto(other)) == show(array)
    shared = array.detach()
    array[:] = np.ones((4, 3))
    assert shared.asnumpy().tolist() == np.ones((4, 3)).tolist()


def test_assignment_takes_whole_arrays() -> None:
    csr = sparse.csr_matrix(SQUARE.tolist())
    csr[:] = np.array([[1, 2], [0, 0]])
    assert show(csr)[3:] == ([1, 2], [0, 1], [0, 2, 2])
    csr[:] = sparse.csr_matrix([[0, 5], [0, 0]])
    assert show(csr)[3:] == ([5], [1], [0, 1, 1])
    rows = sparse.row_sparse_array([[0, 0], [2, 0]])
    rows[:] = nd.array([[0, 1], [0, 0]])
    assert show(rows)[3:] == ([[0, 1]], [0])
    rows[:] = 5
    assert show(rows)[3:] == ([[5, 5], [5, 5]], [0, 1])
    rows[:] = sparse.zeros("row_sparse", (2, 2))
    assert show(rows)[3:] == ([], [])
    assert rows[:] is rows
    assert csr[:] is csr


CSR = sparse.csr_matrix(SQUARE)
RSP = sparse.row_sparse_array(ROWS, shape=(6, 2))


def _set(array, key, value) -> None:
    array[key] = value


@pytest.mark.parametrize(
    ("run", "error", "text"),
    [
        (lambda: sparse.csr_matrix([1, 2]), ValueError, "2 Dimensional. Current shape is \\(2,"),
        (lambda: sparse.csr_matrix(SQUARE, shape=(3, 2)), ValueError, "Shape mismatch"),
        (lambda: sparse.csr_matrix((*PARTS, 1)), ValueError, "length of input tuple: 4"),
        (lambda: sparse.csr_matrix(([1, 2], [1], [0, 1])), OperatorError, r"\(2,\).*\(1,\) differ"),
        (lambda: sparse.csr_matrix(([], [], [0])), ValueError, "give shape"),
        (
            lambda: sparse.csr_matrix(([1], ([3], [0])), shape=(3, 3)),
            ValueError,
            "row index exceeds matrix dimensions",
        ),
        (lambda: sparse.csr_matrix(RSP), ValueError, "RowSparseNDArray"),
        (lambda: sparse.row_sparse_array(CSR), ValueError, "CSRNDArray"),
        (lambda: sparse.row_sparse_array((ROWS[0], [1])), OperatorError, r"\(2, 2\) and 1 ind"),
        (lambda: sparse.row_sparse_array(ROWS, shape=(6, 3)), OperatorError, r"shape \(6, 3\)"),
        (lambda: sparse.row_sparse_array(([[1]], [[0]])), OperatorError, "one dimension is needed"),
        (lambda: sparse.row_sparse_array((6,)), ValueError, "length of input tuple: 1"),
        (lambda: sparse.array(SQUARE), ValueError, "Please use mx.nd.array"),
        (lambda: sparse.array([1]), ValueError, "Unexpected source_array"),
        (lambda: sparse.zeros("dense", (2,)), ValueError, "known: csr, default, row_sparse"),
        (lambda: sparse.empty("default", (2,)), ValueError, "known: csr, row_sparse"),
        (lambda: sparse.zeros("csr", (2,)), ValueError, "two dimensions"),
        (lambda: CSR.tostype("row_sparse"), ValueError, "csr to row_sparse is not supported"),
        (lambda: RSP.tostype("csr"), ValueError, "row_sparse to csr is not supported"),
        (lambda: RSP.tostype("coo"), OperatorError, "known: csr, default, row_sparse"),
        (lambda: nd.ones((2,)).tostype("csr"), OperatorError, "2 Dimensional"),
        (lambda: CSR.reshape((4, 1)), NotSupportedForSparseNDArray, "reshape is not supported"),
        (lambda: CSR.size, NotSupportedForSparseNDArray, "ambiguous"),
        (lambda: CSR.asscalar(), NotImplementedError, "asscalar"),
        (lambda: bool(CSR), ValueError, "ambiguous"),
        (lambda: CSR[0:2:2], ValueError, "continuous slicing"),
        (lambda: CSR[2], IndexError, "out of bounds"),
        (lambda: CSR[0, 1], ValueError, "Multi-dimension"),
        (lambda: RSP[0], NotSupportedForSparseNDArray, "int key"),
        (lambda: RSP[0:1], NotSupportedForSparseNDArray, r"only supports \[:\]"),
        (lambda: _set(CSR, 0, 1), NotSupportedForSparseNDArray, r"only supports \[:\]"),
        (lambda: _set(CSR, slice(0, 1), 1), ValueError, "with slice"),
        (lambda: _set(CSR, slice(None), 1), ValueError, "numeric"),
        (lambda: _set(RSP, 0, 1), TypeError, r"only supports \[:\]"),
        (lambda: _set(RSP, slice(None), [1]), TypeError, "list"),
        (lambda: _set(RSP, slice(None), nd.ones((2, 2))), OperatorError, "do not fit"),
        (lambda: CSR.copyto(sparse.zeros("row_sparse", (2, 2))), TypeError, "stype row_sparse"),
        (lambda: CSR.copyto(sparse.zeros("csr", (3, 2))), OperatorError, "does not fit"),
        (lambda: RSP.retain(nd.array([9])), OperatorError, "row 9 of an array of 6 rows"),
        (lambda: sparse.retain(nd.ones((2,)), nd.array([0])), OperatorError, "row_sparse array"),
        (lambda: sparse.retain(RSP, [1]), OperatorError, "'indices' must be an NDArray, not list"),
    ],
)
def test_what_they_refuse(run, error, text: str) -> None:
    with pytest.raises(error, match=text):
        run()


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (lambda: sparse.csr_matrix(([1, 2, 3], [1, 0, 9], PARTS[2]), shape=(4, 3)), "less than 3"),
        (lambda: sparse.csr_matrix(([1, 2, 3], [0, -1, 1], PARTS[2]), shape=(4, 3)), "less than 3"),
        (lambda: sparse.csr_matrix(([1, 2, 3], [2, 0, 1], [0, 3]), shape=(1, 3)), "ascending"),
        (lambda: sparse.csr_matrix(([1, 2, 3], [0, 0, 1], [0, 3]), shape=(1, 3)), "ascending"),
        (lambda: sparse.csr_matrix((*PARTS[:2], [0, 1, 1, 2, 4]), shape=(4, 3)), "number of elem"),
        (lambda: sparse.csr_matrix((*PARTS[:2], [0, 2, 1, 2, 3]), shape=(4, 3)), "not fall"),
        (lambda: sparse.csr_matrix((*PARTS[:2], [1, 1, 1, 2, 3]), shape=(4, 3)), "start with 0"),
        (lambda: sparse.csr_matrix(PARTS, shape=(5, 3)), "6 values are needed"),
        (lambda: sparse.row_sparse_array((ROWS[0], [1, 9]), shape=(6, 2)), "less than 6"),
        (lambda: sparse.row_sparse_array((ROWS[0], [4, 1]), shape=(6, 2)), "ascending"),
        (lambda: sparse.row_sparse_array((ROWS[0], [1, 1]), shape=(6, 2)), "ascending"),
        (lambda: sparse.row_sparse_array((ROWS[0], [-1, 1]), shape=(6, 2)), "non-negative"),
    ],
)
def test_check_format(made, text: str) -> None:
    with pytest.raises(OperatorError, match=text):
        made().check_format()


@pytest.mark.parametrize(
    "made",
    [
        lambda: sparse.csr_matrix(([1, 2, 3], [1, 0, 9], PARTS[2]), shape=(4, 3)),
        lambda: sparse.csr_matrix(([1, 2, 3], [1, 0, -2], PARTS[2]), shape=(4, 3)),
        lambda: sparse.csr_matrix((*PARTS[:2], [0, 2, 1, 2, 3]), shape=(4, 3)),
        lambda: sparse.csr_matrix(PARTS, shape=(5, 3)),
        lambda: sparse.row_sparse_array((ROWS[0], [-1, 1]), shape=(6, 2)),
        lambda: sparse.row_sparse_array((ROWS[0], [1, 9]), shape=(6, 2)),
    ],
)
def test_indices_out_of_range_never_reach_other_memory(made) -> None:
    with pytest.raises(ValueError, match=r"out of range|array of shape|must start with"):
        made().asnumpy()


def test_unordered_parts_mean_what_they_say() -> None:
    array = sparse.csr_matrix(([1, 2, 3], [2, 0, 1], [0, 3]), shape=(1, 3))
    assert array.asnumpy().tolist() == [[2, 3, 1]]
    rows = sparse.row_sparse_array((ROWS[0], [4, 1]), shape=(5, 2))
    assert rows.asnumpy()[[4, 1]].tolist() == ROWS[0]
    assert rows.retain(nd.array([1])).data.asnumpy().tolist() == [[3, 4]]


def test_a_pending_sparse_array_waits_at_the_first_use() -> None:
    for use in ("asnumpy", "wait_to_read", "copy", "check_format"):
        array = sparse.zeros("row_sparse", (3, 2))
        filled = sparse.row_sparse_array(([[1, 2]], [1]), shape=(3, 2))._parts()
        array._set_pending(lambda a=array, f=filled: a._set_parts(f))
        assert array.shape == (3, 2)
        getattr(array, use)()
        assert array.indices.asnumpy().tolist() == [1]
        nd.waitall()


def test_parts_on_loan_do_not_change() -> None:
    array = sparse.row_sparse_array(ROWS)
    loan = array._lend()
    array._own_parts().values[:] = 0
    assert loan.array.values.tolist() == ROWS[0]
    assert array.data.asnumpy().tolist() == [[0, 0], [0, 0]]
    loan.release()


@pytest.mark.parametrize("stype", ["default", "row_sparse", "csr"])
def test_conversions_are_differentiable(stype: str) -> None:
    x = nd.array([[1.0, 0.0], [0.0, 0.0], [2.0, 3.0]])
    x.attach_grad()
    with autograd.record():
        y = (x.tostype(stype) * 3).sum()
    y.backward()
    assert x.grad.asnumpy().tolist() == np.full((3, 2), 3).tolist()


def test_retain_passes_the_gradient_of_its_rows_into_a_sparse_buffer() -> None:
    x = nd.ones((4, 2))
    x.attach_grad(stype="row_sparse")
    with autograd.record():
        y = (x.tostype("row_sparse").retain(nd.array([1, 3])) * 3).sum()
    y.backward()
    assert show(x.grad) == ("row_sparse", (4, 2), "float32", [[3, 3], [3, 3]], [1, 3])
    rows = sparse.row_sparse_array(ROWS)
    rows.attach_grad()
    assert rows.grad.stype == "row_sparse"

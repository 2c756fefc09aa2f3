# SPDX-License-Identifier: Apache-2.0
"""Rows: merging, the index, drawn values, row-sparse keys of one process."""

import resource
from typing import Any

import numpy as np
import pytest

import kvtrain as mx
from kvtrain import nd
from kvtrain.errors import ConfigError, KeyAlreadyInitialized, KeyMismatch
from kvtrain.kernels import xp
from kvtrain.optimizer import Optimizer
from kvtrain.ps.core.row_index import RowIndex
from kvtrain.ps.core.row_table import KeptRows, make_rows
from kvtrain.ps.core.rows import RowInitializer, deal, pack, unpack
from kvtrain.ps.core.shards import ChunkId, KeySpec, make_entry

SHAPE = (6, 2)


def sparse(ids: list[int], scale: float = 1.0, shape: tuple[int, ...] = SHAPE) -> Any:
    values = np.array([[scale * (i + 1)] * shape[1] for i in ids], np.float32)
    values = values.reshape(len(ids), *shape[1:])
    return nd.sparse.row_sparse_array((values, ids), shape=shape, dtype="float32")


def test_merged_rows_are_the_ordered_sum() -> None:
    rng = np.random.default_rng(1)
    for count in (1, 2, 3, 5):
        for size in (0, 1, 40, 5000):
            dense: dict[int, np.ndarray] = {}
            parts = []
            for _ in range(count):
                ids = np.sort(rng.choice(9000, size, replace=False))
                values = (rng.standard_normal((size, 3)) * 10.0 ** rng.integers(-3, 4)).astype("f4")
                values[rng.random((size, 3)) < 0.1] = -0.0
                parts.append((ids, values))
                for i, v in zip(ids.tolist(), values, strict=True):
                    dense[i] = dense[i] + v if i in dense else v
            ids, total = xp.merge_rows(parts)
            assert ids.tolist() == sorted(dense)
            expected = np.array([dense[i] for i in sorted(dense)], "f4").reshape(-1, 3)
            assert total.tobytes() == expected.tobytes()


@pytest.mark.parametrize("shape", [(50, 4), (50,), (50, 3, 2), (50, 0)])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64"])
def test_rows_are_gathered_written_and_added(shape: tuple[int, ...], dtype: str) -> None:
    table = (np.random.default_rng(2).standard_normal(shape) * 50).astype(dtype)
    ids = np.array([0, 7, 48, 49])
    np.testing.assert_array_equal(xp.take_rows(table, ids), table[ids])
    strided = np.repeat(table, 2, axis=0)[::2]
    np.testing.assert_array_equal(xp.take_rows(strided, ids), table[ids])
    expected, values = table.copy(), np.ones((4, *shape[1:]), dtype)
    expected[ids] += values
    xp.add_rows(table, ids, values)
    np.testing.assert_array_equal(table, expected)
    xp.put_rows(strided, ids, values)
    np.testing.assert_array_equal(strided[ids], values)


def test_the_index_is_a_dictionary() -> None:
    rng = np.random.default_rng(3)
    index, held = RowIndex(), {}
    for _ in range(30):
        ids = np.unique(rng.integers(0, 2**40 if rng.random() < 0.5 else 3000, 700))
        found = index.find(ids)
        assert found.tolist() == [held.get(i, -1) for i in ids.tolist()]
        new = ids[found < 0]
        places = index.add(new)
        held.update(zip(new.tolist(), places.tolist(), strict=True))
    assert index.count == len(held)
    assert index.rows().tolist() == [i for i, _ in sorted(held.items(), key=lambda x: x[1])]
    assert (index.find(np.array(sorted(held))) >= 0).all()


def test_rows_are_dealt_to_all_chunks_evenly() -> None:
    for ids in (np.arange(1000), np.array([], np.int64), np.array([5, 2**40 + 1])):
        parts = deal(ids, 3)
        back = np.full(ids.size, -1)
        for part, (places, local) in enumerate(parts):
            back[places] = local * 3 + part
        assert back.tolist() == ids.tolist()
    assert [len(local) for _, local in deal(np.arange(999), 3)] == [333, 333, 333]
    ids, values = np.array([3, 9]), np.array([[1, 2], [3, 4]], np.float16)
    again = unpack(pack(ids, values), 2, "float16")
    assert again[0].tolist() == [3, 9] and again[1].tolist() == values.tolist()


def test_drawn_rows_depend_on_seed_key_and_row_only() -> None:
    uniform = RowInitializer("uniform", -0.5, 0.25, 7)
    draw = uniform.drawer("emb", 16, np.float32)
    far = np.array([0, 1, 5, 2**33, 199_999_999])
    together = draw(far)
    for i, row in enumerate(far):
        assert draw(np.array([row])).tobytes() == together[i].tobytes()
    assert not (together == uniform.drawer("other", 16, np.float32)(far)).any()
    seeded = RowInitializer("uniform", -0.5, 0.25, 8).drawer("emb", 16, np.float32)(far)
    assert not (together == seeded).any()
    many = draw(np.arange(20_000))
    assert many.min() >= -0.5 and many.max() < 0.25 and abs(many.mean() + 0.125) < 2e-3
    assert np.unique(many).size > 0.95 * many.size
    assert abs(np.corrcoef(many[:-1, 0], many[1:, 0])[0, 1]) < 0.03
    normal = RowInitializer("normal", 0.0, 2.0, 1).drawer("n", 8, np.float64)(np.arange(20_000))
    assert abs(normal.mean()) < 0.02 and abs(normal.std() - 2.0) < 0.02
    assert abs((np.abs(normal) > 4.0).mean() - 0.0455) < 0.003
    again = RowInitializer.from_text(uniform.describe())
    assert again == uniform and RowInitializer.from_text("") == RowInitializer()
    for text in ("[1]", "x", '["gamma", 1, 2, 3]', '["uniform", "a", 1, 2]'):
        with pytest.raises(ConfigError, match="not understood"):
            RowInitializer.from_text(text)


# ---- row-sparse keys of one process ------------------------------------------------------------


def store(optimizer: Any = None) -> Any:
    kv = mx.kv.create("local")
    if optimizer is not None:
        kv.set_optimizer(optimizer)
    kv.init("a", nd.array(np.arange(12).reshape(SHAPE)).tostype("row_sparse"))
    return kv


@pytest.mark.parametrize(
    ("ids", "dtype", "expected"),
    [
        ([2, 2, 0], "float32", [0, 2]),
        ([[2, 1], [0, 5]], "int64", [0, 1, 2, 5]),
        ([3], "int32", [3]),
        ([], "int64", []),
        ([5, 4, 3, 2, 1, 0], "uint8", [0, 1, 2, 3, 4, 5]),
    ],
)
def test_row_sparse_pull_takes_ids_of_every_form(ids: Any, dtype: str, expected: Any) -> None:
    out = sparse([1])
    given = nd.array(np.array(ids, dtype), dtype=dtype)
    store().row_sparse_pull("a", out=out, row_ids=given)
    assert out.indices.asnumpy().tolist() == expected
    assert out.data.asnumpy().tolist() == [[2 * i, 2 * i + 1] for i in expected]


def test_several_outs_and_keys() -> None:
    kv = store()
    kv.init("b", sparse([1, 4]))
    outs = [sparse([]), sparse([])]
    kv.row_sparse_pull("a", out=outs, row_ids=nd.array([1]))
    assert [o.indices.asnumpy().tolist() for o in outs] == [[1], [1]]
    kv.row_sparse_pull("a", out=outs, row_ids=[nd.array([1]), nd.array([0, 5])])
    assert [o.indices.asnumpy().tolist() for o in outs] == [[1], [0, 5]]
    kv.row_sparse_pull(["a", "b"], out=outs, row_ids=[nd.array([1]), nd.array([4, 2])])
    assert outs[1].data.asnumpy().tolist() == [[0, 0], [5, 5]]
    with pytest.raises(KeyMismatch, match="2 arrays and 3 row_ids"):
        kv.row_sparse_pull("a", out=outs, row_ids=[nd.array([1])] * 3)


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        (np.array([-1, 2]), "key 'a': row -1; the key has rows 0 to 5"),
        (np.array([6]), "row 6;"),
        (np.array([2**40]), "row 1099511627776;"),
        (np.array([1.5], np.float32), "1.5 is no whole number"),
        (np.array([np.nan]), "nan is no whole number"),
        (np.array([True]), "dtype bool"),
    ],
)
def test_bad_row_ids(ids: np.ndarray, text: str) -> None:
    with pytest.raises(KeyMismatch, match=text):
        store().row_sparse_pull("a", out=sparse([]), row_ids=nd.array(ids, dtype=ids.dtype.name))


def test_pushes_without_and_with_an_optimizer() -> None:
    kv, out, rows = store(), nd.zeros(SHAPE), sparse([])
    kv.push("a", [sparse([1, 2]), sparse([2, 3])])
    kv.pull("a", out)
    assert out.asnumpy()[:, 0].tolist() == [0, 2, 6, 4, 0, 0], "as MXNet: nothing else is left"
    kv.pull("a", rows)
    assert rows.indices.size == 0, "a pull leaves row-sparse arrays alone"
    kv.pull("a", rows, ignore_sparse=False)
    assert rows.asnumpy()[:, 0].tolist() == [0, 2, 6, 4, 0, 0]
    kv = store(mx.optimizer.SGD(learning_rate=1.0, momentum=0.5))
    for _ in range(2):
        kv.push("a", [sparse([1, 2]), sparse([2, 3])])
    kv.pull("a", out)
    expected = np.arange(12, dtype="f4").reshape(SHAPE)
    expected[1:4] -= 2.5 * np.array([[2], [6], [4]], "f4")
    np.testing.assert_array_equal(out.asnumpy(), expected)


@pytest.mark.parametrize("name", ["sgd", "adam", "adagrad", "ftrl"])
def test_a_table_updates_as_a_dense_key_does(name: str) -> None:
    """Rows that arise have the state that they would have had all the time."""
    rng = np.random.default_rng(5)
    shape = (40, 3)
    kv = mx.kv.create("local")
    options = {"momentum": 0.9} if name == "sgd" else {}
    kv.set_optimizer(mx.optimizer.create(name, learning_rate=0.1, wd=0.01, **options))
    kv.init_row_sparse("t", shape, initializer="normal", seed=3)
    out = nd.sparse.zeros("row_sparse", shape)
    kv.row_sparse_pull("t", out=out, row_ids=nd.arange(40))
    first = out.asnumpy()
    assert kv._tables["t"].stored.held == 0, "reading keeps nothing"
    kv.init("d", nd.array(first).tostype("row_sparse"))
    touched: set[int] = set()
    for _ in range(6):
        ids = np.sort(rng.choice(40, 5, replace=False))
        touched |= set(ids.tolist())
        values = rng.standard_normal((5, 3)).astype("f4")
        for key in "td":
            kv.push(key, nd.sparse.row_sparse_array((values, ids), shape=shape))
    dense = nd.zeros(shape)
    kv.pull("d", dense)
    kv.row_sparse_pull("t", out=out, row_ids=nd.arange(40))
    np.testing.assert_array_equal(out.asnumpy(), dense.asnumpy())
    assert kv._tables["t"].stored.held == len(touched)


def test_two_hundred_million_rows() -> None:
    shape = (200_000_000, 16)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kv = mx.kv.create("local")
    kv.set_optimizer(mx.optimizer.AdaGrad(learning_rate=0.1))
    kv.init_row_sparse("big", shape, initializer=mx.init.Uniform(0.05), seed=1)
    rng = np.random.default_rng(6)
    ids = np.unique(rng.integers(0, shape[0], 60_000))
    ids[-1] = shape[0] - 1
    seen = nd.sparse.zeros("row_sparse", shape)
    for part in np.array_split(ids, 3):
        kv.row_sparse_pull("big", out=seen, row_ids=nd.array(part, dtype="int64"))
        first = seen.data.asnumpy()
        assert np.abs(first).max() <= 0.05
        gradient = nd.sparse.row_sparse_array((np.ones_like(first), part), shape=shape)
        kv.push("big", gradient)
        kv.row_sparse_pull("big", out=seen, row_ids=nd.array(part, dtype="int64"))
        np.testing.assert_allclose(seen.data.asnumpy(), first - 0.1, rtol=1e-4, atol=1e-6)
    assert kv._tables["big"].stored.held == ids.size
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 150_000, f"{grown} KiB; the dense table would be 12,800,000"
    with pytest.raises(KeyMismatch, match="never held as a whole"):
        kv.pull("big", seen, ignore_sparse=False)
    sparse_key = nd.sparse.row_sparse_array((np.ones((2, 16), "f4"), [1, 9]), shape=shape)
    kv.init("few", sparse_key)
    kv.row_sparse_pull("few", out=seen, row_ids=nd.array([9, 10]))
    assert seen.data.asnumpy()[:, 0].tolist() == [1, 0]


def test_tables_that_cannot_be() -> None:
    kv = mx.kv.create("local")
    for call, text in (
        (lambda: kv.init_row_sparse("t", (5,)), "has no rows"),
        (lambda: kv.init_row_sparse("t", (0, 5)), "has no rows"),
        (lambda: kv.init_row_sparse("t", (5, 2), "int32"), "no float type"),
        (lambda: kv.init_row_sparse("t", (5, 2), initializer="orthogonal"), "row by row; known"),
        (lambda: kv.init_row_sparse("t", (5, 2), seed=1.5), "no whole number"),
    ):
        with pytest.raises((ConfigError, KeyMismatch), match=text):
            call()
    kv.init_row_sparse("t", (5, 2))
    with pytest.raises(KeyAlreadyInitialized):
        kv.init_row_sparse("t", (5, 2))
    with pytest.raises(KeyAlreadyInitialized):
        kv.init("t", nd.zeros((5, 2)))
    kv.set_optimizer(mx.optimizer.SGD(lazy_update=False))
    with pytest.raises(ConfigError, match="use sgd, adam, adagrad or ftrl"):
        kv.push("t", sparse([1], shape=(5, 2)))


def test_memory_of_a_table_and_of_what_is_kept_of_it() -> None:
    spec = KeySpec("t", False, (10**12, 4), "float32", "row_sparse", initializer="")
    entry = make_entry(0, 0, spec, 1 << 20, 0)
    none = pack(np.empty(0, np.int64), np.empty((0, 4), np.float32))
    table = make_rows(entry, ChunkId(0, 0), "t", none)
    sgd = Optimizer.create_optimizer("sgd", learning_rate=1.0)
    assert table.memory() == (0, 1024 * 16)

    def change(*ids: int) -> None:
        numbers = np.array(ids, np.int64)
        rows = np.ones((len(ids), 4), np.float32)
        rows_then, kept_then = table.memory()
        grows, keeps = table.growth(numbers, table.kept is not None)
        table.about_to_change(numbers)
        places = table.places(numbers, sgd.state_arrays)
        table._weight[places] += rows
        assert table.memory()[0] == rows_then + grows
        assert keeps >= table.memory()[1] - kept_then - 16384  # an index begins with room

    change(5, 10**11)
    assert table.memory() == (32, 16384)
    table.keep_from_here()
    change(5, 7)
    change(7, 10**11)
    assert table.memory() == (48, 16384 + 16384 + 48)
    ids = np.array([5, 7, 9, 10**11])
    assert table.before_step(ids).reshape(4, 4)[:, 0].tolist() == [1, 0, 0, 1]
    assert table.read(ids).reshape(4, 4)[:, 0].tolist() == [2, 2, 0, 2]
    copied = KeptRows.of_image(table.kept.image() if table.kept else [], 4)
    flat = table.read(ids)
    copied.put_into(ids, flat.reshape(4, 4))
    assert flat.tobytes() == table.before_step(ids).tobytes()
    table.keep_from_here()
    assert table.before_step(ids).tobytes() == table.read(ids).tobytes()


@pytest.mark.parametrize("row", [-2, 6])
@pytest.mark.parametrize("updated", [True, False])
def test_rows_out_of_range_are_refused_and_change_nothing(row: int, updated: bool) -> None:
    kv = mx.kv.create("local")
    if updated:
        kv.set_optimizer(mx.optimizer.SGD(learning_rate=1.0))
    kv.init("a", sparse([0, 1, 2, 3, 4, 5]))
    bad = nd.sparse.row_sparse_array((np.ones((1, 2), np.float32), [row]), shape=SHAPE)
    with pytest.raises(KeyMismatch, match=f"push of key 'a': row {row} of"):
        kv.push("a", bad)
    out = nd.sparse.zeros("row_sparse", SHAPE)
    kv.row_sparse_pull("a", out=out, row_ids=nd.arange(6))
    assert out.asnumpy().tobytes() == sparse([0, 1, 2, 3, 4, 5]).asnumpy().tobytes()
    with pytest.raises(KeyMismatch, match="row_ids must be dense, got storage type row_sparse"):
        kv.row_sparse_pull("a", out=out, row_ids=sparse([1]))

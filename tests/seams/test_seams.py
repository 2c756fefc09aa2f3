# SPDX-License-Identifier: Apache-2.0
"""Small modules that scripts written for MXNet touch."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtrain as mx
from kvtrain import gluon, nd
from kvtrain.model import BatchEndParam


def test_names_count_by_hint_and_start_anew_in_a_scope() -> None:
    with mx.name.NameManager() as manager:
        assert mx.name.NameManager.current is manager
        assert [manager.get(None, "fc") for _ in range(2)] == ["fc0", "fc1"]
        assert manager.get("own", "fc") == "own"
        assert gluon.nn.Dense(1).prefix == "dense0_"
        with mx.name.Prefix("deep_"):
            assert mx.name.NameManager.current.get(None, "fc") == "deep_fc0"
            assert gluon.nn.Dense(1).prefix == "deep_dense0_"
        assert gluon.nn.Dense(1).prefix == "dense1_"
    assert mx.name.NameManager.current is not manager


def test_attribute_scopes_nest() -> None:
    with mx.AttrScope(group="4", data="great"):
        assert mx.AttrScope.current.get({"x": "1"}) == {"group": "4", "data": "great", "x": "1"}
        with mx.AttrScope(group="5") as inner:
            assert inner.get(None) == {"group": "5", "data": "great"}
        assert mx.AttrScope.current.get({"group": "6"})["group"] == "6"
    assert mx.AttrScope.current.get(None) == {}
    with pytest.raises(ValueError, match="need to be string, got lr=3"):
        mx.AttrScope(lr=3)


def test_speedometer_and_other_callbacks(caplog: pytest.LogCaptureFixture) -> None:
    metric = mx.metric.create("acc")
    speed = mx.callback.Speedometer(batch_size=10, frequent=2)
    log = mx.callback.log_train_metric(2, auto_reset=True)
    with caplog.at_level(logging.INFO):
        for batch in range(5):
            metric.update(nd.array([1]), nd.array([[0.0, 1.0]]))
            speed(BatchEndParam(3, batch, metric))
        assert [r.message.split("\tSpeed")[0] for r in caplog.records] == [
            "Epoch[3] Batch [0-2]",
            "Epoch[3] Batch [2-4]",
        ]
        assert caplog.records[0].message.endswith("samples/sec\taccuracy=1.000000")
        assert np.isnan(metric.get()[1]) and metric.get_global()[1] == 1
        caplog.clear()
        speed(BatchEndParam(4, 0, None))
        speed(BatchEndParam(4, 2, None))
        assert caplog.records[0].message.startswith("Iter[4] Batch [2]\tSpeed: ")
        caplog.clear()
        metric.update(nd.array([1]), nd.array([[0.0, 1.0]]))
        log(BatchEndParam(1, 1, metric))
        log(BatchEndParam(1, 2, metric))
        mx.callback.LogValidationMetricsCallback()(BatchEndParam(1, 2, mx.metric.create("loss")))
        mx.callback.ProgressBar(total=4, length=8)(BatchEndParam(1, 3, None))
    assert [r.message for r in caplog.records] == [
        "Iter[1] Batch[2] Train-accuracy=1.000000",
        "Epoch[1] Validation-loss=nan",
        "[======--] 75%\r",
    ]


def test_checkpoints_by_epoch(tmp_path: Path) -> None:
    prefix = str(tmp_path / "net")
    every_second = mx.callback.do_checkpoint(prefix, period=2)
    for epoch in range(3):
        every_second(epoch, None, {"w": nd.ones((2,)) * epoch}, {"m": nd.zeros((1,))})
    assert sorted(os.listdir(tmp_path)) == ["net-0002.params"]
    args, aux = mx.model.load_params(prefix, 2)
    assert args["w"].asnumpy().tolist() == [1, 1] and list(aux) == ["m"]
    nd.save(f"{prefix}-0003.params", {"w": nd.ones((1,))})
    with pytest.raises(mx.errors.FormatError, match="'w' starts with neither"):
        mx.model.load_params(prefix, 3)

    class Fake:
        saved: Any = None

        def save_checkpoint(self, *args: Any) -> None:
            self.saved = args

    mx.callback.module_checkpoint(Fake, prefix)  # nothing is called yet
    fake = Fake()
    mx.callback.module_checkpoint(fake, prefix, 1, True)(0)
    assert fake.saved == (prefix, 1, True)


def test_monitor_of_a_network(caplog: pytest.LogCaptureFixture) -> None:
    with mx.name.NameManager():
        net = gluon.nn.HybridSequential(prefix="net_")
        with net.name_scope():
            net.add(gluon.nn.Dense(2, in_units=3), gluon.nn.Dense(1, in_units=2))
    net.initialize(mx.init.One())
    monitor = mx.mon.Monitor(2, pattern=".*(output0|weight)", sort=True)
    monitor.install(net)
    for step in range(3):
        monitor.tic()
        net(nd.ones((4, 3)))
        found = monitor.toc()
        assert bool(found) == (step != 1)
    assert [name for _, name, _ in found] == [
        "net_dense0_output0",
        "net_dense0_weight",
        "net_dense1_output0",
        "net_dense1_weight",
        "net_output0",
    ]
    assert found[0][2] == "3.0\t" and found[4][2] == "6.0\t"
    monitor.step = 0
    with caplog.at_level(logging.INFO):
        monitor.tic()
        net(nd.ones((4, 3)))
        monitor.toc_print()
    assert len(caplog.records) == 5


def test_features_engine_util_and_base(tmp_path: Path) -> None:
    features = mx.runtime.Features()
    assert features.is_enabled("dist_kvstore") and not features.is_enabled("CUDA")
    assert "✖ CUDA" in repr(features)
    with pytest.raises(RuntimeError, match="Feature 'X' is unknown"):
        features.is_enabled("x")
    before = mx.engine.set_bulk_size(7)
    with mx.engine.bulk(3):
        assert mx.engine.set_bulk_size(3) == 3
    assert mx.engine.set_bulk_size(before) == 7

    @mx.use_np_shape
    def inside() -> bool:
        return mx.is_np_shape()

    assert inside() and not mx.is_np_shape() and not mx.is_np_array()
    with mx.np_shape(True):
        assert mx.is_np_shape()
        assert nd.zeros((0, 3)).shape == (0, 3)
    assert mx.base.py_str(b"a") == "a" and mx.base.c_str("a") == b"a"
    assert mx.base._as_list(3) == [3] and isinstance(np.int64(3), mx.base.integer_types)
    assert mx.base.build_param_doc(["a", "a"], ["int", "int"], ["x", ""]).count("a : int") == 1
    with mx.test_utils.environment("MXNET_HOME", str(tmp_path)):
        assert mx.base.data_dir() == str(tmp_path)
        assert mx.util.getenv("MXNET_HOME") == str(tmp_path)
    with mx.test_utils.environment({"KVTRAIN_TEST_X": "1"}):
        assert mx.util.getenv("KVTRAIN_TEST_X") == "1"
    assert mx.util.getenv("KVTRAIN_TEST_X") is None


def test_comparisons() -> None:
    t = mx.test_utils
    a = nd.array([[1, 2], [3, 4]])
    t.assert_almost_equal(a, a.asnumpy() + 1e-5)
    with pytest.raises(AssertionError, match=r"maximum error: \(1, 0\), left=3.0.*b=3.5"):
        t.assert_almost_equal(a, nd.array([[1, 2], [3.5, 4]]), names=("left", "b"))
    with pytest.raises(AssertionError):
        t.assert_almost_equal(np.array([np.nan]), np.array([np.nan]))
    t.assert_almost_equal(np.array([np.nan]), np.array([np.nan]), equal_nan=True)
    t.assert_almost_equal_ignore_nan(np.array([np.nan, 1]), np.array([3, 1.0]))
    t.assert_almost_equal_with_err(np.arange(9.0), np.array([*range(8), 99.0]), etol=0.2)
    t.assert_exception(lambda: 1 / 0, ZeroDivisionError)
    with pytest.raises(AssertionError, match="raised no"):
        t.assert_exception(lambda: 1, ZeroDivisionError)
    assert t.same(a, a.asnumpy()) and t.same_array(a, a) and not t.same_array(a, a.copy())
    assert t.almost_equal(1.0, 1.0 + 1e-9) and not t.almost_equal(1.0, 1.1)
    calls: list[int] = []

    @t.retry(3)
    def sometimes() -> int:
        calls.append(1)
        assert len(calls) == 3
        return 7

    assert sometimes() == 7
    dense = np.arange(24.0).reshape(2, 3, 4)
    assert t.np_reduce(dense, (0, 2), True, np.sum).shape == (1, 3, 1)
    assert t.collapse_sum_like(dense, (3, 1)).tolist() == dense.sum((0, 2))[:, None].tolist()
    assert len(t.rand_shape_nd(4, 3)) == 4 and t.rand_ndarray((2, 3)).shape == (2, 3)
    sparse, (indptr, indices, data) = t.rand_sparse_ndarray((5, 4), "csr", density=0.5)
    assert sparse.stype == "csr" and len(indptr) == 6 and len(indices) == len(data)
    assert t.rand_ndarray((6, 2), "row_sparse", density=1.0).stype == "row_sparse"
    t.compare_optimizer(mx.optimizer.Adam(), mx.optimizer.Adam(), (3, 4), "float32")
    with pytest.raises(AssertionError):
        t.compare_optimizer(mx.optimizer.SGD(), mx.optimizer.SGD(1.0, wd=9.0), (3, 4), "float32")


def test_the_default_context_may_be_set() -> None:
    before = mx.Context.default_ctx
    assert before == mx.cpu(0) == mx.current_context()
    try:
        mx.Context.default_ctx = mx.cpu(3)
        assert nd.ones((1,)).context == mx.cpu(3)
        with mx.cpu(1):
            assert mx.Context.default_ctx.device_id == 1
        assert mx.Context.default_ctx.device_id == 3
    finally:
        mx.Context.default_ctx = before

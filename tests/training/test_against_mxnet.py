# SPDX-License-Identifier: Apache-2.0
"""Metrics, schedules and initializers against the real MXNet 1.9.1's answers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

import kvtrain as mx
from kvtrain import nd
from tests.training.cases import FUSED, INITIALIZERS, METRICS, SCHEDULES

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
HELD = np.load(REFERENCE / "training.npz")
FACTS = json.loads((REFERENCE / "training.json").read_text())


@pytest.mark.parametrize("name", METRICS)
def test_metric(name: str) -> None:
    kind, arguments, food = METRICS[name]
    metric = mx.metric.create(kind, **arguments)
    shown, after_two, after_reset, overall = FACTS["metrics"][name]
    assert math.isnan(metric.get()[1])
    for b in range(3):
        if b == 2:
            assert metric.get()[0] == shown
            assert metric.get()[1] == pytest.approx(after_two, rel=1e-5, nan_ok=True)
            metric.reset_local()
        label, pred = (nd.array(HELD[f"{food}_{b}_{x}"]) for x in ("label", "pred"))
        metric.update([label], [pred]) if b else metric.update(label, pred)
    assert metric.get_name_value() == [metric.get()]
    if name != "pearson_micro":  # MXNet forgets its local reset and its global count
        assert metric.get()[1] == pytest.approx(after_reset, rel=1e-5, nan_ok=True)
        assert metric.get_global()[1] == pytest.approx(overall, rel=1e-5, nan_ok=True)
        assert metric.get_global_name_value() == [metric.get_global()]
    metric.reset()
    assert math.isnan(metric.get_global()[1])
    again = mx.metric.create(metric.get_config())
    assert type(again) is type(metric)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule(name: str) -> None:
    kind, arguments = SCHEDULES[name]
    schedule = getattr(mx.lr_scheduler, kind)(**arguments)
    want = FACTS["schedules"][name]
    assert [schedule(i) for i in range(50)] == pytest.approx(want, rel=1e-12, abs=1e-12)
    # a pure function of the number: any order, any rank's copy
    again = mx.lr_scheduler.from_config(kind, schedule.to_config())
    assert [again(i) for i in reversed(range(50))][::-1] == [schedule(i) for i in range(50)]


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializer(name: str) -> None:
    kind, arguments, parameter, shape, dtype = INITIALIZERS[name]
    initializer = getattr(mx.init, kind)(**arguments)
    for init in (initializer, mx.init.create(initializer.dumps()), mx.init.create(initializer)):
        mx.random.seed(7)
        array = nd.zeros(shape, dtype=dtype)
        init(mx.init.InitDesc(parameter), array)
        got, want = array.asnumpy(), HELD[name]
        assert got.dtype == want.dtype
        if kind == "Orthogonal":  # the signs of singular vectors are LAPACK's choice
            np.testing.assert_allclose(abs(got), abs(want), rtol=1e-5, atol=1e-6)
            flat = got.reshape(len(got), -1)
            product = flat @ flat.T if len(flat) <= flat.shape[1] else flat.T @ flat
            scale = arguments.get("scale", 1.414) ** 2
            np.testing.assert_allclose(product, scale * np.eye(len(product)), atol=1e-5)
        else:
            np.testing.assert_array_equal(got, want)
    assert json.loads(initializer.dumps()) == json.loads(FACTS["dumps"][name])


@pytest.mark.parametrize("name", FUSED)
def test_fused_rnn(name: str) -> None:
    inner, mode, both, size = FUSED[name]
    init = None if inner is None else getattr(mx.init, inner[0])(**inner[1])
    fused = mx.init.FusedRNN(init, 3, 2, mode, both, 1.5)
    mx.random.seed(7)
    array = nd.zeros((size,))
    mx.init.Uniform(0.2)(mx.init.InitDesc("a", {"__init__": fused.dumps()}), array)
    np.testing.assert_array_equal(array.asnumpy(), HELD[name])
    with pytest.raises(mx.errors.ConfigError, match="fits no input size"):
        fused._init_weight(mx.init.InitDesc("a"), nd.zeros((size + 1,)))

# SPDX-License-Identifier: Apache-2.0
"""What metrics and initializers do beside arithmetic: names, choices, errors."""

from __future__ import annotations

import logging
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtrain as mx
from kvtrain import nd


def test_composite_custom_and_dicts() -> None:
    def wrong(label: Any, pred: Any) -> float:
        return float(abs(label - pred.argmax(1)).sum())

    metric = mx.metric.create(["acc", mx.metric.np(wrong)])
    metric.add("ce")
    label, pred = nd.array([0, 1, 1]), nd.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    metric.update([label], [pred])
    names, values = metric.get()
    assert names == ["accuracy", "wrong", "cross-entropy"]
    assert values[:2] == [pytest.approx(2 / 3), 1.0]
    assert metric.get_metric(1).get() == ("wrong", 1.0)
    with pytest.raises(ValueError, match="out of range"):
        metric.get_metric(7)
    metric.reset()
    assert np.isnan(metric.get()[1]).all()
    named = mx.metric.Accuracy(output_names=["out"], label_names=["truth"])
    named.update_dict({"other": pred, "truth": label}, {"x": label, "out": pred})
    assert named.get()[1] == pytest.approx(2 / 3)
    with pytest.raises(KeyError):
        named.update_dict({"truth": label}, {"x": pred})
    two = mx.metric.CompositeEvalMetric(["acc"], output_names=["out"])
    two.update_dict(OrderedDict(truth=label), OrderedDict(out=pred, x=label))
    assert two.get() == (["accuracy"], [pytest.approx(2 / 3)])
    assert str(named) == f"EvalMetric: {{'accuracy': {named.get()[1]}}}"
    assert mx.metric.create(lambda a, b: (1.0, 4)).name == "custom(<lambda>)"
    counted = mx.metric.CustomMetric(lambda a, b: (1.0, 4), allow_extra_outputs=True)
    counted.update([label], [pred, pred])
    assert counted.get()[1] == 0.25
    with pytest.raises(NotImplementedError, match="cannot be serialized"):
        counted.get_config()


@pytest.mark.parametrize(
    ("make", "labels", "preds", "text"),
    [
        (lambda: mx.metric.Accuracy(), [nd.ones((3,))], [], "labels 1 does not match"),
        (lambda: mx.metric.Accuracy(), [nd.ones((3,))], [nd.ones((4, 2))], r"labels \(3,\)"),
        (lambda: mx.metric.F1(), [nd.array([0, 1, 2])], [nd.ones((3, 2))], "binary"),
        (lambda: mx.metric.TopKAccuracy(), [], [], "above 1"),
        (lambda: mx.metric.Perplexity(None), [nd.ones((3,))], [nd.ones((4, 2))], "mismatch"),
        (lambda: mx.metric.create("acuracy"), [], [], r"known: .*accuracy"),
    ],
)
def test_bad_input_of_metrics(make: Any, labels: Any, preds: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make().update(labels, preds)


def test_user_classes_register_once_and_again() -> None:
    source = "class Half(mx.metric.EvalMetric):\n    pass\nmx.metric.register(Half)\n"
    space = {"mx": mx, "__name__": "a_notebook"}
    for _ in range(2):  # a cell that is run twice
        exec(source, space)
    assert type(mx.metric.create("half", name="h")) is space["Half"]

    class Half(mx.metric.EvalMetric):  # another one of that name
        pass

    with pytest.warns(UserWarning, match="metric 'Half': .* takes the place of"):
        mx.metric.register(Half)
    assert type(mx.metric.create("half", name="h")) is Half


def test_load_mixed_and_verbosity(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nd.save(str(tmp_path / "a.params"), {"arg:x_weight": nd.ones((2,)) * 3, "aux:m": nd.ones((1,))})
    init = mx.init.Load(str(tmp_path / "a.params"), default_init=mx.init.One(), verbose=True)
    array = nd.zeros((2,))
    with caplog.at_level(logging.INFO):
        init("x_weight", array)
        assert array.asnumpy().tolist() == [3, 3]
        init("y_weight", array)
    assert array.asnumpy().tolist() == [1, 1]
    assert [r.message for r in caplog.records] == [
        "Initialized x_weight by loading",
        "Initialized y_weight by default",
    ]
    with pytest.raises(mx.errors.ConfigError, match=r"target \(3,\) vs loaded \(2,\)"):
        init("x_weight", nd.zeros((3,)))
    with pytest.raises(mx.errors.ConfigError, match="no default"):
        mx.init.Load({})("z", array)
    mixed = mx.init.Mixed(["bias", ".*"], [mx.init.Zero(), mx.init.Constant(5)])
    mixed(mx.init.InitDesc("a_weight"), array)
    assert array.asnumpy().tolist() == [5, 5]
    mixed(mx.init.InitDesc("bias"), array)
    assert array.asnumpy().tolist() == [0, 0]
    with pytest.raises(mx.errors.ConfigError, match="matches"):
        mx.init.Mixed(["b"], [mx.init.Zero()])("a", array)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        mx.init.One().set_verbosity(True)(mx.init.InitDesc("a_weight"), array)
    assert caplog.records[0].message == "Initialized a_weight as weight: 1.0"


def test_own_rules_and_names() -> None:
    class Mine(mx.init.Initializer):
        def _init_weight(self, name: Any, arr: Any) -> None:
            arr[:] = 2

        def _init_default(self, name: Any, arr: Any) -> None:
            arr[:] = 7

    array = nd.zeros((2,))
    for name, want in (("a_weight", 2), ("a_gamma", 1), ("a_running_var", 7), ("other", 7)):
        Mine()(mx.init.InitDesc(name), array)
        assert array.asnumpy().tolist() == [want] * 2, name
    Mine()("a_running_var", array)  # a plain text is searched for more endings
    assert array.asnumpy().tolist() == [1, 1]
    desc = mx.init.InitDesc("a_bias", {"__init__": mx.init.Constant(4).dumps()})
    mx.init.Xavier()(desc, array)
    assert array.asnumpy().tolist() == [4, 4]
    assert desc.global_init == mx.init.Xavier()
    with pytest.raises(ValueError, match="Unknown initialization pattern for other"):
        mx.init.Xavier()(mx.init.InitDesc("other"), array)
    with pytest.raises(ValueError, match=r"shape \(2,\): two dimensions"):
        mx.init.Xavier()(mx.init.InitDesc("a_weight"), array)
    affine = nd.zeros((6,))
    mx.init.Xavier()("stn_loc_bias", affine)
    assert affine.asnumpy().tolist() == [1, 0, 0, 0, 1, 0]
    assert mx.init.Normal(0.1) == mx.init.Normal(0.1) != mx.init.Normal(0.2)
    with pytest.raises(ValueError, match=r"known: .*xavier"):
        mx.init.create("xaver")

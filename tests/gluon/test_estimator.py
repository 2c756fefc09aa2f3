# SPDX-License-Identifier: Apache-2.0
"""The Estimator: order of events, stopping, checkpoints, metrics, several contexts."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtrain as mx
from kvtrain import gluon, nd
from kvtrain.gluon.contrib import estimator as est


def data(batch_size: int = 5) -> gluon.data.DataLoader:
    rng = np.random.RandomState(0)
    x = rng.standard_normal((20, 3)).astype("float32")
    y = (x[:, 0] > 0).astype("float32")
    return gluon.data.DataLoader(gluon.data.ArrayDataset(nd.array(x), y), batch_size)


def make(**options: Any) -> est.Estimator:
    net = gluon.nn.Dense(2, in_units=3, prefix="d_")
    net.initialize(ctx=options.get("context", mx.cpu()))
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.5})
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    made = est.Estimator(net, loss, trainer=trainer, **options)
    made.logger.setLevel(logging.ERROR)
    return made


class Recorder(*est.estimator.EVENTS.values()):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def note(self, event: str) -> Any:
        return lambda estimator, **values: self.seen.append(event)

    def __getattribute__(self, name: str) -> Any:
        return self.note(name) if name in est.estimator.EVENTS else super().__getattribute__(name)


def test_fit_learns_and_tells_every_event() -> None:
    made = make()
    recorder = Recorder()
    made.fit(data(), val_data=data(), epochs=30, event_handlers=recorder)
    assert recorder.seen[:4] == ["train_begin", "epoch_begin", "batch_begin", "batch_end"]
    assert [recorder.seen.count(e) for e in est.estimator.EVENTS] == [1, 30, 120, 120, 30, 1]
    assert recorder.seen[-2:] == ["epoch_end", "train_end"]
    names = [m.get()[0] for m in made.train_metrics]
    assert names == ["training accuracy", "training softmaxcrossentropyloss"]
    (accuracy_name, accuracy), (_, loss) = (m.get() for m in made.val_metrics)
    assert (accuracy_name, accuracy) == ("validation accuracy", 1.0)
    assert loss < 0.2
    made.evaluate(data())
    assert made.val_metrics[0].get()[1] == 1.0


def test_batches_and_several_contexts() -> None:
    two = [mx.cpu(0), mx.cpu(1)]
    values = []
    for context in (mx.cpu(0), two):
        mx.random.seed(1)
        made = make(context=context)
        recorder = Recorder()
        made.fit(data(6), batches=7, event_handlers=[recorder])
        assert recorder.seen.count("batch_end") == 7
        values.append(made.net.weight.data(mx.cpu(0)).asnumpy())
    np.testing.assert_allclose(values[0], values[1], rtol=1e-5)


def test_logs(caplog: pytest.LogCaptureFixture) -> None:
    made = make()
    lines: list[str] = []
    made.logger = logging.Logger("test")
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    made.logger.addHandler(handler)
    made.fit(data(), epochs=1, event_handlers=est.LoggingHandler(2, made.train_metrics))
    assert lines[0] == "Training begin: using optimizer SGD with current learning rate 0.5000"
    assert lines[1:3] == ["Train for 1 epochs.", "[Epoch 0] Begin, current learning rate: 0.5000"]
    assert lines[3].startswith("[Epoch 0][Batch 0][Samples 5] time/interval: ")
    assert "training accuracy: " in lines[4]
    assert lines[4].startswith("[Epoch 0][Batch 2][Samples 15]")
    assert lines[5].startswith("[Epoch 0] Finished in ")
    assert lines[6].startswith("Train finished using total 0s with 1 epochs. training accuracy")


def test_checkpoints_and_resume(tmp_path: Path) -> None:
    made = make()
    saver = est.CheckpointHandler(
        tmp_path, "m", monitor=made.val_metrics[0], save_best=True, max_checkpoints=2
    )
    made.fit(data(), val_data=data(), epochs=4, event_handlers=saver)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "m-best.params",
        "m-best.states",
        "m-epoch2batch12.params",
        "m-epoch2batch12.states",
        "m-epoch3batch16.params",
        "m-epoch3batch16.states",
    ]
    whole = make()
    whole.net.weight.set_data(made.net.weight.data() * 0 + 0.1)
    again = est.CheckpointHandler(tmp_path, "m", resume_from_checkpoint=True)
    recorder = Recorder()
    whole.fit(data(), epochs=6, event_handlers=[again, recorder])
    assert recorder.seen.count("epoch_begin") == 2
    made.fit(data(), epochs=2)
    np.testing.assert_array_equal(
        whole.net.weight.data().asnumpy(), made.net.weight.data().asnumpy()
    )
    assert (tmp_path / "m-epoch5batch24.params").is_file()
    with pytest.raises(ValueError, match="maximum number of epoch 6 reached"):
        make().fit(
            data(),
            epochs=6,
            event_handlers=est.CheckpointHandler(tmp_path, "m", resume_from_checkpoint=True),
        )


@pytest.mark.parametrize(
    ("values", "options", "epochs"),
    [
        ([1, 2, 2, 2, 3], {"patience": 1}, 3),
        ([1, 2, 2, 2, 3], {"patience": 3}, 5),
        ([3, 2, 2.5, 1, 1], {"patience": 1, "mode": "min"}, 3),
        ([1, 1.05, 1.1, 2], {"patience": 2, "min_delta": 0.2}, 3),
        ([1, 2, 3, 4], {"patience": 1, "baseline": 9}, 1),
    ],
)
def test_early_stopping(values: list[float], options: dict[str, Any], epochs: int) -> None:
    class Told(mx.metric.EvalMetric):
        """One value after another, from reset to reset."""

        def __init__(self) -> None:
            self.told = iter([0.0, *values])
            super().__init__("accuracy")

        def reset(self) -> None:
            self.now = next(self.told)

        def update(self, labels: Any, preds: Any) -> None:
            pass

        def get(self) -> Any:
            return self.name, self.now

    monitor = Told()
    made = make(val_metrics=monitor)
    recorder = Recorder()
    stopper = est.EarlyStoppingHandler(monitor, **options)
    made.fit(
        data(),
        val_data=data(),
        epochs=len(values),
        event_handlers=[stopper, recorder, est.LoggingHandler()],
    )
    assert recorder.seen.count("epoch_end") == epochs


def test_own_batch_processor() -> None:
    class Doubled(est.BatchProcessor):
        def _get_data_and_label(self, batch: Any, ctx: Any, batch_axis: int = 0) -> Any:
            data, label = super()._get_data_and_label(batch, ctx, batch_axis)
            return [x * 2 for x in data], label

    seen = []
    made = make(batch_processor=Doubled())
    made.net.register_forward_hook(lambda b, x, out: seen.append(x[0].asnumpy()))
    made.fit(data(20), batches=1)
    np.testing.assert_array_equal(seen[0], next(iter(data(20)))[0].asnumpy() * 2)


def test_misuse() -> None:
    made = make()
    with pytest.raises(ValueError, match="one and only one of"):
        made.fit(data(), epochs=1, batches=1)
    with pytest.raises(ValueError, match="Gluon DataLoader"):
        made.fit([1], epochs=1)
    with pytest.raises(ValueError, match="must be an EventHandler"):
        made.fit(data(), epochs=1, event_handlers=[3])
    with pytest.raises(ValueError, match="none of the estimator's"):
        made.fit(
            data(),
            epochs=1,
            event_handlers=est.EarlyStoppingHandler(mx.metric.Accuracy()),
        )
    with pytest.raises(ValueError, match="loss must be a Loss"):
        est.Estimator(made.net, 1)
    with pytest.warns(UserWarning, match="No trainer specified"):
        plain = est.Estimator(gluon.nn.Dense(2), gluon.loss.L2Loss())
    assert [m.name for m in plain.train_metrics] == ["training l2loss"]
    with pytest.raises(ValueError, match="provide one of the metric"):
        est.CheckpointHandler("/tmp", save_best=True)

# SPDX-License-Identifier: Apache-2.0
"""Stores written by somebody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtrain as mx
from kvtrain import autograd, gluon, nd
from kvtrain.errors import ConfigError, UnknownName


@mx.kv.KVStoreBase.register
class TwiceTheSum(mx.kv.KVStoreBase):
    """Sums, doubles, and may run the optimizer itself."""

    type, rank, num_workers = "twicethesum", 0, 1

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.updater: Any = None
        self.held: dict[Any, Any] = {}

    def broadcast(self, key: Any, value: Any, out: Any, priority: int = 0) -> None:
        self.calls.append(("broadcast", key))
        self.held[key] = value.copy()
        for target in out:
            target[:] = value

    def pushpull(self, key: Any, value: Any, out: Any = None, priority: int = 0) -> None:
        self.calls.append(("pushpull", key, priority))
        total = 2 * sum(v.as_in_context(mx.cpu()).asnumpy() for v in value)
        if self.updater is not None:
            self.updater(key, nd.array(total), self.held[key])
            total = self.held[key].asnumpy()
        for target in out if out is not None else value:
            target[:] = nd.array(total)

    def is_capable(self, capability: str) -> bool:
        return capability == self.OPTIMIZER

    def set_optimizer(self, optimizer: Any) -> None:
        self.updater = mx.optimizer.get_updater(optimizer)

    def save_optimizer_states(self, fname: Any, dump_optimizer: bool = False) -> None:
        Path(fname).write_bytes(self.updater.get_states(dump_optimizer))

    def load_optimizer_states(self, fname: Any) -> None:
        self.updater.set_states(Path(fname).read_bytes())


def train(store: Any, **options: Any) -> tuple[Any, Any]:
    contexts = [mx.cpu(0), mx.cpu(1)]
    net = gluon.nn.Dense(1, in_units=2, use_bias=False, prefix="d_")
    net.initialize(mx.init.One(), ctx=contexts)
    trainer = gluon.Trainer(
        net.collect_params(), "sgd", {"learning_rate": 0.5}, kvstore=store, **options
    )
    for _ in range(2):
        with autograd.record():
            losses = [net(nd.ones((1, 2), ctx)).sum() for ctx in contexts]
        autograd.backward(losses)
        trainer.step(4)
    return trainer, net.weight.list_data()


@pytest.mark.parametrize("wanted", [None, True, False])
def test_a_trainer_with_a_custom_store(wanted: bool | None, tmp_path: Path) -> None:
    store = mx.kv.create("TwiceTheSum")
    assert isinstance(store, TwiceTheSum)
    trainer, weights = train(store, update_on_kvstore=wanted)
    # gradient 1 on each of two devices, doubled, over a batch of 4, twice
    for weight in weights:
        np.testing.assert_allclose(weight.asnumpy(), [[0, 0]])
    assert store.calls == [("broadcast", "d_weight"), *[("pushpull", "d_weight", 0)] * 2]
    assert (store.updater is not None) == (wanted is not False)
    trainer.set_learning_rate(0.1)
    trainer.save_states(tmp_path / "states")
    trainer.load_states(tmp_path / "states")
    with pytest.raises(ConfigError, match="not supported by TwiceTheSum"):
        train(mx.kv.create("twicethesum"), compression_params={"type": "2bit"})


def test_the_store_for_tests_and_names() -> None:
    for given in ("teststore", mx.kv.create("TestStore")):
        _, weights = train(given)
        for weight in weights:
            np.testing.assert_allclose(weight.asnumpy(), [[0.5, 0.5]])
    store = mx.kv.create("teststore")
    assert (store.type, store.rank, store.num_workers) == ("teststore", 0, 1)
    assert not store.is_capable("optimizer")
    out = nd.zeros((2,))
    store.broadcast("a", nd.ones((2,)), out)
    store.pushpull("a", [nd.ones((2,)), nd.ones((2,))], out=out)
    assert out.asnumpy().tolist() == [2, 2]
    with pytest.raises(ConfigError, match="cannot run an optimizer"):
        train(mx.kv.create("teststore"), update_on_kvstore=True)
    with pytest.raises(UnknownName, match=r"known: .*teststore"):
        mx.kv.create("test_store")
    assert isinstance(mx.kv.create("local"), mx.kv.KVStoreBase)
    with pytest.raises(ConfigError, match="no subclass"):
        mx.kv.KVStoreBase.register(dict)  # type: ignore[arg-type]

    class Empty(mx.kv.KVStoreBase):
        pass

    for use in (lambda s: s.rank, lambda s: s.broadcast(1, 2, 3), lambda s: s.is_capable("x")):
        with pytest.raises(NotImplementedError, match="Empty does not define"):
            use(Empty())


def test_the_environment_chooses_where_optimizers_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MXNET_UPDATE_ON_KVSTORE", "0")
    store = mx.kv.create("twicethesum")
    train(store)
    assert store.updater is None
    train(store, update_on_kvstore=True)
    assert store.updater is not None

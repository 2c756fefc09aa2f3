# SPDX-License-Identifier: Apache-2.0
"""Every row of cases.py: the real MXNet's answer, the config, server against local."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtrain as mx
from kvtrain import nd
from kvtrain.optimizer import Optimizer, create, get_updater
from kvtrain.ps.core.shards import ChunkId
from kvtrain.ps.core.store import Arithmetic, Optimizers, StoredChunk
from tests.optimizer.cases import ALL, BY_NAME, SHAPE, SPARSE, STEPS, Case

HELD = np.load(Path(__file__).resolve().parents[1] / "reference" / "optimizers.npz")


def made(case: Case) -> Optimizer:
    options = dict(case.options)
    if case.schedule:
        kind, arguments = case.schedule
        options["lr_scheduler"] = getattr(mx.lr_scheduler, kind)(**arguments)
    if case.parameter:
        options["param_idx2name"] = {0: case.parameter}
    return create(case.kind, **options)


def on_server(optimizer: Optimizer, weight: Any, grads: Any, cut: int, name: Any) -> Any:
    """What servers make of it: rebuilt from plain data, the flat array cut into chunks, each
    gradient the sum of two workers' contributions."""
    stores = Optimizers(Optimizer.from_config)
    stores.install(1, *optimizer.to_config())
    flat = weight.reshape(-1).copy()
    edges = [0, cut, flat.size] if optimizer.blockwise else [0, flat.size]
    chunks = [
        StoredChunk(ChunkId(0, i), name, 0, flat[low:high], weight.shape)
        for i, (low, high) in enumerate(pairwise(edges))
    ]
    if optimizer.blockwise:
        for chunk in chunks:
            chunk.shape = None
    arithmetic = Arithmetic()
    for count, grad in enumerate(grads, 1):
        for chunk, low in zip(chunks, edges, strict=False):
            piece = grad.reshape(-1)[low : low + chunk.size]
            arithmetic.update(chunk, [piece * 0, piece], [None, None], stores, count)
            chunk._making = False
            chunk.version += 1
    return flat.reshape(weight.shape)


@pytest.mark.parametrize("name", BY_NAME)
def test_twenty_steps(name: str) -> None:
    case = BY_NAME[name]
    optimizer = made(case)
    updater = get_updater(optimizer)
    weight = nd.array(HELD["weight"], dtype=case.dtype)
    grads = HELD["grads"].astype(case.dtype)
    before = grads.copy()
    key = case.parameter or 0
    server = on_server(optimizer, weight.asnumpy(), grads, 17, key)
    for grad in grads:
        updater(0, nd.array(grad, dtype=case.dtype), weight)
    got = weight.asnumpy()
    want = HELD[name]
    assert got.dtype == want.dtype
    assert np.abs(got.astype("f8") - want).max() <= case.close * np.abs(want).max()
    assert not np.array_equal(got, HELD["weight"].astype(case.dtype))
    assert server.tobytes() == got.tobytes()
    np.testing.assert_array_equal(grads, before)


@pytest.mark.parametrize("name", BY_NAME)
def test_config_and_states_travel(name: str) -> None:
    case = BY_NAME[name]
    optimizer = made(case)
    again = Optimizer.from_config(*optimizer.to_config())
    assert type(again) is type(optimizer)
    assert again.to_config() == optimizer.to_config()
    if case.dtype == "float32":
        assert len(optimizer.state_arrays(HELD["weight"])) == case.states
    # ten steps, save, load into a new updater with another optimizer, ten more
    first, second = get_updater(optimizer), get_updater(create("sgd"))
    weight = nd.array(HELD["weight"], dtype=case.dtype)
    for count, grad in enumerate(HELD["grads"]):
        if count == STEPS // 2:
            second.set_states(first.get_states(dump_optimizer=True))
        updater = first if count < STEPS // 2 else second
        updater(0, nd.array(grad, dtype=case.dtype), weight)
    whole = nd.array(HELD["weight"], dtype=case.dtype)
    updater = get_updater(made(case))
    for grad in HELD["grads"]:
        updater(0, nd.array(grad, dtype=case.dtype), whole)
    assert weight.asnumpy().tobytes() == whole.asnumpy().tobytes()


def test_every_registered_optimizer_has_a_row() -> None:
    rows = {case.kind for case in BY_NAME.values()} | {"sgld"}
    ours = {n for n in Optimizer.opt_registry if _class(n).__module__.startswith("kvtrain.")}
    assert ours == rows


def _class(name: str) -> Any:
    return Optimizer.opt_registry.get(name)


def test_sgld_drifts_as_mxnet_and_draws_noise_by_seed_key_and_step() -> None:
    def run(grads: Any, seed: int = 3, key: Any = "w", **options: Any) -> Any:
        optimizer = create("sgld", learning_rate=0.05, seed=seed, param_idx2name={0: key})
        for option, value in options.items():
            setattr(optimizer, option, value)
        updater = get_updater(optimizer)
        weight = nd.array(HELD["weight"])
        for grad in grads:
            updater(0, nd.array(grad), weight)
        local = weight.asnumpy()
        server = on_server(optimizer, HELD["weight"], grads, 17, key)
        assert server.tobytes() == local.tobytes()
        return local

    zeros = np.zeros((STEPS, *SHAPE), "float32")
    noise = run(zeros) - HELD["weight"]
    assert abs(noise.std() / (STEPS * 0.05) ** 0.5 - 1) < 0.4
    assert not np.array_equal(noise, run(zeros, seed=4) - HELD["weight"])
    assert not np.array_equal(noise, run(zeros, key="v") - HELD["weight"])
    # with weight decay the noise fades as the weight does, so the drift is compared without it
    drift = run(HELD["grads"], rescale_grad=0.5, clip_gradient=0.3) - run(zeros)
    weight = HELD["weight"].astype("f8")
    for grad in HELD["grads"]:
        weight -= 0.025 * np.clip(0.5 * grad, -0.3, 0.3)
    np.testing.assert_allclose(drift, weight - HELD["weight"], atol=1e-6)
    optimizer = create("sgld", **{"learning_rate": 0.05, **ALL})
    optimizer.noise = lambda key, t: _Silent()
    updater, held = get_updater(optimizer), nd.array(HELD["weight"])
    for grad in HELD["grads"]:
        updater(0, nd.array(grad), held)
    np.testing.assert_allclose(held.asnumpy(), HELD["sgld"], rtol=1e-6, atol=1e-7)


class _Silent:
    def standard_normal(self, out: Any, dtype: Any) -> None:
        out[...] = 0


def test_sgld_takes_the_seed_of_mx_random() -> None:
    mx.random.seed(17)
    assert create("sgld").seed == 17
    mx.random.seed(0)
    assert create("sgld", seed=5).to_config()[1]["seed"] == 5


@pytest.mark.parametrize("kind", ["sgd", "adagrad", "adam", "ftrl", "groupadagrad", "nag"])
def test_rows_alone_are_as_the_same_rows_of_a_small_array(kind: str) -> None:
    optimizer = create(kind, **({"momentum": 0.9} if kind in ("sgd", "nag") else {}))
    rng = np.random.RandomState(1)
    table = rng.standard_normal((50, 3)).astype("float32")
    rows = np.array([0, 7, 8, 31, 49])
    state = optimizer.state_arrays(table)
    small = table[rows]
    small_state = optimizer.state_arrays(small)
    untouched = np.setdiff1d(np.arange(50), rows)
    kept = table[untouched]
    for t in (1, 2, 3):
        grad = rng.standard_normal(small.shape).astype("float32")
        hyper = optimizer.hyper("w", t, t)
        optimizer.update_rows(table, rows, grad, state, hyper)
        optimizer.update_block(small, grad, small_state, hyper)
    assert table[rows].tobytes() == small.tobytes()
    assert table[untouched].tobytes() == kept.tobytes()
    for whole, part in zip(state, small_state, strict=True):
        assert whole[rows].tobytes() == part.tobytes()
        assert not whole[untouched].any()


@pytest.mark.parametrize("stype", ["default", "row_sparse"])
@pytest.mark.parametrize("number", range(len(SPARSE)), ids=lambda n: f"{n}_{SPARSE[n][0]}")
def test_row_sparse_gradients(number: int, stype: str) -> None:
    kind, options = SPARSE[number]
    rng = np.random.RandomState(number)
    updater = get_updater(create(kind, **{"learning_rate": 0.1, **options}))
    weight = nd.array(rng.standard_normal((6, 3)).astype("float32")).tostype(stype)
    for _ in range(4):
        rows = np.sort(rng.choice(6, 3, replace=False))
        values = rng.standard_normal((3, 3)).astype("float32")
        updater(0, nd.sparse.row_sparse_array((values, rows), shape=(6, 3)), weight)
    assert weight.stype == stype
    np.testing.assert_allclose(
        weight.asnumpy(), HELD[f"sparse_{number}_{stype}"], rtol=2e-6, atol=1e-6
    )


def test_whole_key_optimizers_refuse_rows() -> None:
    optimizer = create("lamb")
    weight = np.ones((4, 2), "float32")
    hyper = optimizer.hyper("w", 1, 1)
    with pytest.raises(mx.errors.ConfigError, match="LAMB works on whole keys"):
        optimizer.update_rows(
            weight, np.array([1]), weight[:1], optimizer.state_arrays(weight), hyper
        )


class PlainOldOptimizer(Optimizer):
    """Written as for MXNet: knows nothing of raw arrays or servers."""

    def __init__(self, drag: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.drag = drag

    def create_state(self, index: Any, weight: Any) -> Any:
        return None, [nd.zeros(weight.shape, weight.context, dtype=weight.dtype)]

    def update(self, index: Any, weight: Any, grad: Any, state: Any) -> None:
        self._update_count(index)
        lr, wd = self._get_lr(index), self._get_wd(index)
        t = self._index_update_count[index]
        speed = state[1][0]
        speed[:] = self.drag * speed + grad * self.rescale_grad
        weight[:] -= lr / t * (speed + wd * weight)


def test_a_class_written_for_mxnet_runs_on_servers() -> None:
    mx.optimizer.register(PlainOldOptimizer)
    for dtype, options in (("float32", {}), ("float16", {"multi_precision": True})):
        optimizer = create("plainoldoptimizer", learning_rate=0.1, wd=0.01, drag=0.3, **options)
        assert not optimizer.blockwise
        grads = HELD["grads"].astype(dtype)
        updater, weight = get_updater(optimizer), nd.array(HELD["weight"], dtype=dtype)
        for grad in grads:
            updater("w", nd.array(grad, dtype=dtype), weight)
        server = on_server(optimizer, HELD["weight"].astype(dtype), grads, 17, "w")
        assert server.tobytes() == weight.asnumpy().tobytes()
        assert not np.array_equal(server, HELD["weight"].astype(dtype))


def test_multipliers_names_counts_and_learning_rate() -> None:
    optimizer = create(
        "sgd", learning_rate=0.5, wd=0.1, param_idx2name={0: "a_weight", 1: "a_bias", 2: "g_gamma"}
    )
    assert [optimizer._get_wd(i) for i in range(3)] == [0.1, 0.0, 0.1]
    optimizer.set_lr_mult({"a_weight": 2.0, 1: 3.0})
    assert optimizer._get_lrs([0, 1, 2]) == [1.0, 1.5, 0.5]
    optimizer.set_wd_mult({"a_bias": 2.0})
    assert optimizer._get_wds([0, 1, 2]) == [0.1, 0.2, 0.1]
    assert create("lars", wd=0.1, param_idx2name={2: "g_gamma"})._get_wd(2) == 0
    optimizer.set_learning_rate(0.25)
    assert optimizer.learning_rate == 0.25
    weight = nd.ones((2,))
    for index in (0, 0, 1):
        optimizer.update(index, weight, nd.ones((2,)), None)
    assert optimizer.num_update == 2
    assert optimizer._index_update_count == {0: 2, 1: 1}
    scheduled = create("sgd", lr_scheduler=mx.lr_scheduler.FactorScheduler(1, 0.5, base_lr=1.0))
    with pytest.raises(UserWarning, match="LRScheduler"):
        scheduled.set_learning_rate(1.0)
    begun = create("sgd", begin_num_update=10)
    begun.update(0, weight, nd.ones((2,)), None)
    assert begun.num_update == 11


def test_lists_of_indices_and_half_precision_states() -> None:
    optimizer = create("sgd", momentum=0.9, multi_precision=True)
    weights = [nd.ones((2,), dtype="float16"), nd.ones((3,), dtype="float16")]
    mom, master = optimizer.create_state_multi_precision(0, weights[0])
    assert (mom.dtype, master.dtype) == (np.float32, np.float32)
    master, (mean, _var) = create("adam", multi_precision=True).create_state_multi_precision(
        0, weights[0]
    )
    assert (mean.dtype, master.dtype) == (np.float32, np.float32)
    updater = get_updater(optimizer)
    updater([0, 1], [w * 2 for w in weights], weights)
    assert weights[1].asnumpy().tolist() == [np.float16(0.98)] * 3
    assert create("rmsprop").create_state(0, weights[0])[0].shape == (2,)
    assert create("dcasgd").create_state(0, weights[0])[0] is None


def test_a_users_class_may_take_a_name_over() -> None:
    class AdamW(mx.optimizer.SGD):  # MXNet 1.9 has none, so scripts bring their own
        pass

    ours = mx.optimizer.AdamW
    with pytest.warns(UserWarning, match="optimizer 'AdamW'.*takes the place"):
        mx.optimizer.register(AdamW)
    try:
        assert type(create("adamw")) is AdamW
    finally:
        with pytest.warns(UserWarning):
            mx.optimizer.register(ours)


def test_a_schedule_may_be_any_callable() -> None:
    optimizer = create("sgd", lr_scheduler=lambda n: 1.0 / n)
    weight = nd.ones((1,))
    for _ in range(2):
        optimizer.update(0, weight, nd.ones((1,)), None)
    assert weight.asscalar() == -0.5
    with pytest.raises(mx.errors.ConfigError, match=r"lr_scheduler=.*cannot be sent"):
        optimizer.to_config()

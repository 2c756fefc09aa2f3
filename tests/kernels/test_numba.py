# SPDX-License-Identifier: Apache-2.0
"""Every kernel of the numba backend against its NumPy twin; the choice of a backend."""

import importlib
import inspect
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from kvtrain.kernels import numpy as twins

RATES: dict[str, Any] = {"lr": 0.1}
SIZE = (60, 70)


def _kernels() -> Any:
    pytest.importorskip("numba")
    return importlib.import_module("kvtrain.kernels.numba")


def draw(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"wd": 0.05},
    {"rescale_grad": 0.3, "clip_gradient": 0.2},
    {"wd": 0.01, "rescale_grad": 2.0, "clip_gradient": 0.5},
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(
    ("name", "states", "more"),
    [
        ("sgd_update", 0, {}),
        ("sgd_mom_update", 1, {"momentum": 0.9}),
        ("adam_update", 2, {"beta1": 0.8, "epsilon": 1e-6}),
    ],
)
def test_updates_have_the_bits_of_numpy(name, states, more, options, dtype: str) -> None:
    kernels = _kernels()
    found = []
    for module in (twins, kernels):
        arrays = [draw(SIZE, dtype, i) for i in range(2 + states)]
        for state in arrays[3:]:
            np.abs(state, out=state)
        for turn in range(3):
            arrays[1] = draw(SIZE, dtype, 10 + turn)
            arrays[1][0, :3] = (np.nan, np.inf, -0.0)
            grad = arrays[1].copy()
            with np.errstate(all="ignore"):
                getattr(module, name)(*arrays, **RATES, **more, **options)
            np.testing.assert_array_equal(arrays[1], grad)
        found.append(arrays)
    assert not np.array_equal(found[0][0], draw(SIZE, dtype, 0))
    for mine, theirs in zip(*found, strict=True):
        assert mine.tobytes() == theirs.tobytes()


@pytest.mark.parametrize(
    "arrays",
    [
        lambda: [draw((3,), "float32", i) for i in range(2)],
        lambda: [draw(SIZE, "float32", i)[:, ::2] for i in range(2)],
        lambda: [draw(SIZE, "float16", i) for i in range(2)],
        lambda: [draw(SIZE, "float32"), draw(SIZE, "float16", 1)],
    ],
    ids=["small", "strided", "half", "mixed"],
)
def test_other_arrays_go_to_numpy(arrays) -> None:
    kernels = _kernels()
    mine, theirs = arrays(), arrays()
    twins.sgd_update(*theirs, lr=0.1, wd=0.1)
    kernels.sgd_update(*mine, lr=0.1, wd=0.1)
    assert mine[0].tobytes() == theirs[0].tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_the_gradient_of_look_ups(dtype: str) -> None:
    kernels = _kernels()
    rows = np.random.default_rng(1).integers(0, 9, (4, 50))
    grad = draw((4, 50, 3), dtype)
    grad[0, 0] = -0.0
    for places in (rows, rows.astype(np.int32), rows[:, :0]):
        part = grad[:, : places.shape[1]]
        mine = kernels.embedding_grad(np.ascontiguousarray(part), places, count=11)
        theirs = twins.embedding_grad(part, places, count=11)
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


WINDOWS: list[dict[str, Any]] = [
    {"kernel": (2, 2), "stride": (2, 2), "pad": (0, 0)},
    {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1), "convention": "full"},
    {"kernel": (3, 2), "stride": (1, 2), "pad": (1, 0), "include_pad": False},
    {"kernel": (7, 7), "stride": (1, 1), "pad": (0, 0)},
]


@pytest.mark.parametrize("kind", ["max", "avg", "sum"])
@pytest.mark.parametrize("window", WINDOWS)
def test_the_gradient_of_pooling(kind: str, window: dict[str, Any]) -> None:
    kernels = _kernels()
    for data in (draw((2, 3, 7, 9), "float32"), draw((1, 2, 8, 7), "float64")):
        # equal values and a NaN
        data[0, 0, 2:4] = 1.0
        data[0, 1, 0, 0] = np.nan
        with np.errstate(all="ignore"):
            theirs = twins.pool(data, kind=kind, **window)
        grad = draw(theirs.shape, data.dtype.name, 3)
        np.testing.assert_allclose(
            kernels.pool_grad(grad, data, theirs, kind=kind, **window),
            twins.pool_grad(grad, data, theirs, kind=kind, **window),
            rtol=1e-5,
            atol=1e-6,
        )
    cube = draw((1, 2, 4, 4, 4), "float32")
    window = {"kernel": (2, 2, 2), "stride": (2, 2, 2), "pad": (0, 0, 0), "kind": kind}
    out = twins.pool(cube, **window)
    mine = kernels.pool_grad(out * 2, cube, out, **window)
    np.testing.assert_array_equal(mine, twins.pool_grad(out * 2, cube, out, **window))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "axis"), [((5, 4, 6, 3), 1), ((7, 4), 1), ((3, 5, 4), -1)])
def test_norms(shape: tuple[int, ...], axis: int, dtype: str) -> None:
    kernels = _kernels()
    data, grad = draw(shape, dtype) * 3 + 5, draw(shape, dtype, 1)
    gamma = draw((shape[axis],), dtype, 2)
    close = {"rtol": 2e-4, "atol": 2e-4} if dtype == "float32" else {"rtol": 1e-9, "atol": 1e-9}
    mean, var = twins.batch_norm_stats(data, axis=axis)
    pairs = [
        (kernels.batch_norm_stats(data, axis=axis), (mean, var)),
        *(
            (
                module_grad(kernels, grad, data, gamma, mean, var, axis),
                module_grad(twins, grad, data, gamma, mean, var, axis),
            )
            for module_grad in (_batch, _layer)
        ),
    ]
    for mine, theirs in pairs:
        for left, right in zip(mine, theirs, strict=True):
            assert left.dtype == right.dtype
            assert left.shape == right.shape
            np.testing.assert_allclose(left, right, **close)


def _batch(module, grad, data, gamma, mean, var, axis):
    return module.batch_norm_grad(grad, data, gamma, mean, var, eps=1e-3, axis=axis)


def _layer(module, grad, data, gamma, mean, var, axis):
    return module.layer_norm_grad(grad, data, gamma, eps=1e-3, axis=axis)


def test_every_kernel_has_a_twin_of_the_same_signature() -> None:
    kernels = _kernels()
    assert len(kernels.__all__) == len(set(kernels.__all__)) >= 8
    for name in kernels.__all__:
        mine = inspect.signature(getattr(kernels, name))
        assert mine == inspect.signature(getattr(twins, name)), name


def _told(backend: str | None, code: str) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if k != "KVTRAIN_BACKEND"}
    if backend is not None:
        environ["KVTRAIN_BACKEND"] = backend
    return subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60
    )


SHOW = "from kvtrain.kernels import *; from kvtrain import kernels as k; print(k.backend())"


def test_numpy_can_be_forced() -> None:
    done = _told("numpy", SHOW)
    assert done.stdout.strip() == "numpy", done.stderr


def test_numba_is_chosen_where_it_is_installed() -> None:
    _kernels()
    assert _told(None, SHOW).stdout.strip() == "numba"
    done = _told("numba", "from kvtrain.commands.doctor import main; main()")
    assert "kernels   numba, then numpy (identity numba-" in done.stdout, done.stderr


def test_a_backend_that_cannot_be_used_is_an_error_only_if_it_is_forced() -> None:
    blocked = (
        "import importlib.util as u; f = u.find_spec; "
        "u.find_spec = lambda n, *a: None if n == 'numba' else f(n, *a); "
    )
    done = _told(None, blocked + SHOW)
    assert done.stdout.strip() == "numpy", done.stderr
    done = _told("numba", blocked + SHOW)
    assert "KVTRAIN_BACKEND='numba': numba is not installed; pip install" in done.stderr
    done = _told("fortran", SHOW)
    assert "KVTRAIN_BACKEND='fortran'; known: numba, numpy" in done.stderr

# SPDX-License-Identifier: Apache-2.0
"""Random sparse arrays, empty ones too: every operator's result is that of the dense arrays."""

from typing import Any

import numpy as np
import pytest

from kvtrain import nd
from kvtrain.ndarray import sparse
from kvtrain.ndarray.serialization import dumps

UNARY = {"relu": lambda x: np.maximum(x, 0)}
UNARY.update({n: getattr(np, n) for n in ("abs", "sign", "square", "sqrt", "sin", "exp", "cos")})


class Made:
    """Draws arrays and compares; row_sparse for any number of dimensions, csr for two."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape: tuple[int, ...] = (int(self.rng.integers(0, 6)), int(self.rng.integers(1, 6)))
        if self.rng.random() < 0.3:
            self.shape = (*self.shape, 2)
        self.stype = "csr" if len(self.shape) == 2 and self.rng.random() < 0.5 else "row_sparse"

    def array(self, shape: tuple[int, ...], stype: str) -> tuple[Any, Any]:
        values = self.rng.integers(-3, 4, shape) * (self.rng.random(shape) < 0.4)
        values[self.rng.random(shape[0]) < 0.4] = 0
        return nd.array(values).tostype(stype), values.astype(np.float32)

    @staticmethod
    def same(got: Any, want: Any, what: Any) -> None:
        if got.stype != "default":
            got.check_format()
        want = np.asarray(want)
        assert got.shape == (want.shape or (1,)), what
        np.testing.assert_allclose(
            got.asnumpy().reshape(want.shape), want, rtol=1e-5, atol=1e-6, err_msg=str(what)
        )


@pytest.mark.parametrize("seed", range(40))
def test_elements_and_reductions(seed: int) -> None:
    made = Made(seed)
    a, raw = made.array(made.shape, made.stype)
    b, other = made.array(made.shape, made.rng.choice([made.stype, "default"]))
    number = float(made.rng.integers(-1, 3))
    with np.errstate(all="ignore"):
        for name in ("add", "subtract", "multiply"):
            run, want = getattr(nd, name), getattr(np, name)
            made.same(run(a, b), want(raw, other), name)
            made.same(run(b, a), want(other, raw), name)
            made.same(run(a, number), want(raw, np.float32(number)), (name, number))
            made.same(run(number, a), want(np.float32(number), raw), (number, name))
        for name, want in UNARY.items():
            made.same(getattr(nd, name)(a), want(raw), name)
    made.same(a.astype("float64"), raw, "astype")
    made.same(nd.load_frombuffer(dumps([a]))[0], raw, "file")
    for axis in (None, 0, 1, -1, (0, 1)) if made.shape[0] else ():
        for keep in (False, True):
            kwargs: dict[str, Any] = {"axis": axis, "keepdims": keep}
            made.same(nd.sum(a, **kwargs), raw.sum(**kwargs), ("sum", kwargs))
            made.same(nd.mean(a, **kwargs), raw.mean(**kwargs), ("mean", kwargs))
            made.same(nd.norm(a, **kwargs), np.sqrt((raw * raw).sum(**kwargs)), ("norm", kwargs))
            made.same(nd.norm(a, ord=1, **kwargs), np.abs(raw).sum(**kwargs), ("norm 1", kwargs))


@pytest.mark.parametrize("seed", range(40))
def test_products_and_look_ups(seed: int) -> None:
    made = Made(seed)
    rng, rows = made.rng, max(made.shape[0], 1)
    shape = (rows, *made.shape[1:])
    a, raw = made.array(shape, made.stype)
    if made.stype == "row_sparse":
        ids = np.unique(rng.integers(0, rows, 3))
        want = np.zeros_like(raw)
        want[ids] = raw[ids]
        made.same(a.retain(nd.array(ids)), want, "retain")
        if len(shape) == 2:
            places = rng.integers(0, rows, (2, 3))
            out = nd.Embedding(nd.array(places), a, input_dim=rows, output_dim=shape[1])
            made.same(out, raw[places], "Embedding")
        return
    for flip, turn in ((False, False), (False, True), (True, False), (True, True)):
        left, inner = (raw.T if flip else raw), shape[0] if flip else shape[1]
        other = rng.standard_normal((2, inner) if turn else (inner, 2)).astype(np.float32)
        for stype in ("default", "row_sparse"):
            right = nd.array(other).tostype(stype)
            got = sparse.dot(a, right, transpose_a=flip, transpose_b=turn)
            made.same(got, left @ (other.T if turn else other), (flip, turn, stype))
        inner = shape[1] if turn else shape[0]
        other = rng.standard_normal((inner, 2) if flip else (2, inner)).astype(np.float32)
        got = sparse.dot(nd.array(other), a, transpose_a=flip, transpose_b=turn)
        made.same(got, (other.T if flip else other) @ (raw.T if turn else raw), (flip, turn))
    low = int(rng.integers(0, rows))
    high = int(rng.integers(low, rows + 1))
    made.same(a[low:high], raw[low:high], (low, high))
    left, right = sorted(int(i) for i in rng.integers(0, shape[1] + 1, 2))
    if left < right:
        got = sparse.slice(a, begin=(low, left), end=(low + 1, right))
        made.same(got, raw[low : low + 1, left:right], (left, right))
    places = rng.integers(0, rows, 4)
    made.same(nd.take(a, nd.array(places)), raw[places], "take")
    below, more = made.array((3, shape[1]), "csr")
    made.same(nd.concat(a, below, dim=0), np.concatenate([raw, more]), "concat")

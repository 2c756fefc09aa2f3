# SPDX-License-Identifier: Apache-2.0
"""A variable's gradient is delivered after its last use in the backward walk (PROTOCOL R37)."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain import autograd, nd


def watched(*arrays: Any) -> list[tuple[int, int, list[float]]]:
    """(which array, elements of the heads, its gradient then) in the order of delivery."""
    seen: list[tuple[int, int, list[float]]] = []

    def watcher(i: int, array: Any) -> Callable[[int], None]:
        return lambda size: seen.append((i, size, array.grad.asnumpy().tolist()))

    for i, array in enumerate(arrays):
        array.attach_grad()
        array._entry.ready = watcher(i, array)
    return seen


def test_last_layers_first_and_shared_ones_after_their_last_use() -> None:
    first, shared, last = nd.array([2.0]), nd.array([3.0]), nd.array([5.0])
    seen = watched(first, shared, last)
    with autograd.record():
        a = shared * nd.array([7.0])
        b = first * a
        c = shared * b
        d = c * last
    d.backward()
    # d = 7 s^2 f l: the last layer first; the shared one only after its use in `a`
    assert [(i, grad) for i, _, grad in seen] == [(2, [126.0]), (0, [315.0]), (1, [420.0])]


def test_the_number_of_elements_of_the_heads_is_told() -> None:
    x, y = nd.ones((4, 2)), nd.ones((3,))
    seen = watched(x, y)
    with autograd.record():
        a, b = x.sum(axis=1), y * 2
    autograd.backward([a, b])
    assert [(i, size) for i, size, _ in sorted(seen)] == [(0, 7), (1, 7)]


def test_a_graph_that_is_kept_may_need_the_variable_again() -> None:
    x = nd.array([3.0])
    seen = watched(x)
    with autograd.record():
        y = x * x
    y.backward(retain_graph=True)
    assert seen == [] and x.grad.asscalar() == 6
    y.backward()
    assert seen == [(0, 1, [6.0])]


def test_a_head_that_is_a_variable_is_delivered_at_the_end() -> None:
    x = nd.array([3.0])
    seen = watched(x)
    with autograd.record():
        y = x * 2
    autograd.backward([y, x])
    assert x.grad.asscalar() == 3 and seen == []


def test_without_a_slope_the_gradient_is_zero_and_delivered_all_the_same() -> None:
    x, w = nd.array([3.0]), nd.array([4.0])
    seen = watched(x, w)
    with autograd.record():
        y = nd.BlockGrad(x * 2) * w
    y.backward()
    assert sorted(i for i, _, _ in seen) == [0, 1]
    assert x.grad.asscalar() == 0 and w.grad.asscalar() == 6
    assert np.isfinite(w.grad.asnumpy()).all()

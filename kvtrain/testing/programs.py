# SPDX-License-Identifier: Apache-2.0
"""What the workers of a simulated job do: generators of requests, drawn from the plan."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import numpy as np

from kvtrain.ps.core import requests as r
from kvtrain.ps.core.rows import pack
from kvtrain.testing.models import ALGORITHMS, LR
from kvtrain.testing.plans import Plan

Array = np.ndarray[Any, Any]
Ask = Generator[tuple[str, Any], Any, None]


def program(
    plan: Plan,
    rank: int,
    seen: dict[tuple[int, int], list[Array]],
    resume: Callable[[int], int] = lambda store: 0,
    incarnation: Callable[[], int] = lambda: 1,
    last: int | None = None,
) -> Ask:
    """What a worker does: yields ("submit", request) -> id, ("wait", id) -> value and
    ("sleep", seconds).

    `resume` says in which step it goes on in a store, `last` where it ends. Values that it pulled
    are appended to `seen` by (store, key).
    """

    def call(request: r.Request) -> Ask:
        number = yield "submit", request
        return (yield "wait", number)

    for store, sizes in enumerate(plan.stores):
        yield from call(r.OpenStoreRequest("dist", plan.sync, plan.backups))
        if plan.optimizer:
            name, config = ALGORITHMS[plan.update]
            yield from call(r.SetOptimizerRequest(store, name, {"lr": LR, **config}))
        firsts = tuple(plan.first(store, key, rank) for key in range(len(sizes)))
        yield from call(r.InitRequest(store, plan.specs(store), firsts))
    late: list[int] = []
    starts = [resume(store) for store in range(len(plan.stores))]
    for step in range(min(starts), plan.steps[rank] if last is None else last):
        if plan.saves is not None and plan.saves.pace:
            drawn = random.Random((plan.seed, rank, step).__hash__()).random()
            yield "sleep", plan.saves.pace * drawn
        for store in range(len(plan.stores)):
            if step < starts[store]:
                continue
            if plan.think:
                yield "sleep", random.Random(f"{plan.seed} {rank} {step}").uniform(0, plan.think)
            if plan.staleness is None and not plan.modes:
                yield from _one_step(plan, rank, step, store, seen, call, incarnation())
            else:
                yield from _bounded_step(plan, rank, step, store, seen, late, incarnation())
            if plan.states and plan.sync and not (plan.modes or plan.backups) and rank == 0:
                number = yield "submit", r.ReadStatesRequest(store)
                found = yield "wait", number
                assert len(found) == len(plan.stores[store]), "a key has no states"
                yield from call(r.WriteStatesRequest(store, tuple(found)))
        if plan.saves is not None and (rank, step) in plan.saves.by_hand:
            # refused on a full disk: the program goes on
            yield from call(r.SaveCheckpointRequest(""))
    for number in late:
        yield "wait", number
    for store in range(len(plan.stores)) if plan.last_barrier else ():
        yield from call(r.BarrierRequest(store))
    yield from call(r.LeaveRequest())


def _one_step(
    plan: Plan, rank: int, step: int, store: int, seen: Any, call: Any, incarnation: int
) -> Ask:
    rate = plan.rate(rank, step)
    if rate is not None:
        yield from call(r.SetHyperRequest(store, "learning_rate", rate))
    waiting: list[tuple[int, int, Array]] = []
    pushed: list[int] = []
    read: dict[int, Array] = {}
    if plan.reads:
        keys = plan.order(rank, step, store)
        outs = [np.empty(plan.stores[store][key], np.float32) for key in keys]
        each = [(f"k{key}", out) for key, out in zip(keys, outs, strict=True)]
        for some in [[one] for one in each] if plan.rows else [each]:
            names, places = zip(*some, strict=True)
            yield from call(r.PullRequest(store, names, places))
        read = dict(zip(keys, outs, strict=True))
    for n in range(plan.pushes):
        for key in plan.order(rank, step, store):
            array = plan.payload(store, key, rank, step, n, incarnation)
            if plan.reads:
                array = plan.blend(array, read[key])
            out = np.empty_like(array)
            if plan.one_trip and not plan.rows:
                request = r.PushRequest(store, (f"k{key}",), (array,), (out,))
                number = yield "submit", request
                waiting.append((number, key, out))
            else:
                number = yield "submit", r.PushRequest(store, (f"k{key}",), (array,))
                pushed.append(number)
            array[:] = np.nan  # the core must have kept its own copy
    if plan.rows or not plan.one_trip:
        for key in plan.order(rank, step, store):
            out = np.empty(plan.stores[store][key], np.float32)
            number = yield "submit", r.PullRequest(store, (f"k{key}",), (out,))
            waiting.append((number, key, out))
    for number, key, out in waiting:
        yield "wait", number
        seen.setdefault((store, key), []).append(out.copy())
    for number in pushed:
        yield "wait", number
    yield from call(r.TickRequest(store))
    if plan.barriers:
        yield from call(r.BarrierRequest(store))


def _bounded_step(
    plan: Plan, rank: int, step: int, store: int, seen: Any, late: list[int], incarnation: int
) -> Ask:
    """As a training loop has it: read, compute, push without waiting, end the step."""
    read: dict[int, Array] = {}
    waiting: list[tuple[int, int, Array]] = []
    for key in plan.order(rank, step, store):
        out = np.empty(plan.stores[store][key], np.float32)
        number = yield "submit", r.PullRequest(store, (f"k{key}",), (out,))
        waiting.append((number, key, out))
    for number, key, out in waiting:
        yield "wait", number
        seen.setdefault((store, key), []).append(out.copy())
        read[key] = out
    rate = plan.rate(rank, step)
    if rate is not None:
        number = yield "submit", r.SetHyperRequest(store, "learning_rate", rate)
        late.append(number)
    for n in range(plan.pushes):
        for key in plan.order(rank, step, store):
            array = plan.payload(store, key, rank, step, n, incarnation)
            if plan.is_sync(store, key):
                array = plan.blend(array, read[key])
            number = yield "submit", r.PushRequest(store, (f"k{key}",), (array,))
            late.append(number)
    number = yield "submit", r.TickRequest(store)
    late.append(number)
    if plan.barriers:
        number = yield "submit", r.BarrierRequest(store)
        yield "wait", number


def by_rows(plan: Plan, request: r.Request) -> r.Request:
    """A program's request for dense keys as one for row-sparse keys, one element a row."""
    match request:
        case r.InitRequest():
            stride = 3 if plan.arising else 1
            packed = tuple(
                pack(np.arange(0, a.size, stride), a[::stride].reshape(-1, 1))
                for a in request.arrays
            )
            return replace(request, arrays=packed)
        case r.PushRequest(store, (name,), (array,)) if array is not None:
            ids = np.flatnonzero(array) if plan.some_rows else np.arange(array.size)
            return r.RowPushRequest(store, name, ids, array[ids].reshape(-1, 1))
        case r.PullRequest(store, (name,), (out,)):
            return r.RowPullRequest(store, name, np.arange(out.size), out)
    return request

# SPDX-License-Identifier: Apache-2.0
"""Optimizer states read from servers and written to them, when messages come twice or late."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kvtrain.errors import KeyNotInitialized, KVTrainError
from kvtrain.ps.core import messages as m
from kvtrain.ps.core import requests as r
from tests.ps.test_reading_in_place import SIZE, Job


def momentum_job() -> Job:
    job = Job()
    for worker in job.workers:
        config = {"lr": 1.0, "momentum": 0.5, "begin_num_update": 0}
        job.ask(worker, r.SetOptimizerRequest(0, "SGD", config))
    job.run()
    return job


def value(job: Job, rank: int, number: int) -> Any:
    return job.results[job.workers[rank].node, number]


def one_round(job: Job) -> Any:
    """Both push; the weights after it."""
    out = np.zeros(SIZE, np.float32)
    job.push(0, 1.0, out)
    job.push(1, 10.0)
    job.run()
    return out


def read(job: Job, rank: int = 0) -> Any:
    number = job.ask(job.workers[rank], r.ReadStatesRequest(0))
    job.run()
    return value(job, rank, number)


def test_states_are_read_and_put_back() -> None:
    job = momentum_job()
    assert [(key.updates, key.arrays) for key in read(job)] == [(0, ())]
    one_round(job)
    (held,) = read(job)
    assert (held.name, held.updates) == ("w", 1)
    assert held.arrays[0].shape == (SIZE,) and (held.arrays[0] == -11).all()
    one_round(job)
    (later,) = read(job, rank=1)
    assert later.updates == 2 and (later.arrays[0] == -16.5).all()
    number = job.ask(job.workers[0], r.WriteStatesRequest(0, (held,)))
    job.run()
    assert value(job, 0, number) is None
    (back,) = read(job)
    assert back.updates == 1 and (back.arrays[0] == -11).all()
    one_round(job)
    (after,) = read(job)
    assert after.updates == 2 and (after.arrays[0] == -16.5).all()


def test_a_repeated_write_changes_nothing() -> None:
    job = momentum_job()
    one_round(job)
    (held,) = read(job)
    one_round(job)
    job.held = lambda message: isinstance(message, m.StatesWritten)
    number = job.ask(job.workers[0], r.WriteStatesRequest(0, (held,)))
    writes = [item for item in job.queue if isinstance(item[2], m.WriteStates)]
    job.run()
    assert not job.done(0, number)
    job.later(2.0)  # asked again, answered again
    assert len(job.kept) >= 2
    job.release()
    assert job.done(0, number)
    weights = one_round(job)
    job.queue.extend(writes)  # late, after a round
    job.run()
    (after,) = read(job)
    assert after.updates == 2 and (after.arrays[0] == -16.5).all()
    assert (weights == one_round(job) + 11 + 16.5 / 2).all()


def test_what_does_not_fit_is_refused_and_changes_nothing() -> None:
    job = momentum_job()
    one_round(job)
    (held,) = read(job)
    short = r.KeyStates("w", 1, (held.arrays[0][:-1],))
    double = r.KeyStates("w", 1, (held.arrays[0].astype(np.float64),))
    two = r.KeyStates("w", 1, (held.arrays[0], held.arrays[0]))
    for bad in (short, double, two):
        number = job.ask(job.workers[0], r.WriteStatesRequest(0, (bad,)))
        job.run()
        assert isinstance(value(job, 0, number), KVTrainError)
        assert "key 'w'" in str(value(job, 0, number))
    (still,) = read(job)
    assert still.updates == 1 and (still.arrays[0] == held.arrays[0]).all()
    with pytest.raises(KeyNotInitialized, match="'v' was not initialised"):
        job.workers[0].submit(r.WriteStatesRequest(0, (r.KeyStates("v", 1, ()),)), 0.0)

# SPDX-License-Identifier: Apache-2.0
"""Codecs and consistency modes on a hostile network, and mutations of their rules."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kvtrain import compression
from kvtrain.ps.core.worker import WorkerCore
from kvtrain.testing import Plan, Simulation, SimulationFailure

Mutate = Callable[[pytest.MonkeyPatch], None]


def hostile(seed: int, **changes: Any) -> Plan:
    """The plan of a seed, on a network that loses and doubles."""
    base: dict[str, Any] = {"drop": 0.2, "double": 0.2, "kill": None, "longest_delay": 0.5}
    return replace(Plan.draw(seed), **(base | changes))


def described(**given: Any) -> str:
    codec = compression.create(given)
    assert codec is not None
    return codec.describe()


CODECS = (described(type="2bit"), described(type="topk", ratio=0.25), described(type="bf16"))


@pytest.mark.parametrize("codec", CODECS)
def test_codecs_keep_every_predicate(codec: str) -> None:
    for seed in range(20):
        Simulation(seed, hostile(seed, compression=codec)).run()


def a_resend_is_encoded_again(patch: pytest.MonkeyPatch) -> None:
    real = WorkerCore._on_missing

    def on_missing(self: Any, sender: Any, message: Any, now: float) -> Any:
        for query in message.chunks:
            chunk = self._chunks.get(query.chunk)
            posted = chunk.find(query.round) if chunk is not None else None
            if posted is not None and chunk.feedback is not None:
                codec = chunk.feedback.compressor
                values = chunk.feedback.residual * 0
                codec.decompress(posted.array, values)
                posted.array = chunk.feedback.compress(values)
        return real(self, sender, message, now)

    patch.setattr(WorkerCore, "_on_missing", on_missing)


def caught(mutate: Mutate, patch: pytest.MonkeyPatch, **changes: Any) -> None:
    mutate(patch)
    for seed in range(200):
        try:
            Simulation(seed, hostile(seed, **changes)).run()
        except SimulationFailure:
            return
    pytest.fail("no seed noticed")


def test_encoding_again_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    caught(a_resend_is_encoded_again, monkeypatch, compression=CODECS[0])

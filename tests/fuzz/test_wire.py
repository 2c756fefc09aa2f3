# SPDX-License-Identifier: Apache-2.0
"""Damaged messages: refused, or taken as what they say; no core falls over either."""

import heapq
import resource
from collections import Counter
from typing import Any

import pytest

from kvtrain.errors import KVTrainError
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.membership import NodeId, Role
from kvtrain.ps.net import codec
from kvtrain.testing import Simulation, fuzz


def test_twenty_thousand_damaged_messages() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    taken = Counter(type(message) for message in fuzz.run(1, 20_000))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert set(taken) == set(m.MESSAGES.values()), "every class was looked into"
    assert taken.total() < 10_000
    assert after - before < 64 << 10, f"{(after - before) >> 10} MiB more than before"


@pytest.mark.parametrize("bomb", fuzz.BOMBS, ids=range(len(fuzz.BOMBS)))
def test_headers_that_announce_too_much(bomb: bytes) -> None:
    assert fuzz.check([bomb]) is None
    assert fuzz.check([bomb, b"x"]) is None


def _until(simulation: Simulation, seconds: float) -> list[list[bytes]]:
    """Let a job run for so many virtual seconds; gives what was sent, as frames."""
    sent: dict[tuple[str, int], list[bytes]] = {}
    send = simulation._send

    def listen(process: Any, to: NodeId, message: m.Message) -> None:
        frames = codec.encode(message, process.core.node, fuzz.TOKEN)
        sent[type(message).__name__, len(sent) % 40] = [bytes(f) for f in frames]
        send(process, to, message)

    simulation._send = listen  # type: ignore[method-assign]
    simulation.room.begin()
    while simulation._events and simulation._events[0][0] < seconds:
        when, _, action = heapq.heappop(simulation._events)
        simulation.now = max(simulation.now, when)
        action()
    simulation._send = send  # type: ignore[method-assign]
    return list(sent.values())


def _senders(simulation: Simulation) -> list[NodeId]:
    known = [p.core.node for p in simulation.room.processes]
    strange = [NodeId(Role.WORKER, -1, 5), NodeId(Role.SERVER, 99, 1), NodeId(Role.WORKER, 0, 9)]
    return [*known, *strange]


#: after these a core takes nothing else, so they come rarely
_LAST_WORDS = (m.StopJob, m.LauncherStop, m.Failure, m.Leave, m.LeaveAck, m.PeerExited)


@pytest.mark.parametrize("seed", range(4))
def test_no_core_falls_over(seed: int) -> None:
    """Messages that are well-formed and make no sense, from members and strangers."""
    counts: Counter[str] = Counter()
    for part in range(4):
        simulation = Simulation(seed * 4 + part)
        valid = _until(simulation, 1.5 + part / 2)
        cores = [p.core for p in simulation.room.processes]
        senders = _senders(simulation)
        rng = fuzz.Mutator(seed).rng
        for message in fuzz.run(seed * 4 + part, 1500, valid if part % 2 else None):
            if isinstance(message, _LAST_WORDS) and rng.random() < 0.98:
                continue
            for core in cores:
                if core.node.role not in type(message).RECEIVERS and rng.random() < 0.9:
                    continue
                try:
                    core.on_message(rng.choice(senders), message, simulation.now)
                    core.next_deadline()
                    counts["taken"] += 1
                except KVTrainError:
                    counts["refused"] += 1
        for core in cores:
            core.on_tick(500.0)
    assert counts["taken"] > 1000

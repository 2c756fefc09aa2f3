# SPDX-License-Identifier: Apache-2.0
"""Jobs on a hostile network, and mutations that the predicates must catch."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kvtrain.ps.core import messages as m
from kvtrain.ps.core.barriers import Barriers
from kvtrain.ps.core.posting import Kept
from kvtrain.ps.core.rounds import AsyncLedger, OpenRound, Standing, SyncLedger
from kvtrain.ps.core.server import ServerCore
from kvtrain.testing import Plan, Simulation
from kvtrain.testing.simulate import BLOCK, blocks, main
from tests.sim.mutating import Mutate, check_that_it_is_caught

BLOCKS = 10


@pytest.mark.parametrize("block", range(BLOCKS))
def test_no_seed_violates_a_predicate(block: int, request: pytest.FixtureRequest) -> None:
    seeds = request.config.getoption("--seeds")
    for seed in range(block, seeds, BLOCKS):
        Simulation(seed).run()


def test_the_plans_cover_what_they_should() -> None:
    plans = [Plan.draw(seed) for seed in range(500)]
    for what in (
        lambda p: p.sync and p.workers == 4 and p.drop == 0.2 and p.double == 0.3,
        lambda p: not p.sync and p.pushes == 2,
        lambda p: len(set(p.steps)) > 1,
        lambda p: p.replicas > 0 and any(f.kind == "kill" for f in p.faults) and not p.sync,
        lambda p: any(f.kind == "kill" and f.role == "worker" for f in p.faults),
        lambda p: p.barriers and p.sync,
        lambda p: len(p.stores) == 2,
        lambda p: p.hyper and p.optimizer and p.sync and p.servers > 1,
        lambda p: p.compression != "" and p.drop and p.sync,
        lambda p: p.compression != "" and p.drop and not p.sync,
        lambda p: p.on_worker_loss == "restart" and not p.sync and p.staleness is None,
        lambda p: p.on_worker_loss == "restart" and p.staleness is not None,
        lambda p: p.on_worker_loss == "restart" and p.barriers,
        lambda p: p.on_worker_loss == "shrink" and p.barriers,
        lambda p: p.on_worker_loss == "restart" and p.compression != "",
        lambda p: p.modes and len(set(p.modes[0])) > 1,
        lambda p: p.modes and p.on_worker_loss == "restart",
        lambda p: p.servers >= 4 and p.replicas == 2 and len(p.faults) >= 3,
        lambda p: p.algorithm == "LARS" and p.replicas and p.sync,
        lambda p: p.algorithm == "Adam" and any(f.role == "worker" for f in p.faults),
        *(
            lambda p, kind=kind, role=role: any((f.kind, f.role) == (kind, role) for f in p.faults)
            for kind in ("pause", "cut", "deaf", "partition")
            for role in ("server", "worker", "scheduler")
        ),
        lambda p: p.pipe > 0.5 and p.replicas,
    ):
        assert sum(bool(what(plan)) for plan in plans) >= 3


def test_a_seed_replays_the_same_story() -> None:
    first, second = Simulation(11), Simulation(11)
    first.run()
    second.run()
    assert list(first.story) == list(second.story)
    assert first.now == second.now


def test_the_command_runs_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "3"]) == 0
    assert "3 seeds" in capsys.readouterr().out
    assert [list(b) for b in blocks(5, BLOCK + 2)] == [list(range(5, BLOCK + 5)), [25, 26]]


def test_the_command_goes_on_after_a_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sum_in_order_of_arrival(monkeypatch)
    assert main(["--seeds", "12"]) == 1
    stopped = capsys.readouterr().out
    assert main(["--seeds", "12", "--keep-going"]) == 1
    found = capsys.readouterr().out
    assert stopped.count("replay: ") >= 1 and found.count("replay: ") >= stopped.count("replay: ")
    assert "12 seeds" in found and "failed" in found


def test_the_command_runs_seeds_in_processes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "40", "--jobs", "2"]) == 0
    assert "40 seeds" in capsys.readouterr().out


# ---- mutations: each breaks one rule, and some seed must notice -----------------------------


def acknowledge_on_receipt(patch: pytest.MonkeyPatch) -> None:
    real = ServerCore._contribute

    def contribute(self: Any, sender: Any, message: Any, given: Any, *rest: Any) -> Any:
        chunk = rest[1]
        verdict = m.Verdict(given.chunk, given.view, given.round, True, chunk.stored.version)
        value = chunk.stored.committed() if message.want else None
        self._replies.verdict(sender, message.store, message.request, verdict, value)
        return real(self, sender, message, given, *rest)

    patch.setattr(ServerCore, "_contribute", contribute)


def no_deduplication_in_async(patch: pytest.MonkeyPatch) -> None:
    def accept(self: AsyncLedger, part: Any, now: float) -> Standing:
        self.counted.pop(part.node.rank, None)
        waiting = self.stash.setdefault((part.node.rank, part.node.incarnation), {})
        waiting[1] = part
        return Standing.NEW

    patch.setattr(AsyncLedger, "accept", accept)


def no_deduplication_in_sync(patch: pytest.MonkeyPatch) -> None:
    def accept(self: SyncLedger, part: Any, now: float) -> Standing:
        self.open.setdefault(part.round, OpenRound(since=now)).parts[part.node.rank] = part
        return Standing.NEW

    patch.setattr(SyncLedger, "accept", accept)


def count_messages_instead_of_ranks(patch: pytest.MonkeyPatch) -> None:
    real = SyncLedger.accept
    seen: dict[Any, list[Any]] = {}

    def accept(self: SyncLedger, part: Any, now: float) -> Standing:
        seen.setdefault((id(self), part.round), []).append(part)
        return real(self, part, now)

    def ready(self: SyncLedger, live: Callable[[int], Any]) -> Any:
        if not self.open:
            return None
        first = min(self.open)
        parts = seen.get((id(self), first), [])
        if len(parts) < len(live(first.step)):
            return None
        del self.open[first]
        self.last_closed = first
        for part in parts:
            self._count(part)
        return parts

    patch.setattr(SyncLedger, "accept", accept)
    patch.setattr(SyncLedger, "ready", ready)


def sum_in_order_of_arrival(patch: pytest.MonkeyPatch) -> None:
    real = SyncLedger.ready

    def ready(self: SyncLedger, live: Any) -> Any:
        order = list(self.open[min(self.open)].parts) if self.open else []
        parts = real(self, live)
        return None if parts is None else sorted(parts, key=lambda p: order.index(p.node.rank))

    patch.setattr(SyncLedger, "ready", ready)


def close_without_the_last_rank(patch: pytest.MonkeyPatch) -> None:
    real = SyncLedger.ready

    def ready(self: SyncLedger, live: Any) -> Any:
        return real(self, lambda step: live(step)[:-1] or live(step))

    patch.setattr(SyncLedger, "ready", ready)


def init_sets_values_again(patch: pytest.MonkeyPatch) -> None:
    real = ServerCore._on_init

    def on_init(self: Any, sender: Any, message: Any, now: float) -> Any:
        for chunk_id, array in zip(message.chunks, message.arrays, strict=True):
            if chunk_id in self._chunks:
                self._chunks[chunk_id].stored._weight[:] = array
        return real(self, sender, message, now)

    patch.setattr(ServerCore, "_on_init", on_init)


def barrier_by_count(patch: pytest.MonkeyPatch) -> None:
    def arrive(self: Barriers, rank: int, barrier: Any, request: int, now: float) -> bool:
        waiting = self.waiting.setdefault(barrier, {})
        self.since.setdefault(barrier, now)
        waiting[rank] = request
        self.released[-1] = (self.released.get(-1, (0, 0))[0] + 1, 0)
        return False

    def missing(self: Barriers, barrier: Any, live: Any) -> tuple[int, ...]:
        return () if self.released.get(-1, (0, 0))[0] >= len(tuple(live)) else (99,)

    patch.setattr(Barriers, "arrive", arrive)
    patch.setattr(Barriers, "missing", missing)


def hyper_at_arrival(patch: pytest.MonkeyPatch) -> None:
    real = ServerCore._contribute

    def contribute(self: Any, sender: Any, message: Any, given: Any, *rest: Any) -> Any:
        for command in message.hyper:
            rest[1].stored.hyper[command.name] = command.value
        return real(self, sender, replace(message, hyper=()), given, *rest)

    patch.setattr(ServerCore, "_contribute", contribute)


def read_before_the_own_round(patch: pytest.MonkeyPatch) -> None:
    real = ServerCore._on_pull

    def on_pull(self: Any, sender: Any, message: Any, now: float) -> Any:
        chunks = tuple(read._replace(after=None) for read in message.chunks)
        return real(self, sender, replace(message, chunks=chunks), now)

    patch.setattr(ServerCore, "_on_pull", on_pull)


def send_the_users_own_array(patch: pytest.MonkeyPatch) -> None:
    def keep(self: Kept, memory: Any, given: Any, chunks: int) -> None:
        self.array = given

    patch.setattr(Kept, "__init__", keep)
    patch.setattr(Kept, "acknowledged", lambda self: None)


def rewrite_a_slot_before_the_acknowledgement(patch: pytest.MonkeyPatch) -> None:
    real = Kept.__init__

    def keep(self: Kept, memory: Any, given: Any, chunks: int) -> None:
        real(self, memory, given, 1)  # free at the first chunk's acknowledgement

    def acknowledged(self: Kept) -> None:
        if self._left:
            self._left = 0
            self._memory.give(self._slot)

    patch.setattr(Kept, "__init__", keep)
    patch.setattr(Kept, "acknowledged", acknowledged)


def forget_to_ask_again(patch: pytest.MonkeyPatch) -> None:
    from kvtrain.ps.core.worker import WorkerCore

    def ask(self: Any, now: float) -> list[Any]:
        self._query_at = now + 1
        return []

    patch.setattr(WorkerCore, "_ask_what_became", ask)


MUTATIONS = [
    acknowledge_on_receipt,
    no_deduplication_in_async,
    no_deduplication_in_sync,
    count_messages_instead_of_ranks,
    sum_in_order_of_arrival,
    close_without_the_last_rank,
    init_sets_values_again,
    barrier_by_count,
    hyper_at_arrival,
    read_before_the_own_round,
    send_the_users_own_array,
    rewrite_a_slot_before_the_acknowledgement,
    forget_to_ask_again,
]


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda f: f.__name__)
def test_a_mutation_is_caught(mutate: Mutate, monkeypatch: pytest.MonkeyPatch) -> None:
    check_that_it_is_caught((mutate, Plan.draw, 0), monkeypatch, tries=200)

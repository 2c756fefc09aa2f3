# SPDX-License-Identifier: Apache-2.0
"""Codecs and consistency modes on a hostile network, and mutations of their rules."""

import random
from dataclasses import replace
from typing import Any

import pytest

from kvtrain import compression
from kvtrain.errors import ConfigError
from kvtrain.kernels import xp
from kvtrain.ps.core.clocks import NO_GATE, Clocks, OwnClock, gate_of, mode
from kvtrain.ps.core.rounds import AsyncLedger
from kvtrain.ps.core.row_table import StoredRows
from kvtrain.ps.core.server import ServerCore
from kvtrain.ps.core.worker import WorkerCore
from kvtrain.testing import Plan, Simulation
from kvtrain.testing.plans import Fault
from tests.sim.mutating import Mutate, Mutation, check_that_it_is_caught, name_of


def hostile(seed: int, **changes: Any) -> Plan:
    """The plan of a seed, on a network that loses and doubles."""
    base: dict[str, Any] = {
        "drop": 0.2,
        "double": 0.2,
        "faults": [],
        "on_worker_loss": "abort",
        "reads": False,
        "backups": 0,
        "tight": False,
        "last_barrier": False,
        "longest_delay": 0.5,
        "rows": False,
        "some_rows": False,
        "arising": False,
        "modes": [],
        "pipe": 0.0,
        "saves": None,
        "skips": False,
        "joins": [],
        "think": 0.0,
    }
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
    def plan(seed: int) -> Plan:
        return hostile(seed, **changes)

    check_that_it_is_caught((mutate, plan, 0), patch, tries=200)


def test_encoding_again_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    caught(a_resend_is_encoded_again, monkeypatch, compression=CODECS[0])


# ---- bounded staleness ------------------------------------------------------------------------


@pytest.mark.parametrize("staleness", [0, 1, 2])
def test_bounded_staleness_keeps_every_predicate(staleness: int) -> None:
    for seed in range(25):
        Simulation(seed, bounded(seed, staleness)).run()


def bounded(seed: int, staleness: int) -> Plan:
    plan = Plan.draw(seed)
    changes = {
        "sync": False,
        "optimizer": True,
        "one_trip": False,
        "staleness": staleness,
        "barriers": False,
    }
    steps = [4 + (seed + rank) % 3 for rank in range(plan.workers)]
    return hostile(seed, steps=steps, **changes)


def the_clock_is_told_before_its_pushes_are_acknowledged(patch: pytest.MonkeyPatch) -> None:
    def news(self: OwnClock, step: int) -> int | None:
        if step <= self.told:
            return None
        self.told = step
        return step

    patch.setattr(OwnClock, "news", news)


def reads_have_no_gate(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Clocks, "passes", lambda self, table, gate: True)


def the_fastest_clock_opens_the_gate(patch: pytest.MonkeyPatch) -> None:
    def passes(self: Clocks, table: Any, gate: int) -> bool:
        return max((self.of(m) for m in table.members if not m.gone), default=gate) >= gate

    patch.setattr(Clocks, "passes", passes)


@pytest.mark.parametrize(
    "mutate",
    [
        the_clock_is_told_before_its_pushes_are_acknowledged,
        reads_have_no_gate,
        the_fastest_clock_opens_the_gate,
    ],
    ids=lambda f: f.__name__,
)
def test_a_broken_clock_is_noticed(mutate: Mutate, monkeypatch: pytest.MonkeyPatch) -> None:
    def plan(seed: int) -> Plan:
        return bounded(seed, 1)

    check_that_it_is_caught((mutate, plan, 0), monkeypatch, tries=200, says=("I8",))


def pushes_overtake_each_other(patch: pytest.MonkeyPatch) -> None:
    def next_part(self: AsyncLedger, node: Any) -> Any:
        waiting = self.stash.pop((node.rank, node.incarnation), {})
        if not waiting:
            return None
        part = waiting.pop(max(waiting))
        if waiting:
            self.stash[(node.rank, node.incarnation)] = waiting
        self._count(part)
        return part

    patch.setattr(AsyncLedger, "next_part", next_part)


def test_a_gap_in_the_log_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    caught(pushes_overtake_each_other, monkeypatch, sync=False, optimizer=True, staleness=None)


def test_modes_and_their_spelling() -> None:
    assert [mode("sync"), mode("async"), mode("ssp"), mode("ssp", 3)] == [
        "sync",
        "async",
        "ssp:0",
        "ssp:3",
    ]
    for bad in (-1, 1.5, True, "3"):
        with pytest.raises(ConfigError, match="whole number of steps"):
            mode("ssp", bad)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="known are sync, async and ssp"):
        mode("eventual")
    with pytest.raises(ConfigError, match="staleness=3 is for ssp"):
        mode("async", 3)
    assert [gate_of("ssp:3", clock) for clock in (0, 3, 4, 9)] == [NO_GATE, NO_GATE, 1, 6]
    assert gate_of("async", 9) == gate_of("", 9) == NO_GATE


# ---- row-sparse keys ----------------------------------------------------------------------------


def by_rows(seed: int, **changes: Any) -> Plan:
    return hostile(seed, rows=True, one_trip=False, compression="", **changes)


@pytest.mark.parametrize("sync", [True, False])
def test_rows_keep_every_predicate(sync: bool) -> None:
    for seed in range(20):
        optimizer = not sync or Plan.draw(seed).optimizer
        staleness = None if sync else Plan.draw(seed).staleness
        Simulation(seed, by_rows(seed, sync=sync, optimizer=optimizer, staleness=staleness)).run()


def test_rows_with_backup_workers_keep_every_predicate() -> None:
    for seed in range(20):
        plan = by_rows(seed, sync=True, optimizer=True, staleness=None, workers=3, backups=1)
        Simulation(seed, replace(plan, steps=[3, 3, 4], barriers=False, last_barrier=True)).run()


def rows_in_the_wrong_order(patch: pytest.MonkeyPatch) -> None:
    def merged_backwards(parts: Any) -> Any:
        return merge_rows(list(reversed(parts)))

    merge_rows = xp.merge_rows
    patch.setattr(xp, "merge_rows", merged_backwards)


def test_rows_in_the_wrong_order_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def plan(seed: int) -> Plan:
        return by_rows(seed, sync=True, staleness=None)

    check_that_it_is_caught((rows_in_the_wrong_order, plan, 0), monkeypatch, tries=100)


def restarted_by_rows(seed: int) -> Plan:
    """Workers die and go on: from the rows of before the step's first round (R25)."""
    rng = random.Random(seed)
    faults = [Fault("kill", "worker", rng.uniform(0.2, 4.0), rng.random()) for _ in range(3)]
    faults += [f for f in Plan.draw(seed).faults if f.role == "server" and seed % 3]
    return replace(
        by_rows(seed, sync=True, optimizer=True, staleness=None, reads=True),
        workers=2,
        pushes=2 + seed % 2,
        barriers=False,
        steps=[4, 4],
        drop=0.05,
        longest_delay=0.05,
        on_worker_loss="restart",
        faults=faults,
        some_rows=seed % 4 > 0,
        arising=seed % 2 > 0,
        kernels=seed % 5 == 4,
    )


def restarted_by_rows_after_a_server(seed: int) -> Plan:
    """The primary dies with the worker: what was before the step, its replica has to know."""
    plan = replace(restarted_by_rows(seed), servers=2, replicas=1, shards=2, longest_delay=0.1)
    rng = random.Random(seed)
    when = rng.uniform(1.0, 2.5)
    plan.faults = [Fault("kill", "worker", when, rng.random())]
    plan.faults += [Fault("kill", "server", when + rng.uniform(-0.1, 0.3), rng.random())]
    return plan


def test_a_restarted_worker_reads_the_rows_of_the_cut() -> None:
    for seed in range(25):
        Simulation(seed, restarted_by_rows(seed)).run()


def present_rows_for_a_restarted_worker(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StoredRows, "before_step", StoredRows.read)


def rows_kept_from_the_last_round_only(patch: pytest.MonkeyPatch) -> None:
    def keep(self: Any, chunk: Any, last: Any, round_: Any) -> None:
        if isinstance(chunk.stored, StoredRows):
            chunk.stored.keep_from_here()

    patch.setattr(ServerCore, "_keep", keep)


def kept_rows_are_lost_with_their_server(patch: pytest.MonkeyPatch) -> None:
    real = ServerCore._apply_round

    def apply_round(self: Any, entry: Any, arrays: Any) -> Any:
        chunk = self._chunks[entry.chunk]
        found = real(self, entry, arrays)
        chunk.stored.kept = None
        return found

    patch.setattr(ServerCore, "_apply_round", apply_round)


@pytest.mark.parametrize(
    "mutation",
    [
        (present_rows_for_a_restarted_worker, restarted_by_rows, 5),
        (rows_kept_from_the_last_round_only, restarted_by_rows, 5),
        (kept_rows_are_lost_with_their_server, restarted_by_rows_after_a_server, 10),
    ],
    ids=name_of,
)
def test_other_rows_than_the_cut_are_noticed(
    mutation: Mutation, monkeypatch: pytest.MonkeyPatch
) -> None:
    says = ("I1", "another payload")
    check_that_it_is_caught(mutation, monkeypatch, tries=100, says=says)

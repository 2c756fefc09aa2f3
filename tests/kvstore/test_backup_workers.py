# SPDX-License-Identifier: Apache-2.0
"""Rounds that close without their slowest members: the ledger, and what is refused."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import kvtrain as mx
from kvtrain.errors import ConfigError
from kvtrain.kvstore.dist import _check_backups
from kvtrain.ps.core.backup import BackupLedger, backup_mode, backups_of
from kvtrain.ps.core.clocks import is_sync
from kvtrain.ps.core.membership import NodeId, Role, Round
from kvtrain.ps.core.rounds import Part, Standing


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("dist_sync", -1, "from 0"),
        ("dist_sync", 1.0, "from 0"),
        ("dist_sync", True, "from 0"),
        ("dist_async", 1, "for dist_sync only"),
        ("dist_ssp", 1, "for dist_sync only"),
        ("local", 1, "for dist_sync only"),
    ],
)
def test_what_kv_create_refuses(name: str, given: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        mx.kv.create(name, backup_workers=given)


@pytest.mark.parametrize(
    ("backups", "loss", "said"),
    [(3, "abort", "at most 2"), (4, "shrink", "at most 2"), (1, "restart", "use .* shrink")],
)
def test_what_a_job_refuses(backups: int, loss: str, said: str) -> None:
    node: Any = SimpleNamespace(num_workers=3, on_worker_loss=loss)
    with pytest.raises(ConfigError, match=said):
        _check_backups(backups, node)
    _check_backups(2, SimpleNamespace(num_workers=3, on_worker_loss="shrink"))  # type: ignore[arg-type]


def test_the_spelling_in_a_directory() -> None:
    assert [backup_mode(k) for k in (0, 1, 12)] == ["sync", "backup:1", "backup:12"]
    assert [backups_of(text) for text in ("", "sync", "ssp:3", "backup:12")] == [0, 0, 0, 12]
    assert is_sync("backup:1", False)


def worker(rank: int) -> NodeId:
    return NodeId(Role.WORKER, rank, 1)


def part(rank: int, step: int, n: int = 0) -> Part:
    return Part(worker(rank), Round(step, n), np.ones(1, np.float32), want=False)


def ranks(parts: list[Part] | None) -> list[int] | None:
    return None if parts is None else [p.node.rank for p in parts]


def live(step: int) -> tuple[int, ...]:
    return (0, 1, 2, 3)


def nobody(rank: int) -> bool:
    return False


def test_a_round_closes_with_all_but_the_slowest_in_rank_order() -> None:
    ledger = BackupLedger(backups=2)
    assert ledger.accept(part(3, 0), 0.0) is Standing.NEW
    assert ledger.close(live, nobody) is None
    assert ledger.accept(part(3, 0), 0.0) is Standing.HELD
    assert ledger.accept(part(1, 0), 0.0) is Standing.NEW
    assert ranks(ledger.close(live, nobody)) == [1, 3]
    late = part(0, 0)
    assert ledger.accept(late, 0.0) is Standing.BEHIND
    assert [ledger.drops(late), ledger.drops(late)] == [True, False]
    assert ledger.accept(part(1, 0), 0.0) is Standing.COUNTED
    assert ledger.is_over(late.node, late.round) and not ledger.has_counted(late.node, late.round)


def test_all_that_are_there_are_members() -> None:
    ledger = BackupLedger(backups=1)
    for rank in (2, 0, 1, 3):
        ledger.accept(part(rank, 5), 0.0)
    assert ranks(ledger.close(live, nobody)) == [0, 1, 2, 3]


def test_at_least_one_contributes() -> None:
    ledger = BackupLedger(backups=3)
    assert ledger.close(lambda step: (0, 1), nobody) is None
    ledger.accept(part(1, 0), 0.0)
    assert ranks(ledger.close(lambda step: (0, 1), nobody)) == [1]


def test_a_round_that_nobody_can_fill_closes_with_what_it_has() -> None:
    ledger = BackupLedger(backups=1)
    for rank, step in ((0, 4), (1, 5), (2, 6)):
        ledger.accept(part(rank, step), 0.0)
    assert ledger.close(live, nobody) is None, "worker 3 may still come"
    ledger.accept(part(3, 5), 0.0)
    assert ranks(ledger.close(live, nobody)) == [0]
    assert ledger.close(live, nobody) is None, "worker 0 was counted, and may come again"
    ledger.accept(part(0, 6), 0.0)
    assert ranks(ledger.close(live, nobody)) == [1, 3]
    assert ledger.close(live, nobody) is None
    assert ranks(ledger.close(live, lambda rank: rank in (1, 3))) == [0, 2], "nobody else is there"


def test_an_old_repeat_waits_for_no_answer() -> None:
    ledger = BackupLedger(backups=1)
    for step in (0, 1):
        for rank in range(4):
            ledger.accept(part(rank, step), 0.0)
        assert ledger.close(live, nobody) is not None
    assert ledger.accept(part(2, 0), 0.0) is Standing.BEHIND
    assert ledger.is_old(worker(2), Round(0, 0)) and not ledger.is_old(worker(2), Round(1, 0))

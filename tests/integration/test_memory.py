# SPDX-License-Identifier: Apache-2.0
"""Servers with little memory."""

from pathlib import Path

import pytest

from tests.integration.jobs import launch, write

pytestmark = pytest.mark.integration


def test_a_server_without_room_for_everybody_folds(run_base: Path, tmp_path: Path) -> None:
    script = write(
        tmp_path,
        """
        size, limit = 2_000_000, 20 << 20  # 8 MB of weights, 32 MB of contributions
        kv = mx.kv.create("dist_sync")
        kv.init("w", nd.zeros((size,)))
        out = nd.zeros((size,))
        for step in range(4):
            kv.pushpull("w", nd.full((size,), 10.0**kv.rank * (step + 1)), out=out)
            assert (out.asnumpy() == 1111 * (step + 1)).all()
            kv.tick()
        kv.barrier()
        found = kv.stats()[0]
        assert found["memory_most"] <= found["memory_limit"] == limit
        print(found["folds"] > 0)
        kv.barrier()
        """,
    )
    result = launch(
        run_base, "-n", "4", "-s", "1", "--server-memory", "20M", script, KVTRAIN_TRANSPORT="tcp"
    )
    assert result.code == 0, result.err
    assert result.lines("worker-0") == ["True"]

# SPDX-License-Identifier: Apache-2.0
"""The command that measures: its sizes, its words, one small run of it."""

import json
import subprocess
import sys
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvtrain import nd
from kvtrain.commands.bench import bound, tables
from kvtrain.commands.bench_limits import NAMES
from kvtrain.commands.bench_shapes import shapes_of
from kvtrain.errors import ConfigError
from tests.integration.jobs import ROOT, environment


@pytest.mark.parametrize(
    ("name", "keys", "elements"),
    [
        ("resnet50", 161, 25_557_032),
        ("vgg16", 32, 138_357_544),
        ("mlp", 6, 535_818),
        ("1e3", 1, 1000),
        ("250", 1, 250),
    ],
)
def test_sizes(name: str, keys: int, elements: int) -> None:
    shapes = shapes_of(name)
    assert len(shapes) == keys and sum(map(prod, shapes)) == elements


def test_the_arrays_of_a_file_are_a_size(tmp_path: Path) -> None:
    path = tmp_path / "net.params"
    nd.save(str(path), {"a": nd.zeros((2, 3)), "b": nd.zeros((4,))})
    assert sorted(shapes_of(f"params:{path}")) == [(2, 3), (4,)]
    with pytest.raises(ConfigError, match="there is no such file"):
        shapes_of(f"params:{tmp_path / 'other'}")


@pytest.mark.parametrize("name", ["", "0", "-3", "alexnet", "inf", "nan"])
def test_an_unknown_size_names_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match="mlp, resnet50, vgg16"):
        shapes_of(name)


def figures(**changes: Any) -> dict[str, Any]:
    return {
        "keys": 3,
        "bytes": 1 << 27,
        "median_s": 0.5,
        "min_s": 0.4,
        "bytes_per_s": 2e9,
        "waiting_share": 0.78,
        **changes,
    }


MACHINE = {"cores": 2, **dict.fromkeys(NAMES, 4e9)}


@pytest.mark.parametrize(
    ("transport", "changes", "text"),
    [
        ("tcp", {}, "network-bound: 78% of the round waits for pulls; 50% of a tcp stream"),
        ("ipc", {}, "network-bound: 78% of the round waits for pulls; 50% of a unix stream"),
        ("shm", {}, "server- and memory-bound: 78% of the round waits for pulls; 50% of memcpy"),
        ("shm", {"waiting_share": 0.2}, "worker-bound: posting takes longer than waiting: 20%"),
        ("tcp", {"bytes": 80}, "latency-bound: a round trip, 78% of it waiting"),
    ],
)
def test_what_bounds_a_job(transport: str, changes: dict[str, Any], text: str) -> None:
    assert text in bound(MACHINE, transport, figures(**changes))


def test_the_tables_show_everything() -> None:
    job = {
        "servers": 2,
        "sizes": {"mlp": figures(), "params:/x/net.params": figures(keys=9)},
        "small": {"blocking": 7000.0, "in_flight": 100000.0},
    }
    shown = "\n".join(tables({"machine": MACHINE, "workers": 4, "transports": {"shm": job}}))
    for text in ("mlp (3) 4w/2s", "net.params (9)", "500.00", "400.00", "2.00", "7,000 one"):
        assert text in shown
    assert all(text in shown for text in NAMES.values())


@pytest.mark.integration
def test_a_small_run(tmp_path: Path) -> None:
    command = "bench -n 1 -s 1 --sizes 1e3,mlp --transports shm,tcp --rounds 3 --optimizer sgd"
    done = subprocess.run(
        [sys.executable, "-m", "kvtrain", *command.split(), "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(tmp_path),
        cwd=ROOT,
        check=True,
    )
    report = json.loads(done.stdout)
    assert set(report["transports"]) == {"shm", "tcp"}
    assert all(report["machine"][name] > 0 for name in NAMES)
    for job in report["transports"].values():
        assert job["servers"] == 1
        assert set(job["sizes"]) == {"1e3", "mlp"}
        sizes = job["sizes"]["mlp"]
        assert sizes["keys"] == 6 and 0 < sizes["min_s"] <= sizes["median_s"]
        assert 0 < sizes["waiting_share"] < 1
        assert np.isclose(sizes["bytes_per_s"] * sizes["median_s"], 8 * 535_818)
        assert job["small"]["in_flight"] > 0 < job["small"]["blocking"]
    wrong = subprocess.run(
        [sys.executable, "-m", "kvtrain", "bench", "--transports", "carrier-pigeon"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(tmp_path),
        cwd=ROOT,
        check=False,
    )
    assert wrong.returncode == 2 and "known are shm, ipc, tcp" in wrong.stderr

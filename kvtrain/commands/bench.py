# SPDX-License-Identifier: Apache-2.0
"""``kvtrain bench``: what this machine can do, and what rounds of a job take of it.

Each transport is measured in a job of its own, started by ``kvtrain launch``. A round is one
synchronous push and pull of all keys by all workers; the slowest worker counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from kvtrain import __version__, platform
from kvtrain.commands import bench_limits, bench_shapes
from kvtrain.errors import ConfigError

#: seconds until a job that measures is given up
DEADLINE = 600.0
#: share of a round above which waiting is what bounds it
MOSTLY = 0.5


def main(
    workers: int,
    servers: int | None,
    sizes: str,
    params: str | None,
    transports: str,
    optimizer: str,
    rounds: int,
    as_json: bool,
) -> int:
    """Measure and print; returns the exit status."""
    names = [name for name in sizes.split(",") if name]
    if params is not None:
        names.append(f"params:{Path(params).resolve()}")
    for name in names:
        bench_shapes.shapes_of(name)  # a wrong name is told before anything is measured
    wanted = [name for name in transports.split(",") if name]
    for name in wanted:
        if name not in ("shm", "ipc", "tcp"):
            raise ConfigError(f"--transports {name!r}: known are shm, ipc, tcp")
    report: dict[str, Any] = {
        "version": __version__,
        "workers": workers,
        "optimizer": optimizer,
        "machine": {"cores": platform.cores(), **bench_limits.measure()},
        "transports": {},
    }
    for name in wanted:
        report["transports"][name] = _job(name, workers, servers, names, optimizer, rounds)
    text = json.dumps(report, indent=1) if as_json else "\n".join(tables(report))
    sys.stdout.write(text + "\n")
    return 0


def _job(
    transport: str,
    workers: int,
    servers: int | None,
    names: list[str],
    optimizer: str,
    rounds: int,
) -> dict[str, Any]:
    """Figures of one job."""
    script = Path(__file__).with_name("bench_worker.py")
    with tempfile.TemporaryDirectory(prefix="kvtrain-bench-") as directory:
        command = [sys.executable, "-m", "kvtrain", "launch", "-n", str(workers)]
        if servers is not None:
            command += ["-s", str(servers)]
        command += ["--transport", transport, str(script), directory, ",".join(names)]
        command += [optimizer, str(rounds)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        if done.returncode:
            raise ConfigError(f"the job over {transport} failed:\n{done.stderr[-2000:]}")
        found = [json.loads(path.read_text()) for path in sorted(Path(directory).glob("*.json"))]
    merged: dict[str, Any] = {"servers": found[0]["servers"], "sizes": {}}
    for name in names:
        merged["sizes"][name] = max(
            (one["sizes"][name] for one in found), key=lambda figures: figures["median_s"]
        )
    merged["small"] = min((one["small"] for one in found), key=lambda figures: figures["blocking"])
    return merged


def bound(machine: dict[str, Any], transport: str, figures: dict[str, Any]) -> str:
    """What bounds these rounds, in words."""
    share = figures["waiting_share"]
    rate = figures["bytes_per_s"]
    if figures["bytes"] < 1 << 16:
        return f"latency-bound: a round trip, {share:.0%} of it waiting"
    if transport == "tcp":
        limit, what = machine["tcp_stream_Bps"], "of a tcp stream"
    elif transport == "ipc":
        limit, what = machine["unix_stream_Bps"], "of a unix stream"
    else:
        limit, what = machine["memcpy_64MB_Bps"], "of memcpy"
    kind = "network-bound" if transport != "shm" else "server- and memory-bound"
    if share < MOSTLY:
        kind = "worker-bound: posting takes longer than waiting"
    return f"{kind}: {share:.0%} of the round waits for pulls; {rate / limit:.0%} {what}"


def tables(report: dict[str, Any]) -> list[str]:
    """The report for people."""
    machine = report["machine"]
    lines = [f"machine: {machine['cores']} cores"]
    for name, text in bench_limits.NAMES.items():
        value = machine[name]
        shown = f"{value / 1e9:8.2f} GB/s" if name.endswith("Bps") else f"{value:8.0f} /s"
        lines.append(f"  {text:<42} {shown}")
    head = f"\n{'transport':<10}{'keys':>22}{'median ms':>11}{'min ms':>9}{'GB/s':>7}  bound"
    lines.append(head)
    for transport, job in report["transports"].items():
        where = f"{report['workers']}w/{job['servers']}s"
        for name, figures in job["sizes"].items():
            shown = Path(name).name if name.startswith("params:") else name
            label = f"{shown} ({figures['keys']}) {where}"
            lines.append(
                f"{transport:<10}{label:>22}{figures['median_s'] * 1e3:>11.2f}"
                f"{figures['min_s'] * 1e3:>9.2f}{figures['bytes_per_s'] / 1e9:>7.2f}  "
                + bound(machine, transport, figures)
            )
        small = job["small"]
        lines.append(
            f"{transport:<10}{'10 elements ' + where:>22}  push-pulls per second: "
            f"{small['blocking']:,.0f} one after another, {small['in_flight']:,.0f} in flight"
        )
    return lines

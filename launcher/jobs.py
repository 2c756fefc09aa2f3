# SPDX-License-Identifier: Apache-2.0
"""``kvtrain ps|status|logs|stop``: looking at running jobs, by their run directories."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import click

from kvtrain import platform
from kvtrain.errors import ConfigError, KVTrainError
from launcher import logs as log_files
from launcher import rundir

_CONTEXT = {"help_option_names": ["-h", "--help"]}


def find(name: str) -> tuple[Path, dict[str, Any]]:
    """Run directory and description of a running job.

    Raises
    ------
    ConfigError
        No job of that name runs; lists those that do.
    """
    running = rundir.jobs()
    for path, held in running:
        if path.name == name:
            return path, held
    names = ", ".join(path.name for path, _ in running) or "none"
    raise ConfigError(f"no job named {name!r} is running here; running: {names}")


@click.command(name="ps", context_settings=_CONTEXT)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_jobs(as_json: bool) -> None:
    """List the running jobs."""
    rundir.sweep()
    running = rundir.jobs()
    if as_json:
        click.echo(json.dumps([{"job": path.name, **held} for path, held in running], indent=1))
        return
    for path, held in running:
        if "workers" not in held:
            click.echo(f"{path.name}  pid {held['pid']}  starting")
            continue
        age = int(time.time() - float(held["since"]))
        command = " ".join(map(str, held["command"]))
        size = f"{held['workers']} workers, {held['servers']} servers"
        click.echo(f"{path.name}  pid {held['pid']}  {size}  {age} s  {command}")


@click.command(context_settings=_CONTEXT)
@click.argument("job")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(job: str, as_json: bool) -> None:
    """Show a running job: its processes, what each does, what waits for whom."""
    path, held = find(job)
    processes = held.get("processes", [])
    for process in processes:
        alive = platform.process_alive(process["pid"])
        process["state"] = "running" if alive else "ended"
    try:
        asked = importlib.import_module("kvtrain.commands.status")
        state = asked.ask(held.get("address", ""), str(path / "token"))
    except KVTrainError as error:
        state = {"error": str(error)}
    if as_json:
        shown = {"job": job, "pid": held["pid"], "address": held.get("address"), **state}
        click.echo(json.dumps({**shown, "processes": processes}, indent=1))
        return
    click.echo(f"{job}: launcher pid {held['pid']}, scheduler at {held.get('address')}")
    for line in asked.describe(state, processes):
        click.echo(line)


@click.command(context_settings=_CONTEXT)
@click.argument("job")
@click.argument("process", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends.")
@click.option("-n", "--lines", type=int, default=20, show_default=True, help="Of each process.")
def logs(job: str, process: str | None, follow: bool, lines: int) -> None:
    """Show what the processes of a running job have written.

    PROCESS is one of them, such as worker-0; all by default.
    """
    directory = find(job)[0] / "logs"
    wanted = [process] if process else log_files.labels(directory)
    width = max((len(label) for label in wanted), default=0)
    for label in wanted:
        for line in log_files.tail(directory, label, lines):
            click.echo(line if process else f"{label:<{width}} | {line}")
    if not follow:
        return
    for label, line in log_files.follow(directory, wanted):
        click.echo(line if process else f"{label:<{width}} | {line}")
        sys.stdout.flush()


@click.command(context_settings=_CONTEXT)
@click.argument("job")
def stop(job: str) -> None:
    """End a running job."""
    os.kill(int(find(job)[1]["pid"]), signal.SIGTERM)
    click.echo(f"asked {job} to stop")

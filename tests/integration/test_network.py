# SPDX-License-Identifier: Apache-2.0
"""Jobs over two hosts (network namespaces): cut wires that heal, and slow ones."""

import subprocess
from pathlib import Path

import pytest

from tests.integration.chaos import pause
from tests.integration.hosts import Hosts, two_hosts, why_not
from tests.integration.jobs import launch

pytestmark = [pytest.mark.integration]
WHY_NOT = why_not()
needs_namespaces = pytest.mark.skipif(bool(WHY_NOT), reason=f"no network namespaces: {WHY_NOT}")
DIGITS = "examples/elastic_digits.py"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The last line of a run in which nothing goes wrong."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="kt", dir="/tmp") as base:
        result = launch(Path(base), "-n", "2", DIGITS, "--steps", "150")
    assert result.code == 0, result.err
    return result.lines("worker-0")[-1]


def start_job(hosts: Hosts, base: Path, **env: str) -> list[subprocess.Popen[str]]:
    """Scheduler, a server and a worker on the first host, a server and a worker on the second."""
    (base / "token").write_text("ab" * 32)
    (base / "token").chmod(0o600)
    address = f"tcp://{hosts.addresses[0]}:0"
    scheduler = hosts.start(
        0, base, "scheduler", "--bind", address, "-n", "2", "-s", "2", KVTRAIN_REPLICAS="1", **env
    )
    where = hosts.wait_for(scheduler, r"scheduler at (\S+),")
    processes = [scheduler]
    for host in (0, 1):
        listen = hosts.addresses[host]
        processes.append(hosts.start(host, base, "server", "--join", where, "--host", listen))
    for host in (0, 1):
        command = ("worker", "--join", where, "--rank", str(host), "--", DIGITS, "--steps", "150")
        processes.append(hosts.start(host, base, *command, "--progress", "10"))
    return processes


def finish(hosts: Hosts, processes: list[subprocess.Popen[str]], undisturbed: str) -> None:
    for process in reversed(processes):
        assert process.wait(90) == 0, "\n".join(hosts.said(p) for p in processes)
    assert hosts.said(processes[3]).splitlines()[-1] == undisturbed


@needs_namespaces
def test_a_cut_that_heals_changes_nothing_but_time(run_base: Path, undisturbed: str) -> None:
    with two_hosts() as hosts:
        processes = start_job(hosts, run_base)
        for step in (20, 60):
            hosts.wait_for(processes[3], rf"(step {step}):", 60)
            hosts.cut()
            pause(3)
            hosts.heal()
        finish(hosts, processes, undisturbed)


@needs_namespaces
def test_a_slow_wire(run_base: Path, undisturbed: str) -> None:
    with two_hosts() as hosts:
        try:
            hosts.slow("40mbit")
        except OSError as error:
            pytest.skip(f"no token bucket for a device here: {error}")
        processes = start_job(hosts, run_base)
        finish(hosts, processes, undisturbed)

# SPDX-License-Identifier: Apache-2.0
"""Processes that are lost while the job forms."""

from typing import Any

import pytest

from kvtrain._version import __version__
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Send
from kvtrain.ps.core.membership import LAUNCHER, NodeId, Role
from kvtrain.ps.core.scheduler import SchedulerCore
from kvtrain.ps.core.settings import JobSettings


class Job:
    """A scheduler of one worker and two servers, and what it has said."""

    def __init__(self, **settings: Any) -> None:
        self.core = SchedulerCore(JobSettings(workers=1, servers=2, **settings), 0.0)
        self.core.start(0.0)
        self.now = 0.0

    def tell(self, message: m.Message, sender: NodeId = LAUNCHER) -> list[Any]:
        self.now += 0.1
        effects = self.core.on_message(sender, message, self.now)
        return [e.message for e in effects if isinstance(e, Send)]

    def started(self, role: Role, rank: int, token: str) -> None:
        self.tell(m.PeerStarted(role=role, rank=rank, launch_token=token, host="h", pid=1))

    def hello(self, role: Role, rank: int, token: str) -> list[Any]:
        hello = m.Hello(
            role=role,
            rank=rank,
            version=__version__,
            host="h",
            pid=1,
            launch_token=token,
            address=f"sim://{token}",
            kernel="k",
        )
        return self.tell(hello, NodeId(role, -1, hash(token) & 0xFFFF))


def asked(messages: list[Any]) -> list[tuple[int, int, str]]:
    return [(s.role, s.rank, s.replaces) for s in messages if isinstance(s, m.StartProcess)]


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize(
    ("role", "settings"),
    [(Role.SERVER, {"replicas": 1}), (Role.WORKER, {"on_worker_loss": "restart"})],
)
def test_a_lost_process_is_started_again(role: Role, settings: Any, joined: bool) -> None:
    job = Job(**settings)
    job.started(role, 0, "first")
    if joined:
        job.hello(role, 0, "first")
    said = job.tell(m.PeerExited(launch_token="first", status=-9))
    assert asked(said) == [(role, 0, "first")]
    job.started(role, 0, "second")
    job.hello(role, 0, "second")
    for other, rank in ((Role.SERVER, 0), (Role.SERVER, 1), (Role.WORKER, 0)):
        if (other, rank) != (role, 0):
            job.started(other, rank, f"{other}{rank}")
            said = job.hello(other, rank, f"{other}{rank}")
    assert job.core.table is not None
    assert {mem.node.rank for mem in job.core.table.members} == {0}
    assert len(job.core.table.servers) == 2


def test_not_for_ever() -> None:
    job = Job(replicas=1)
    for attempt in range(4):
        job.started(Role.SERVER, 0, f"try{attempt}")
        said = job.tell(m.PeerExited(launch_token=f"try{attempt}", status=1))
    assert not asked(said)
    failed = next(s for s in said if isinstance(s, m.JobFailed))
    assert "server-0 (host h, pid 1) exited with status 1 before it joined" in failed.text


@pytest.mark.parametrize("role", [Role.SERVER, Role.WORKER])
def test_without_replicas_and_in_abort_the_job_ends(role: Role) -> None:
    job = Job()
    job.started(role, 0, "first")
    job.hello(role, 0, "first")
    said = job.tell(m.PeerExited(launch_token="first", status=-9))
    assert not asked(said)
    assert any(isinstance(s, m.JobFailed) and "signal 9" in s.text for s in said)


def test_a_script_that_ends_by_itself_is_not_started_again() -> None:
    job = Job(on_worker_loss="restart")
    job.started(Role.WORKER, 0, "first")
    said = job.tell(m.PeerExited(launch_token="first", status=2))
    assert not asked(said)
    assert any(isinstance(s, m.JobFailed) and "status 2" in s.text for s in said)

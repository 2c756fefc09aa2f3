# SPDX-License-Identifier: Apache-2.0
"""Workers that join the running job: where they begin, and who is refused (PROTOCOL R23-R27)."""

from typing import Any

import pytest

from kvtrain._version import __version__
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Journal, Send
from kvtrain.ps.core.membership import NodeId, Role, StoreClock
from kvtrain.ps.core.rounds import STEPLESS
from kvtrain.ps.core.scheduler import SchedulerCore
from kvtrain.ps.core.settings import JobSettings

SERVER, FOUNDER = NodeId(Role.SERVER, 0, 1), NodeId(Role.WORKER, 0, 1)
P = m.Progress


class Job:
    """A scheduler with one server and one worker that is at some step of store 0."""

    def __init__(self, step: int, sync: bool = True, **settings: Any) -> None:
        self.settings = JobSettings(workers=1, servers=1, shards=2, **settings)
        self.core = SchedulerCore(self.settings, 0.0)
        self.now = 0.0
        self.journal: list[Any] = []
        self.core.start(0.0)
        self.hello(Role.SERVER, "s")
        self.hello(Role.WORKER, "w")
        self.installed(SERVER)
        self.tell(m.OpenStore(store=0, type="dist", sync=sync), FOUNDER)
        self.tell(m.Heartbeat(epoch=self.core.epoch, clocks=(StoreClock(0, step),)), FOUNDER)

    def tell(self, message: m.Message, sender: NodeId) -> list[Any]:
        return self.take(self.core.on_message(sender, message, self.now))

    def take(self, effects: list[Any]) -> list[Any]:
        self.journal += [e.record for e in effects if isinstance(e, Journal)]
        self.core.check_invariants()
        return [e.message for e in effects if isinstance(e, Send)]

    def hello(self, role: Role, token: str, rank: int = -1) -> list[Any]:
        hello = m.Hello(
            role=role, rank=rank, version=__version__, host="h", pid=1, launch_token=token
        )
        return self.tell(hello, NodeId(role, -1, sum(map(ord, token))))

    def join(self, token: str = "joins", rank: int = -1) -> list[Any]:
        return self.hello(Role.WORKER, token, rank)

    def installed(self, node: NodeId, *progress: m.Progress) -> list[Any]:
        return self.tell(m.Installed(epoch=self.core.epoch, progress=progress), node)

    def member(self, rank: int = 1) -> Any:
        assert self.core.table is not None
        return self.core.table.member(rank)


def welcomes(said: list[Any]) -> list[Any]:
    return [(s.node.rank, s.resume) for s in said if isinstance(s, m.Welcome)]


def refusals(said: list[Any]) -> list[str]:
    return [s.reason for s in said if isinstance(s, m.Refused)]


def test_it_is_told_when_every_primary_and_worker_knows() -> None:
    job = Job(step=4)
    assert not welcomes(job.join())
    assert job.member().proposed and job.member().begins == (StoreClock(0, 6),)
    assert not welcomes(job.installed(SERVER, P(0, 4)))
    said = job.installed(FOUNDER, P(0, 5))
    assert welcomes(said) == [(1, (StoreClock(0, 6),))]
    assert not job.member().proposed
    assert welcomes(job.join()) == [(1, (StoreClock(0, 6),))], "the answer was lost"


@pytest.mark.parametrize(("closed", "inside"), [(7, 8), (6, 7), (5, 6)])
def test_a_step_that_has_begun_is_not_the_first(closed: int, inside: int) -> None:
    job = Job(step=4)
    job.join()
    job.installed(SERVER, P(0, closed))
    assert not welcomes(job.installed(FOUNDER, P(0, inside)))
    later = StoreClock(0, inside + 2)
    assert job.member().begins == (later,)
    job.installed(FOUNDER, P(0, inside))
    assert welcomes(job.installed(SERVER, P(0, closed))) == [(1, (later,))]


def test_without_rounds_it_begins_at_the_lowest_clock() -> None:
    job = Job(step=4, sync=False)
    job.join()
    job.installed(SERVER)
    assert welcomes(job.installed(FOUNDER, P(0, 9))) == [(1, (StoreClock(0, 4),))]


def test_two_at_once_and_one_that_dies_before_it_has_joined() -> None:
    job = Job(step=4)
    job.join("one")
    job.join("two")
    job.tell(m.PeerExited(launch_token="one", status=-9), NodeId(Role.LAUNCHER, 0, 1))
    assert job.member(1).lost and job.core.failure is None
    job.installed(SERVER, P(0, 4))
    assert [rank for rank, _ in welcomes(job.installed(FOUNDER, P(0, 4)))] == [2]
    assert refusals(job.join("one")) == ["this process was declared dead"]
    job.join("three")
    assert job.member(1).node.incarnation == 2, "the lowest rank of one that is gone"


def test_the_next_scheduler_asks_again() -> None:
    job = Job(step=4)
    job.join()
    before, table = job.journal, job.core.table
    job.core = SchedulerCore(job.settings, job.now, 2)
    job.core.recover(before, job.now)
    job.take(job.core.start(job.now))
    assert job.member().proposed and job.core.table.epoch > table.epoch
    assert not welcomes(job.join())
    job.installed(SERVER, P(0, 4))
    assert welcomes(job.installed(FOUNDER, P(0, 4))) == [(1, (StoreClock(0, 6),))]


def refused(job: Job, *closed: m.Progress, inside: int = 0) -> str:
    job.join()
    job.installed(SERVER, *closed)
    job.installed(FOUNDER, P(0, inside))
    reasons = refusals(job.join())
    assert job.core.failure is None
    return reasons[0] if reasons else ""


def test_weights_must_be_on_the_servers() -> None:
    assert "set update_on_kvstore=True" in refused(Job(step=4), P(0, 4, 0, True), inside=4)


def test_a_script_that_never_ends_a_step_cannot_be_joined() -> None:
    assert "Trainer.step or kv.tick()" in refused(Job(step=0), P(0, 0, STEPLESS - 1))


def test_a_first_step_may_have_many_pushes_for_a_while() -> None:
    job = Job(step=0, join_timeout=20.0)
    assert refused(job, P(0, 0, STEPLESS - 2)) == ""
    job.now += job.settings.join_timeout
    for node in (SERVER, FOUNDER):
        job.tell(m.Heartbeat(epoch=job.core.epoch), node)
    job.core._next_look = job.now
    said = job.take(job.core.on_tick(job.now))
    assert "has ended a step of store 0" in refusals(said)[0]


def test_it_waits_until_the_first_step_has_ended() -> None:
    job = Job(step=0)
    assert refused(job, P(0, 0, 5)) == ""
    assert job.member().begins == (StoreClock(0, 0),)
    job.tell(m.Heartbeat(epoch=job.core.epoch, clocks=(StoreClock(0, 1),)), FOUNDER)
    job.core._next_look = job.now
    job.take(job.core.on_tick(job.now))
    assert job.member().begins == (StoreClock(0, 2),)


@pytest.mark.parametrize("rank", [0, 5])
def test_a_rank_that_is_not_free(rank: int) -> None:
    assert f"rank {rank} is" in refusals(Job(step=4).join(rank=rank))[0]

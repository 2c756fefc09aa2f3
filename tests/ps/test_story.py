# SPDX-License-Identifier: Apache-2.0
"""The journal's file, and the story that a core tells when the protocol is broken."""

from pathlib import Path

import pytest

from kvtrain.errors import FormatError, RemoteProtocolError, ServerLost
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Fail, Send, Stop
from kvtrain.ps.core.membership import SCHEDULER, NodeId, Role
from kvtrain.ps.core.story import KEPT, WIDTH, Story, is_broken
from kvtrain.ps.net.journal import JournalFile, read_journal


def test_a_torn_line_of_the_journal_was_told_to_nobody(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    assert read_journal(path) == []
    journal = JournalFile(path)
    for n in range(3):
        journal.write({"kind": "x", "n": n})
    journal.close()
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        records = read_journal(path)
        assert [r["n"] for r in records] == list(range(whole[:cut].count(b"\n")))
    again = JournalFile(path)
    again.write({"kind": "y", "n": 7})
    again.close()
    assert [r["n"] for r in read_journal(path)] == [0, 1, 7]
    path.write_bytes(b"{}\nrubbish\n{}\n")
    with pytest.raises(FormatError, match="line 2 is no record"):
        read_journal(path)


def test_the_story_is_bounded_and_told_for_broken_protocols_only() -> None:
    story = Story()
    worker = NodeId(Role.WORKER, 1, 1)
    for n in range(KEPT + 50):
        story.heard(worker, m.Leave(request=n, until=()), float(n))
    story.asked([Send(worker, m.Refused(reason="r" * 5000))], KEPT + 50.0)
    lines = story.lines()
    assert len(lines) == KEPT and all(len(line) < WIDTH + 30 for line in lines)
    assert "-> worker-1: Refused" in lines[-1] and "<- worker-1: Leave" in lines[-2]
    broken = m.ErrorReply(name="RemoteProtocolError", fields=("x",))
    usual = m.ErrorReply(name="KeyMismatch", fields=("x",))
    assert is_broken([Send(SCHEDULER, usual), Send(SCHEDULER, broken)])
    assert is_broken([Fail(1, RemoteProtocolError("x"))])
    assert is_broken([Send(SCHEDULER, m.Failure(name="OutOfStep", fields=("x",)))])
    assert not is_broken([Send(SCHEDULER, usual), Stop(ServerLost("x")), Stop(None)])

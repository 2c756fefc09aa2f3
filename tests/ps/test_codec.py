# SPDX-License-Identifier: Apache-2.0
"""Messages to bytes and back, and bytes that are no messages."""

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvtrain.errors import RemoteProtocolError
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.membership import NodeId, Role
from kvtrain.ps.core.scheduler import SchedulerCore
from kvtrain.ps.core.server import ServerCore
from kvtrain.ps.core.worker import WorkerCore
from kvtrain.ps.net import codec
from kvtrain.testing import samples

TOKEN = bytes(range(32))
SENDER = NodeId(Role.WORKER, 3, 2)


@pytest.mark.parametrize("cls", m.MESSAGES.values(), ids=lambda c: c.__name__)
@pytest.mark.parametrize("large", [False, True])
def test_every_message_comes_back(cls: type[m.Message], large: bool) -> None:
    for seed in range(20):
        message = samples.message(cls, seed, large)
        sender = samples.sender(cls)
        frames = [bytes(f) for f in codec.encode(message, sender, TOKEN)]
        assert codec.decode(frames, TOKEN) == (sender, message)
        _, back = codec.decode(frames, TOKEN)
        for mine, theirs in zip(
            getattr(message, "arrays", ()), getattr(back, "arrays", ()), strict=True
        ):
            assert mine.dtype == theirs.dtype and mine.tobytes() == theirs.tobytes()
            assert not theirs.flags.writeable


CORES = {Role.SCHEDULER: SchedulerCore, Role.SERVER: ServerCore, Role.WORKER: WorkerCore}


@pytest.mark.parametrize("cls", m.MESSAGES.values(), ids=lambda c: c.__name__)
def test_every_receiver_has_an_arm(cls: type[m.Message]) -> None:
    import inspect

    for role in cls.RECEIVERS:
        if role in CORES:
            assert f"m.{cls.__name__}()" in inspect.getsource(CORES[role].on_message)


def test_only_who_may_send_it_is_believed() -> None:
    frames = codec.encode(samples.message(m.StopJob, 1), SENDER, TOKEN)
    with pytest.raises(RemoteProtocolError, match=r"worker-3 .* may not send StopJob"):
        codec.decode(frames, TOKEN)


def test_a_wrong_token_or_version_is_told_apart() -> None:
    frames = codec.encode(samples.message(m.Heartbeat, 1), SENDER, TOKEN)
    with pytest.raises(codec.WrongToken):
        codec.decode(frames, bytes(32))
    head = msgpack.unpackb(frames[0])
    with pytest.raises(codec.WrongVersion, match="version 99"):
        codec.decode([msgpack.packb([99, *head[1:]])], TOKEN)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=4))
def test_garbage_is_a_protocol_error(frames: list[bytes]) -> None:
    with pytest.raises(RemoteProtocolError):
        codec.decode(frames, TOKEN)


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_a_changed_header_is_a_protocol_error_or_another_message(data: st.DataObject) -> None:
    cls = data.draw(st.sampled_from(sorted(m.MESSAGES.values(), key=lambda c: c.TAG)))
    frames = [bytes(f) for f in codec.encode(samples.message(cls, 3), SENDER, TOKEN)]
    head = msgpack.unpackb(frames[0])
    place = data.draw(st.integers(0, len(head) - 1))
    junk = st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4),
        max_leaves=8,
    )
    head[place] = data.draw(junk)
    try:
        sender, message = codec.decode([msgpack.packb(head), *frames[1:]], TOKEN)
    except RemoteProtocolError:
        return
    assert isinstance(message, m.Message) and isinstance(sender, NodeId)


def test_announced_sizes_are_checked_before_anything_is_made() -> None:
    frames = [bytes(f) for f in codec.encode(samples.message(m.Push, 1), SENDER, TOKEN)]
    head = msgpack.unpackb(frames[0])
    for described in ([[0, 2**40]], [[99, 1]], [[0, -1]], [[0, 5, 1]], [0], [[0, 1]] * 9, 7):
        with pytest.raises(RemoteProtocolError):
            codec.decode([msgpack.packb([*head[:9], described]), *frames[1:]], TOKEN)

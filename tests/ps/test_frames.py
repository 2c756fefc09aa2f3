# SPDX-License-Identifier: Apache-2.0
"""Messages frame by frame over a socket."""

import pytest
import zmq

from kvtrain.ps.net.frames import NO_COPY, receive_frames, send_frames


@pytest.mark.parametrize(
    "frames",
    [[b"a"], [b"head", b"x" * 40], [b"", b"b", b""], [b"h", bytes(NO_COPY + 1), b"t"]],
)
def test_frames_arrive_whole_and_in_order(frames: list[bytes]) -> None:
    with zmq.Context() as context, context.socket(zmq.PAIR) as one, context.socket(zmq.PAIR) as two:
        two.bind("inproc://frames")
        one.connect("inproc://frames")
        send_frames(one, [memoryview(frame) for frame in frames])
        send_frames(one, [b"next"])
        assert [frame.bytes for frame in receive_frames(two)] == frames
        assert [frame.bytes for frame in receive_frames(two)] == [b"next"]
        with pytest.raises(zmq.Again):
            receive_frames(two)


def test_a_message_to_nobody_is_refused_at_its_first_frame() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        router.bind("inproc://router")
        with pytest.raises(zmq.ZMQError) as caught:
            send_frames(router, [b"nobody", b"head", b"tail"])
        assert caught.value.errno == zmq.EHOSTUNREACH

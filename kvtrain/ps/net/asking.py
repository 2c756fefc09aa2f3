# SPDX-License-Identifier: Apache-2.0
"""One question to a scheduler, from a process that is not in the job."""

from __future__ import annotations

import secrets
import time
from typing import Any

from kvtrain.errors import DeadlineExceeded
from kvtrain.ps.core.membership import SCHEDULER, NodeId, Role
from kvtrain.ps.core.messages import StatusReply, StatusRequest
from kvtrain.ps.net.transport import Links


def ask_status(address: str, token: bytes, seconds: float = 3.0) -> dict[str, Any]:
    """The state of the job whose scheduler is at `address`.

    Raises
    ------
    DeadlineExceeded
        It does not answer within `seconds`.
    ConfigError
        The address cannot be used.
    """
    me = NodeId(Role.LAUNCHER, -1, secrets.randbits(48))
    links = Links(token, lambda text: None)
    try:
        links.connect(SCHEDULER, address)
        end = time.monotonic() + seconds
        links.send(SCHEDULER, StatusRequest(request=1), me)
        while (left := end - time.monotonic()) > 0:
            links.poll(left)
            for _, message in links.receive(me):
                if isinstance(message, StatusReply):
                    return message.state
    finally:
        links.close()
    raise DeadlineExceeded(f"status: the scheduler at {address} has not answered for {seconds:g} s")

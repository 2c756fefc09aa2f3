# SPDX-License-Identifier: Apache-2.0
"""What servers and workers share: saying Hello until welcomed, then heartbeats.

The scheduler decides who is missing at a join; a joiner only gives up when nobody answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvtrain._version import __version__
from kvtrain.errors import DeadlineExceeded, JoinRefused
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Effect, Send, Stop
from kvtrain.ps.core.membership import SCHEDULER, NodeId, Role
from kvtrain.ps.core.settings import JobSettings


@dataclass(frozen=True, slots=True)
class Identity:
    """What a Hello says of a process."""

    host: str
    pid: int
    launch_token: str
    #: rank wanted, -1: any
    rank: int = -1
    #: where a server listens
    address: str = ""
    kernel: str = ""


class Joining:
    """Hello until welcomed, then a heartbeat every `settings.heartbeat` seconds."""

    def __init__(
        self, role: Role, identity: Identity, nonce: int, settings: JobSettings, now: float
    ) -> None:
        self._nonce = nonce
        self.node = NodeId(role, -1, nonce)
        self.is_welcomed = False
        #: turns of the data loop, told in heartbeats (R21); the shell counts them
        self.turns = 0
        self._identity = identity
        self._settings = settings
        self._began = now
        #: when the scheduler was last heard
        self.heard = now
        self._next = now

    def start(self, now: float) -> list[Effect]:
        """The first Hello."""
        self._began = self.heard = now
        self._next = now + min(self._settings.heartbeat, self._settings.resend_after)
        who = self._identity
        hello = m.Hello(
            role=self.node.role,
            rank=who.rank,
            version=__version__,
            host=who.host,
            pid=who.pid,
            launch_token=who.launch_token,
            address=who.address,
            kernel=who.kernel,
        )
        return [Send(SCHEDULER, hello)]

    def welcomed(self, node: NodeId, settings: JobSettings, now: float) -> None:
        """This process is `node` from now on."""
        self.node = node
        self.is_welcomed = True
        self._settings = settings
        self.heard = now
        self._next = now + settings.heartbeat

    def anew(self, now: float) -> None:
        """Forget who this process was; its next Hello asks for another incarnation."""
        self.node = NodeId(self.node.role, -1, self._nonce)
        self.is_welcomed = False
        self._began = self.heard = now

    def on_answer(self, message: m.Message, now: float) -> list[Effect]:
        """HeartbeatAck: the scheduler lives. Refused: this process may not take part."""
        if isinstance(message, m.Refused) and not self.is_welcomed:
            return [Stop(JoinRefused(f"the scheduler refused this process: {message.reason}"))]
        self.heard = now
        return []

    def on_tick(self, now: float, heartbeat: Callable[[], m.Heartbeat]) -> list[Effect]:
        """The next Hello or heartbeat, if it is time."""
        if now < self._next:
            return []
        if self.is_welcomed:
            self._next = now + self._settings.heartbeat
            return [Send(SCHEDULER, heartbeat())]
        if now - self.heard >= self._settings.join_timeout:
            return [
                Stop(
                    DeadlineExceeded(
                        f"join: the scheduler has not answered for {now - self.heard:.0f} s; "
                        "is it running, and is its address right?"
                    )
                )
            ]
        heard, began = self.heard, self._began
        effects = self.start(now)
        self.heard, self._began = heard, began
        return effects

    def silent_for(self, now: float) -> float:
        """Seconds since the scheduler was heard."""
        return now - self.heard

    def next_deadline(self) -> float:
        """When :meth:`on_tick` wants to be called."""
        return self._next

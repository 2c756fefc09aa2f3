# SPDX-License-Identifier: Apache-2.0
"""Drives a scheduler or a server: receive, call the core, carry out what it asks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from kvtrain.errors import KVTrainError
from kvtrain.ps.core.effects import (
    Discard,
    Effect,
    Journal,
    LoadShards,
    Note,
    Publish,
    SavePart,
    Send,
    Stop,
)
from kvtrain.ps.core.membership import LAUNCHER, NodeId, Role
from kvtrain.ps.core.messages import LauncherStop, Message, PeerExited, PeerStarted
from kvtrain.ps.core.story import Story, is_broken
from kvtrain.ps.net.disk import DiskThread
from kvtrain.ps.net.journal import JournalFile
from kvtrain.ps.net.transport import Links

#: what only this process's own pipe, signals and files may say
OWN = (PeerStarted, PeerExited, LauncherStop)
#: longest sleep, so that a signal is seen soon on every system
LONGEST = 1.0


class Core(Protocol):
    """What every role offers."""

    @property
    def node(self) -> NodeId:
        """Who it is."""

    def start(self, now: float) -> list[Effect]:
        """First effects."""

    def on_message(self, sender: NodeId, message: Message, now: float) -> list[Effect]:
        """Take a message."""

    def on_tick(self, now: float) -> list[Effect]:
        """Let time pass."""

    def next_deadline(self) -> float | None:
        """When on_tick is wanted."""


class Stopping(Exception):
    """The core asked for the end; `error` says why, None for a normal one."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__(error)
        self.error = error


class Loop:
    """One core over one set of sockets.

    Parameters
    ----------
    to_launcher : callable, optional
        Takes messages for the launcher.
    turn : callable, optional
        Called once per turn (a server counts its turns for the heartbeat).
    story : Story, optional
        Keeps the last events; told when the protocol is broken.
    disk : DiskThread, optional
        Writes and reads checkpoints.
    address_of : callable, optional
        Where another server listens, so that this one may go to it; None: it is gone.
    """

    def __init__(
        self,
        core: Core,
        links: Links,
        note: Callable[[str], None],
        journal: JournalFile | None = None,
        to_launcher: Callable[[Message], None] | None = None,
        turn: Callable[[], None] | None = None,
        story: Story | None = None,
        disk: DiskThread | None = None,
        address_of: Callable[[NodeId], str | None] | None = None,
    ) -> None:
        self._core = core
        self._links = links
        self._note = note
        self._journal = journal or JournalFile(None)
        self._to_launcher = to_launcher
        self._turn = turn
        self._story = story
        self._disk = disk
        self._address_of = address_of
        #: what signals ask for, done between two messages
        self.calls: list[Callable[[float], list[Effect]]] = []
        #: messages from this process itself (the launcher's pipe)
        self.inbox: list[Message] = []
        if disk is not None:
            links.watch(disk.descriptor, lambda: self.inbox.extend(disk.answers()))

    def run(self) -> Exception | None:
        """Until the core stops; returns its error."""
        try:
            self._carry_out(self._core.start(time.monotonic()))
            while True:
                self._once()
        except Stopping as stop:
            return stop.error
        finally:
            self._journal.close()
            if self._disk is not None:
                self._disk.close()

    def _once(self) -> None:
        now = time.monotonic()
        deadline = self._core.next_deadline()
        wait = LONGEST if deadline is None else min(LONGEST, max(0.0, deadline - now))
        self._links.poll(wait)
        if self._turn is not None:
            self._turn()
        # what was queued from a process is handled before the news that it has ended
        for sender, message in self._links.receive(self._core.node):
            if sender == LAUNCHER or isinstance(message, OWN):
                self._note(f"{type(message).__name__} from {sender} over a socket; it was dropped")
                continue
            self._handle(sender, message)
        inbox, self.inbox = self.inbox, []
        for message in inbox:
            self._handle(LAUNCHER, message)
        calls, self.calls = self.calls, []
        for call in calls:
            self._carry_out(call(time.monotonic()))
        now = time.monotonic()
        deadline = self._core.next_deadline()
        if deadline is not None and deadline <= now:
            self._carry_out(self._core.on_tick(now))

    def _handle(self, sender: NodeId, message: Message) -> None:
        now = time.monotonic()
        if self._story is not None:
            self._story.heard(sender, message, now)
        try:
            effects = self._core.on_message(sender, message, now)
        except KVTrainError as error:
            # a core answers what it does not take; this is its own mistake, told and survived
            self._note(f"{type(message).__name__} from {sender}: {type(error).__name__}: {error}")
            self._tell_story()
            return
        self._carry_out(effects)

    def _tell_story(self) -> None:
        if self._story is not None:
            for line in (f"the last events of {self._core.node}:", *self._story.lines()):
                self._note(line)

    def _carry_out(self, effects: list[Effect]) -> None:
        if self._story is not None:
            self._story.asked(effects, time.monotonic())
            if is_broken(effects):
                self._tell_story()
        for effect in effects:
            match effect:
                case Send(to, message) if to == LAUNCHER:
                    if self._to_launcher is not None:
                        self._to_launcher(message)
                case Send(to, message):
                    if to.role == Role.SERVER and self._address_of is not None:
                        self._go_to(to)
                    self._links.send(to, message, self._core.node)
                case Journal(record):
                    self._journal.write(record)
                case SavePart() | LoadShards() | Publish() | Discard() if self._disk is not None:
                    self._disk.submit(effect)
                case Note(text):
                    self._note(text)
                case Stop(error):
                    raise Stopping(error)
                case _:
                    self._note(f"{self._core.node} cannot carry out {effect!r}")

    def _go_to(self, server: NodeId) -> None:
        """Open the way to another server, and close those to servers that are gone."""
        assert self._address_of is not None
        if self._links.has_peer(server):
            return
        for peer in self._links.peers():
            if peer.role == Role.SERVER and self._address_of(peer) is None:
                self._links.disconnect(peer)
        address = self._address_of(server)
        if address is not None:
            self._links.connect(server, address)

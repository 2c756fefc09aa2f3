# SPDX-License-Identifier: Apache-2.0
"""What all processes of a job agree on; it travels in the Welcome."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from kvtrain.errors import RemoteProtocolError
from kvtrain.ps.core.shards import SHARDS

#: abort: the job stops; shrink: it goes on without that worker; restart: the launcher starts
#: it again
ON_WORKER_LOSS = ("abort", "shrink", "restart")


@dataclass(frozen=True, slots=True)
class JobSettings:
    """Sizes and deadlines of a job. All times are seconds."""

    workers: int
    servers: int
    #: name of the job
    job: str = ""
    #: bytes of one chunk; one constant per job
    chunk_bytes: int = 1 << 20
    shards: int = SHARDS
    #: how long the first worker that joined waits for the rest
    join_timeout: float = 60.0
    #: how long a round or barrier waits for members that are healthy ...
    round_timeout: float = 3600.0
    #: ... and for members that are suspect
    suspect_round_timeout: float = 300.0
    #: a wait that lasts this long is noted with the names of who is missing
    note_after: float = 60.0
    heartbeat: float = 1.0
    suspect_after: float = 10.0
    dead_after: float = 60.0
    #: first and longest time between two sendings of the same thing
    resend_after: float = 2.0
    resend_longest: float = 10.0
    #: how long the scheduler waits for everybody's farewell
    farewell: float = 10.0
    #: servers beside the primary that hold each shard; so many may die at a time
    replicas: int = 0
    #: how long a server that wants to end waits until its shards are as safe without it
    drain_timeout: float = 10.0
    #: what the loss of a worker means: one of ON_WORKER_LOSS
    on_worker_loss: str = "abort"
    #: bytes that one server may hold; 0: no limit
    server_memory: int = 0
    #: checkpoints: where, and every so many steps or seconds (0: not by themselves)
    checkpoint_dir: str = ""
    checkpoint_rounds: int = 0
    checkpoint_seconds: float = 0.0
    #: how long workers may stand still for a checkpoint, from the first one on (R50)
    hold_timeout: float = 10.0
    #: begins the names of this run's files
    run: str = ""
    #: manifest of the checkpoint that the job goes on from; empty: it begins anew
    restore: str = ""
    #: contributions of one worker to one chunk that may be under way in async
    async_window: int = 16

    def to_plain(self) -> dict[str, Any]:
        """As plain data for the wire."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> JobSettings:
        """Rebuild; fields that this version does not know are left out.

        Raises
        ------
        RemoteProtocolError
            A field is missing or of another type.
        """
        known = {f.name: str(f.type) for f in fields(cls)}
        found = {k: v for k, v in plain.items() if k in known}
        for name, value in found.items():
            kind = type(value).__name__
            if kind != known[name] and (kind, known[name]) != ("int", "float"):
                raise RemoteProtocolError(f"settings of the job: {name} is {value!r:.40}")
        for name in ("workers", "servers"):
            if name not in found:
                raise RemoteProtocolError(f"settings of the job: {name} is missing")
        return cls(**found)

# SPDX-License-Identifier: Apache-2.0
"""Seeded jobs for the simulation, and what they must come to.

A Plan is pure data drawn from a seed: sizes of the job, keys, who pushes what in which step.
Every contribution has a payload of its own, of very different magnitudes, so that a lost,
doubled or reordered one changes the bits of a sum.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kvtrain import compression
from kvtrain.ps.core.backup import backup_mode
from kvtrain.ps.core.clocks import is_sync, staleness_of
from kvtrain.ps.core.rows import RowInitializer
from kvtrain.ps.core.shards import KeySpec
from kvtrain.testing.joins import Join, Joined, draw_joins
from kvtrain.testing.models import CHUNK, LR, Model, Received
from kvtrain.testing.saves import SavePlan

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Fault:
    """Something that befalls a process; `pick` in [0, 1) chooses among those that are there.

    kill; pause (shorter than anybody notices); sleep (until it is given up: a zombie when it
    wakes); cut (from another process, for a while); deaf (it hears nothing from another one, which
    hears it); partition (the processes fall into two groups); outcast (cut from the scheduler
    until it is given up, while it talks to all others); terminate (SIGTERM).
    """

    kind: str
    role: str
    when: float
    pick: float
    seconds: float = 0.0


@dataclass
class Plan:
    """One job."""

    seed: int
    workers: int
    servers: int
    sync: bool
    optimizer: bool
    #: sizes of the keys of each store
    stores: list[list[int]]
    #: steps of each worker; uneven: some leave before others
    steps: list[int]
    #: pushes of each key in each step
    pushes: int
    barriers: bool
    hyper: bool
    #: pushes are answered with values in one trip
    one_trip: bool
    drop: float
    double: float
    longest_delay: float
    #: bound of every key's staleness; None: sync or async
    staleness: int | None = None
    #: keys are row-sparse, one element a row
    rows: bool = False
    #: sync: pushes name some of the rows; else all
    some_rows: bool = False
    #: two thirds of the rows get no first value: they arise from the key's initializer
    arising: bool = False
    #: description of the codec of every key; empty: none
    compression: str = ""
    #: what a worker pushes depends on the weights that it has read at the step's start
    reads: bool = False
    #: sync: rank 0 reads the optimizer's states after each step and writes them back
    states: bool = False
    on_worker_loss: str = "abort"
    #: servers beside the primary that hold each shard
    replicas: int = 0
    shards: int = 8
    dead_after: float = 15.0
    #: every other server has another kind of arithmetic (R8)
    kernels: bool = False
    #: the network is good, and nothing befalls anybody, from this time on
    faults_end: float = 30.0
    faults: list[Fault] = field(default_factory=list)
    #: the optimizer, one of models.ALGORITHMS
    algorithm: str = "SGD"
    #: consistency of each key of each store; empty: all as `sync` and `staleness` say
    modes: list[list[str]] = field(default_factory=list)
    #: longest delay in the pipe between launcher and scheduler, in order
    pipe: float = 0.0
    #: workers that a round closes without
    backups: int = 0
    #: a barrier after the last step
    last_barrier: bool = False
    #: checkpoints; None: none
    saves: SavePlan | None = None
    #: every other key is pushed only in some of the steps
    skips: bool = False
    #: longest time that a worker computes before a step
    think: float = 0.0
    #: workers that join while the job runs
    joins: list[Join] = field(default_factory=list)
    #: servers have room for one gradient and a chunk, not for everybody's
    tight: bool = False

    @classmethod
    def draw(cls, seed: int) -> Plan:
        """The plan of a seed."""
        rng = random.Random(seed)
        workers, servers = rng.randint(1, 4), rng.randint(1, 3)
        stores = [[rng.randint(1, 40) for _ in range(rng.randint(1, 3))]]
        if rng.random() < 0.3:
            stores.append([rng.randint(1, 40)])
        most = rng.randint(1, 4)
        plan = cls(
            seed=seed,
            workers=workers,
            servers=servers,
            sync=rng.random() < 0.75,
            optimizer=rng.random() < 0.6,
            stores=stores,
            steps=[most] * workers,
            pushes=rng.choice((1, 1, 2)),
            barriers=rng.random() < 0.3,
            hyper=rng.random() < 0.5,
            one_trip=rng.random() < 0.5,
            drop=rng.choice((0.0, 0.05, 0.2)),
            double=rng.choice((0.0, 0.05, 0.3)),
            longest_delay=rng.choice((0.001, 0.05, 3.0)),
        )
        plan.optimizer = plan.optimizer or not plan.sync  # async needs one
        if rng.random() < 0.4 and not plan.barriers:
            plan.steps = [rng.randint(1, most) for _ in range(workers)]
        plan._draw_faults(rng)
        plan.reads = plan.sync and rng.random() < 0.5
        if rng.random() < 0.15 and plan.on_worker_loss != "restart":
            kind = rng.choice(({"type": "2bit"}, {"type": "1bit"}, {"type": "topk", "ratio": 0.3}))
            plan.compression = _described(kind)
        if not plan.sync and rng.random() < 0.5:
            plan.staleness, plan.one_trip = rng.choice((0, 1, 3)), False
        if rng.random() < 0.15 and not plan.compression:
            plan.rows = True
            plan.some_rows = rng.random() < 0.7
            plan.arising = rng.random() < 0.5
        plan._draw_more(random.Random(f"more {seed}"))
        plan._draw_backups(random.Random(f"backups {seed}"))
        plan._draw_joins(random.Random(f"joins {seed}"))
        return plan

    def _draw_more(self, rng: random.Random) -> None:
        """What was added later, by a generator of its own: the rest stays as it was."""
        if self.optimizer:
            self.algorithm = rng.choice(("SGD", "SGD", "momentum", "Adam", "Ftrl", "LARS"))
        if self.optimizer and rng.random() < 0.15:
            some = ("sync", "async", "ssp:0", "ssp:2")
            self.modes = [[rng.choice(some) for _ in sizes] for sizes in self.stores]
            self.one_trip = False
        last = rng.choice((2.0, 6.0, 20.0))
        if self.on_worker_loss == "abort" and self.optimizer and rng.random() < 0.12:
            if not any(fault.role == "worker" for fault in self.faults):
                self.on_worker_loss = "restart"
                for _ in range(rng.randint(1, 2)):
                    kind = rng.choice(("kill", "kill", "sleep"))
                    asleep = self.dead_after * rng.uniform(1.5, 2.0)
                    when, pick = rng.uniform(0.0, last), rng.random()
                    self.faults.append(Fault(kind, "worker", when, pick, asleep))
        if self.on_worker_loss == "restart" and not self.rows and rng.random() < 0.1:
            self.compression = _described({"type": rng.choice(("2bit", "bf16", "fp16"))})
        if rng.random() < 0.07:
            # losses one after another, each soon after the one before is made good
            self.servers, self.replicas = rng.randint(4, 5), 2
            self.shards = rng.choice((4, 8))
            self.kernels = False
            for number in range(rng.randint(2, 4)):
                when = 0.5 + number * rng.uniform(0.3, 5.0)
                kind = rng.choice(("kill", "kill", "sleep"))
                asleep = self.dead_after * rng.uniform(1.5, 2.0)
                self.faults.append(Fault(kind, "server", when, rng.random(), asleep))
        if rng.random() < 0.3:
            for _ in range(rng.randint(1, 3)):
                kind = rng.choice(("pause", "cut", "deaf", "partition"))
                role = rng.choice(("server", "worker", "scheduler"))
                seconds = rng.uniform(0.2, 6.0)
                self.faults.append(Fault(kind, role, rng.uniform(0.0, last), rng.random(), seconds))
        if rng.random() < 0.2:
            self.pipe = rng.uniform(0.1, 2.0)
        self.states = self.optimizer and not self.hyper and rng.random() < 0.2
        if rng.random() < 0.3 and self.optimizer:
            longer = rng.choice((1, 2, 4))
            self.steps = [steps * longer for steps in self.steps]
            self.saves = SavePlan.draw(rng, self.steps)
            if any("sync" in modes for modes in self.modes):
                # who saves in the middle of others' rounds ends them and itself by a deadline
                self.saves = replace(self.saves, by_hand=())
        # a command that waits for a later push than another key's has no common round
        if not self.hyper:
            self.skips = rng.random() < 0.3
        if rng.random() < 0.25:
            self.think = rng.choice((0.5, 3.0, 10.0))
        if rng.random() < 0.08:
            roles = ["server"] * (self.replicas > 0) + ["worker"] * (
                self.on_worker_loss == "restart"
            )
            for role in roles:
                when, seconds = rng.uniform(0.5, 4.0), self.dead_after * rng.uniform(1.5, 2.0)
                self.faults.append(Fault("outcast", role, when, rng.random(), seconds))

    def _draw_backups(self, rng: random.Random) -> None:
        """Rounds that close without their slowest members."""
        possible = self.sync and self.optimizer and self.workers > 1 and not self.modes
        if possible and self.on_worker_loss != "restart" and rng.random() < 0.4:
            self.backups = rng.randint(1, min(2, self.workers - 1))
            self.reads = False
            self.last_barrier = rng.random() < 0.4
        elif self.sync and self.workers > 2 and not self.modes and not self.rows:
            self.tight = rng.random() < 0.4

    def _draw_joins(self, rng: random.Random) -> None:
        """Some join a job that is long enough for it."""
        longer = rng.randint(3, 5)
        self.joins = draw_joins(rng, max(self.steps) + longer)
        if self.backups or self.saves is not None:
            self.joins = []
        if self.joins:
            self.steps = [steps + longer for steps in self.steps]
            self.optimizer = self.optimizer or rng.random() < 0.9
            self.reads = self.sync and rng.random() < 0.8

    def _draw_faults(self, rng: random.Random) -> None:
        """What befalls the servers: with replicas much, without only what nobody notices."""
        if self.servers > 1 and rng.random() < 0.7:
            self.replicas = rng.randint(1, min(2, self.servers - 1))
            self.shards = rng.choice((2, 4, 8))
        last = rng.choice((2.0, 6.0, 20.0))
        count = rng.choice((0, 1, 2, 4)) if self.replicas else rng.choice((0, 1))
        kinds = ["pause", "cut", "terminate"]
        if self.replicas:
            kinds += ["kill", "kill", "sleep"]
        for _ in range(count):
            kind, seconds = rng.choice(kinds), rng.uniform(0.2, 3.0)
            if kind == "sleep":
                seconds = self.dead_after * rng.uniform(1.5, 2.0)
            fault = Fault(kind, "server", rng.uniform(0.0, last), rng.random(), seconds)
            self.faults.append(fault)
        if rng.random() < 0.25 and self.sync and self.optimizer:
            self.on_worker_loss = "restart"
            for _ in range(rng.randint(1, 3)):
                when = rng.uniform(0.0, last)
                self.faults.append(Fault("kill", "worker", when, rng.random()))
        elif rng.random() < 0.1:
            self.on_worker_loss = rng.choice(("abort", "shrink"))
            self.faults.append(Fault("kill", "worker", rng.uniform(0.0, 4.0), rng.random()))
        if rng.random() < 0.3:
            for _ in range(rng.randint(1, 2)):
                when, seconds = rng.uniform(0.0, last), rng.uniform(0.0, 2.0)
                self.faults.append(Fault("kill", "scheduler", when, 0.0, seconds))
        self.kernels = self.replicas > 0 and rng.random() < 0.15

    @property
    def server_memory(self) -> int:
        """Bytes that a server may hold; 0: no limit."""
        if not self.tight:
            return 0
        sizes = [size for store in self.stores for size in store]
        model = Model(np.zeros(1, np.float32), self.update)
        chunk = max(sizes) if self.update == "LARS" else CHUNK // 4
        arrays = 2 + model.states + (self.on_worker_loss == "restart")
        return 4 * (sum(sizes) * arrays + chunk)

    # ---- payloads -------------------------------------------------------------------------

    def specs(self, store: int) -> tuple[KeySpec, ...]:
        """The keys of a store."""
        return tuple(
            KeySpec(
                name=f"k{i}",
                numeric=False,
                shape=(size, 1) if self.rows else (size,),
                dtype="float32",
                storage="row_sparse" if self.rows else "default",
                whole=self.update == "LARS",
                consistency=self.consistency(store, i),
                compression=self.compression,
                initializer=self._initializer.describe() if self.arising else "",
            )
            for i, size in enumerate(self.stores[store])
        )

    def consistency(self, store: int, key: int) -> str:
        """As a key's entry spells it; empty: as the type of its store says."""
        if self.modes:
            return self.modes[store][key]
        if self.backups:
            return backup_mode(self.backups)
        return "" if self.staleness is None else f"ssp:{self.staleness}"

    @property
    def update(self) -> str:
        """The optimizer on the servers; empty: none. Rows are only updated where they are named."""
        if not self.optimizer:
            return ""
        return "SGD" if self.rows else self.algorithm

    def is_sync(self, store: int, key: int) -> bool:
        """Whether a key closes rounds."""
        return is_sync(self.consistency(store, key), self.sync)

    def bound(self, store: int, key: int) -> int | None:
        """The staleness of a key that has a bound."""
        return staleness_of(self.consistency(store, key))

    def first(self, store: int, key: int, rank: int) -> Array:
        """First values by a worker; rank 0's count, the others' differ."""
        rng = np.random.default_rng([self.seed, 1, store, key, rank])
        values = rng.standard_normal(self.stores[store][key]).astype(np.float32)
        if self.arising:
            drawn = self._initializer.drawer(f"k{key}", 1, np.float32)(np.arange(values.size))
            values = np.where(np.arange(values.size) % 3 == 0, values, drawn[:, 0])
        return values

    @property
    def _initializer(self) -> RowInitializer:
        return RowInitializer("uniform", -1.0, 1.0, self.seed)

    def payload(
        self, store: int, key: int, rank: int, step: int, n: int, incarnation: int = 1
    ) -> Array:
        """One contribution, unlike any other; a successor repeats those of sync keys (R25)."""
        name = [self.seed, 2, store, key, rank, step, n]
        if not self.is_sync(store, key) and incarnation > 1:
            name.append(incarnation)
        rng = np.random.default_rng(name)
        size = self.stores[store][key]
        scale = 10.0 ** rng.integers(-3, 4, size)
        values = (rng.standard_normal(size) * scale).astype(np.float32)
        if self.some_rows and self.is_sync(store, key):
            values[rng.random(size) < 0.6] = 0.0  # a row that is not pushed
        return values

    def blend(self, payload: Array, weight: Array) -> Array:
        """What is pushed: the payload, and something of what was read."""
        if not self.reads:
            return payload
        blended = payload + np.float32(0.125) * weight
        return np.where(payload == 0, payload, blended) if self.some_rows else blended

    def rate(self, rank: int, step: int) -> float | None:
        """Learning rate that a worker sets before a step's pushes."""
        if not (self.optimizer and self.hyper) or (self.seed + rank + step) % 3:
            return None
        return 0.25 + 0.125 * rank + 0.0625 * step

    def pushed(self, key: int, step: int) -> bool:
        """Whether a key is pushed in a step."""
        skips = self.skips and self.sync and not (self.modes or self.backups)
        return not (skips and key % 2 and (self.seed + step) % 3)

    def order(self, rank: int, step: int, store: int) -> list[int]:
        """In which order a worker posts its keys; another one for each."""
        keys = [key for key in range(len(self.stores[store])) if self.pushed(key, step)]
        random.Random((self.seed, rank, step, store).__hash__()).shuffle(keys)
        return keys

    # ---- the reference --------------------------------------------------------------------

    def live(self, step: int, store: int, joined: Sequence[Joined] = ()) -> list[tuple[int, bool]]:
        """Workers that take part in a step, by rank; whether each has joined."""
        live = [(rank, False) for rank in range(self.workers) if step < self.steps[rank]]
        if step < max(self.steps):
            live += [(one.rank, True) for one in joined if one.begins[store] <= step]
        return sorted(live)

    def final(self, store: int, key: int, mine: slice, joined: Sequence[Joined] = ()) -> Array:
        """A chunk's weights, `mine` of its key, at the end of an undisturbed synchronous job."""
        return self.model(store, key, mine, max(self.steps), joined).weight

    def model(
        self, store: int, key: int, mine: slice, before: int, joined: Sequence[Joined] = ()
    ) -> Model:
        """A chunk before a step of such a job."""
        model = Model(self.first(store, key, 0)[mine], self.update)
        received: dict[Any, Received] = defaultdict(lambda: Received(self.compression))
        lr = LR
        for step in range(before):
            if not self.pushed(key, step):
                continue
            live = self.live(step, store, joined)
            rates = [self.rate(rank, step) for rank, _ in live]
            lr = next((rate for rate in rates if rate is not None), lr)
            base = model.weight
            for n in range(self.pushes):
                parts = [
                    received[who](self.blend(self.payload(store, key, who[0], step, n)[mine], base))
                    for who in live
                ]
                model.apply(parts, lr)
        return model


def _described(given: dict[str, Any]) -> str:
    codec = compression.create(given)
    assert codec is not None
    return codec.describe()

# SPDX-License-Identifier: Apache-2.0
"""The disks of a simulated job: slow, sometimes full; what is published must be a cut.

A file is there or not, as :mod:`kvtrain.checkpoint.durable` writes them; each takes its own
time, so they are done in any order. A process that dies has written only what was done. When
a manifest is published, PROTOCOL's I12 and the content of its parts are checked.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from kvtrain.ps.core import messages as m
from kvtrain.ps.core.effects import Discard, Disk, LoadShards, Publish, SavePart
from kvtrain.ps.core.membership import LAUNCHER, NodeId
from kvtrain.ps.core.messages.disk import PartWritten, Published, ShardsLoaded
from kvtrain.ps.core.saved import SavedChunk, SavedJob, SavedPart
from kvtrain.ps.core.shards import ChunkId
from kvtrain.testing.plans import Plan
from kvtrain.testing.predicates import Witness, elements

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Saved:
    """A published checkpoint, with its chunks."""

    path: str
    job: SavedJob
    chunks: dict[ChunkId, SavedChunk] = field(repr=False)


class World(Protocol):
    """What disks need of the simulation around them."""

    plan: Plan
    rng: random.Random
    now: float
    witness: Witness

    def at(self, when: float, action: Any) -> None:
        """Do `action` at `when`."""

    def deliver(self, target: Any, sender: NodeId, message: m.Message) -> None:
        """A message is there."""

    def note(self, text: str) -> None:
        """A line of the transcript."""


class Disks:
    """Carries out disk effects after a while.

    Parameters
    ----------
    simulation : World
        Time, chance, and what was committed.
    restored : Saved, optional
        The checkpoint that the job goes on from.
    """

    def __init__(self, simulation: World, restored: Saved | None = None) -> None:
        self._sim = simulation
        self._restored = restored
        self._files: dict[str, tuple[SavePart, str]] = {}
        self.published: list[Saved] = []

    def carry_out(self, process: Any, effect: Disk) -> None:
        """Begin; the answer comes later, unless the process has died by then."""
        sim, saves = self._sim, self._sim.plan.saves
        match effect:
            case LoadShards():
                sim.at(sim.now, lambda: sim.deliver(process, LAUNCHER, self._load(effect)))
                return
            case Discard():
                named = {part.file for saved in self.published for part in saved.job.parts}
                for name in [n for n, (held, _) in self._files.items() if n not in named]:
                    if self._files[name][0].attempt == effect.attempt:
                        del self._files[name]
                return
            case SavePart():
                # what is written must be what was there when it was asked for
                sum_ = _sum(effect)
        assert saves is not None, "nobody has asked for a checkpoint"
        full = sim.now < sim.plan.faults_end and sim.rng.random() < saves.full

        def done() -> None:
            late = sim.rng.random() < 0.5
            if not process.alive and not late:
                return
            answer: m.Message
            if full:
                answer = _refused(effect)
            elif isinstance(effect, SavePart):
                assert _sum(effect) == sum_, f"R51: {effect} changed while it was written"
                answer = self._save(effect, sum_)
            else:
                answer = self._publish(effect)
            sim.deliver(process, LAUNCHER, answer)

        sim.at(sim.now + sim.rng.uniform(0.0, saves.slowest), done)

    def _save(self, effect: SavePart, sum_: str) -> m.Message:
        held = self._files.get(effect.file)
        assert held is None or held[1] == sum_, f"R51: {effect.file} is written twice"
        self._files[effect.file] = (effect, sum_)
        found = tuple(saved.chunk for saved in effect.chunks)
        part = SavedPart(effect.file, effect.shard, effect.view, 1, sum_, found)
        return PartWritten(attempt=effect.attempt, shard=effect.shard, part=part)

    def _load(self, effect: LoadShards) -> m.Message:
        saved = self._restored
        assert saved is not None and effect.manifest == saved.path
        entries = {entry.id: entry for entry in saved.job.keys}
        shards = self._sim.plan.shards
        found = tuple(
            part
            for chunk, part in saved.chunks.items()
            if entries[chunk.key].shard(chunk.part, shards) in effect.shards
        )
        return ShardsLoaded(job=saved.job, chunks=found)

    def _publish(self, effect: Publish) -> m.Message:
        """I12: the manifest's parts are of its own attempt, and hold what its cut says."""
        chunks: dict[ChunkId, SavedChunk] = {}
        for part in effect.job.parts:
            assert part.file in self._files, f"I12: {part.file} does not exist"
            held, sum_ = self._files[part.file]
            assert sum_ == part.sha256, f"I12: {part.file} is another file"
            assert held.attempt == effect.attempt, f"I12: {part.file} is of {held.attempt}"
            assert (held.shard, held.view) == (part.shard, part.view), f"I12: {part}"
            for saved in held.chunks:
                assert saved.chunk not in chunks, f"I12: {saved.chunk} is there twice"
                chunks[saved.chunk] = saved
        wanted = {chunk for entry in effect.job.keys for chunk in entry}
        assert wanted == chunks.keys(), f"I12: without {wanted - chunks.keys()}"
        path = f"saved/checkpoint-{len(self.published)}"
        found = Saved(path, effect.job, chunks)
        self._check(found)
        self._sim.note(f"{path} is {effect.job.kind}: {[s.step for s in effect.job.stores]}")
        self.published.append(found)
        return Published(attempt=effect.attempt, path=path)

    def _restarted(self) -> bool:
        """Whether a worker may have died in the middle of a step, and begun again."""
        kinds = {fault.kind for fault in self._sim.plan.faults if fault.role == "worker"}
        return self._sim.plan.on_worker_loss == "restart" and bool(kinds & {"kill", "sleep"})

    def _check(self, found: Saved) -> None:
        """What a checkpoint holds was committed, and is the cut that the manifest names."""
        witness, plan = self._sim.witness, self._sim.plan
        steps = {store.number: store.step for store in found.job.stores}
        counts: dict[int, dict[int, int]] = {}
        for chunk, saved in found.chunks.items():
            store, key = witness.key_of(chunk)
            states, records = witness.states_of(chunk), witness.records[chunk]
            assert saved.version < len(states), f"R51: {chunk} at a version nobody committed"
            values = _values(saved, states[saved.version])
            same = values.tobytes() == states[saved.version].tobytes()
            assert same, f"R51: {chunk} is not what version {saved.version} was"
            inside = records[: saved.version]
            if found.job.kind == "exact":
                step, after = steps[store], records[saved.version :]
                assert all(record.round.step < step for record in inside), (
                    f"R49: {chunk} has rounds of step {step} and later"
                )
                assert all(record.round.step >= step for record in after), (
                    f"R49: {chunk} lacks rounds of steps before {step}"
                )
                if not (witness.lost or plan.compression or plan.backups):
                    mine = elements(witness.entries[chunk.key], chunk.part)
                    wanted = plan.model(store, key, mine, step).weight
                    assert values.tobytes() == wanted.tobytes(), (
                        f"I6: {chunk} before step {step} has other bits than the reference"
                    )
            elif found.job.kind == "aligned" and not self._restarted():
                # one that is gone may have died in the middle of a step
                given = {rank: 0 for rank in range(plan.workers) if rank not in witness.gone}
                for record in inside:
                    for node in record.members:
                        if node.rank in given:
                            given[node.rank] += 1
                assert all(count % plan.pushes == 0 for count in given.values()), (
                    f"R50: {chunk} was saved in the middle of a step: {given}"
                )
                first = counts.setdefault(store, given)
                assert first == given, f"R50: chunks of store {store} have {first} and {given}"
                if plan.staleness is not None and not (plan.saves and plan.saves.by_hand):
                    common = {
                        rank: min(max(first.values()), steps_ * plan.pushes)
                        for rank, steps_ in enumerate(plan.steps)
                    }
                    assert witness.lost or given == common, f"R50: no common step: {given}"


def _values(saved: SavedChunk, like: Array) -> Array:
    """The weights, those of rows that have not arisen too, as the model has them there."""
    if saved.rows is None:
        return saved.weight
    out = like.copy()
    out[saved.rows] = saved.weight
    return out


def _refused(effect: SavePart | Publish) -> m.Message:
    text = "No space left on device"
    if isinstance(effect, SavePart):
        return PartWritten(attempt=effect.attempt, shard=effect.shard, error=text)
    return Published(attempt=effect.attempt, error=text)


def _sum(effect: SavePart) -> str:
    digest = hashlib.sha256()
    for saved in effect.chunks:
        digest.update(f"{saved.chunk} {saved.version} {saved.image} {saved.extra}".encode())
        for array in saved.arrays:
            digest.update(array.tobytes())
    return digest.hexdigest()

# SPDX-License-Identifier: Apache-2.0
"""The scheduler's directory: stores and keys, on which all workers must agree."""

from __future__ import annotations

from dataclasses import dataclass, field

from kvtrain.errors import KeyMismatch
from kvtrain.ps.core.saved import SavedJob
from kvtrain.ps.core.shards import KeyEntry, KeySpec, make_entry


@dataclass(slots=True)
class Directory:
    """What was opened and declared, and by whom first."""

    chunk_bytes: int
    shards: int
    #: store -> (type, sync, first rank)
    stores: dict[int, tuple[str, bool, int]] = field(default_factory=dict)
    keys: dict[tuple[int, str], KeyEntry] = field(default_factory=dict)
    #: (store, name) -> rank that declared it first
    declared_by: dict[tuple[int, str], int] = field(default_factory=dict)
    next_shard: int = 0
    #: chunks of a row-sparse key: one for each server of the start
    row_parts: int = 1
    #: of the checkpoint that the job goes on from: store -> step, and store -> type
    resume: dict[int, int] = field(default_factory=dict)
    resumed_types: dict[int, str] = field(default_factory=dict)

    def restore(self, job: SavedJob) -> None:
        """Go on with the stores and keys of a checkpoint."""
        for store in job.stores:
            self.resume[store.number] = store.step
            self.resumed_types[store.number] = store.type
        for entry in job.keys:
            self.keys[entry.store, entry.spec.name] = entry
            self.next_shard = (entry.first_shard + entry.chunks) % self.shards

    def open_store(self, store: int, type_: str, sync: bool, rank: int) -> None:
        """Agree on a store; a difference is an error that shows both."""
        saved = self.resumed_types.get(store, type_)
        if saved != type_:
            raise KeyMismatch(
                f"store {store} is {saved!r} in the checkpoint and is opened as {type_!r}; a job "
                "goes on from a checkpoint with the same types of stores"
            )
        held = self.stores.setdefault(store, (type_, sync, rank))
        if held[:2] != (type_, sync):
            raise KeyMismatch(
                f"store {store} was opened as {held[0]!r} by worker-{held[2]} and as {type_!r} by "
                f"worker-{rank}; every worker must call kv.create with the same types in the "
                "same order"
            )

    def declare(self, store: int, spec: KeySpec, rank: int) -> tuple[KeyEntry, bool]:
        """The key's entry and whether it is new; another shape, dtype or storage is an error."""
        name = (store, spec.name)
        held = self.keys.get(name)
        if self.resume and name not in self.declared_by:
            self._check_resumed(store, spec, held, rank)
        if held is None:
            number = 1 + max((e.id for e in self.keys.values()), default=-1)
            entry = make_entry(
                number, store, spec, self.chunk_bytes, self.next_shard, self.row_parts
            )
            self.next_shard = (self.next_shard + entry.chunks) % self.shards
            self.keys[name] = entry
            self.declared_by[name] = rank
            return entry, True
        if held.spec != spec:
            raise KeyMismatch(
                f"key {spec.name!r} of store {store} was initialised with "
                f"{held.spec.describe()} by worker-{self.declared_by[name]} and with "
                f"{spec.describe()} by worker-{rank}"
            )
        return held, False

    def _check_resumed(self, store: int, spec: KeySpec, held: KeyEntry | None, rank: int) -> None:
        """The first declaration of a key in a job that goes on from a checkpoint."""
        if store not in self.resume:
            return
        if held is None:
            saved = sorted(name for number, name in self.keys if number == store)
            known = [name for name in saved if (store, name) not in self.declared_by]
            more = f" and {len(known) - 5} more" if len(known) > 5 else ""
            raise KeyMismatch(
                f"this is another model than the one in the checkpoint: key {spec.name!r} "
                f"({spec.describe()}) is not in it; it holds "
                f"{', '.join(map(repr, known[:5])) or 'no other keys'}{more}"
            )
        if held.spec != spec:
            raise KeyMismatch(
                f"this is another model than the one in the checkpoint: key {spec.name!r} was "
                f"saved with {held.spec.describe()} and has {spec.describe()} now"
            )
        self.declared_by[store, spec.name] = rank

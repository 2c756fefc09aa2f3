# SPDX-License-Identifier: Apache-2.0
"""The scheduler's directory: stores and keys, on which all workers must agree."""

from __future__ import annotations

from dataclasses import dataclass, field

from kvtrain.errors import KeyMismatch
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

    def open_store(self, store: int, type_: str, sync: bool, rank: int) -> None:
        """Agree on a store; a difference is an error that shows both."""
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
        if held is None:
            entry = make_entry(
                len(self.keys), store, spec, self.chunk_bytes, self.next_shard, self.row_parts
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

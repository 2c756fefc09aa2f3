# SPDX-License-Identifier: Apache-2.0
"""Where shards lie when servers come and go; pure functions on tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from kvtrain.ps.core.membership import Epoch, NodeId, ServerInfo, ShardInfo, Table


def primaries(shards: Iterable[ShardInfo]) -> Counter[NodeId]:
    """How many shards each server decides for."""
    return Counter(info.replicas[0] for info in shards)


def loads(shards: Iterable[ShardInfo]) -> Counter[NodeId]:
    """How many shards each server holds or learns."""
    found: Counter[NodeId] = Counter()
    for info in shards:
        found.update((*info.replicas, *info.learners))
    return found


def without(servers: tuple[ServerInfo, ...], gone: NodeId) -> tuple[ServerInfo, ...]:
    """The servers that are left."""
    return tuple(info for info in servers if info.node != gone)


def with_learners(
    table: Table, wanted: int, busy: Collection[int], leaving: Collection[NodeId]
) -> tuple[ShardInfo, ...]:
    """Give shards that have fewer than `wanted` servers learners, the least loaded first.

    Shards in `busy` (an election is going on) wait; servers in `leaving` do not count.
    """
    load = loads(table.shards)
    free = [info.node for info in table.servers if info.node not in leaving]
    placed: list[ShardInfo] = []
    for number, info in enumerate(table.shards):
        have = [n for n in (*info.replicas, *info.learners) if n not in leaving]
        while number not in busy and len(have) < wanted:
            spare = [n for n in free if n not in have]
            if not spare:
                break
            chosen = min(spare, key=lambda n: (load[n], n))
            load[chosen] += 1
            have.append(chosen)
            info = replace(info, learners=(*info.learners, chosen))
        placed.append(info)
    return tuple(placed)


def promote(
    info: ShardInfo, view: Epoch, lsn: Callable[[NodeId], int], deciding: Counter[NodeId]
) -> ShardInfo:
    """The replica with the longest log decides now; of equal ones the one with least to do."""
    best = max(lsn(n) for n in info.replicas)
    longest = [n for n in info.replicas if lsn(n) == best]
    first = min(longest, key=lambda n: (deciding[n], info.replicas.index(n)))
    deciding[first] += 1
    others = tuple(n for n in info.replicas if n != first)
    return replace(info, view=view, replicas=(first, *others))

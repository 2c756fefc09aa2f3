# SPDX-License-Identifier: Apache-2.0
"""``mx.kv``: stores that sum arrays over contexts and workers.

=====================================================  ===========================================
type                                                   what it is
=====================================================  ===========================================
local, device, local_update_cpu, local_allreduce_cpu,  one process; sums over contexts
local_allreduce_device
dist_sync, dist_device_sync, dist_sync_device, dist    a job; a round closes when every worker has
                                                       contributed, or all but the slowest
                                                       (``backup_workers=1``)
dist_async, dist_device_async, dist_async_device       a job; every push is applied at once
dist_ssp (``staleness=3``)                             a job; every push is applied at once, and a
                                                       read waits for workers that are more than
                                                       `staleness` steps behind
=====================================================  ===========================================
"""

from __future__ import annotations

from kvtrain.config import Config
from kvtrain.errors import ConfigError, NotLaunched, UnknownName
from kvtrain.kvstore.base import KVStore
from kvtrain.kvstore.dist import DistKVStore
from kvtrain.kvstore.local import LocalKVStore
from kvtrain.kvstore.plugin import KVStoreBase
from kvtrain.ps.core.backup import backup_mode
from kvtrain.ps.core.clocks import mode
from kvtrain.ps.net.client import worker_node
from kvtrain.ps.net.foreign import prepare

_LOCAL = (
    "local",
    "device",
    "local_update_cpu",
    "local_allreduce_cpu",
    "local_allreduce_device",
)
#: distributed types -> consistency of their keys
_DISTRIBUTED = {
    "dist": "sync",
    "dist_sync": "sync",
    "dist_device_sync": "sync",
    "dist_sync_device": "sync",
    "dist_async": "async",
    "dist_device_async": "async",
    "dist_async_device": "async",
    "dist_ssp": "ssp",
}


def create(
    name: str = "local", *, staleness: int | None = None, backup_workers: int | None = None
) -> KVStoreBase:
    """A new store.

    Parameters
    ----------
    name : str
        Exactly one of the types in the table above, or, in any case, the name of a class that
        was registered with ``KVStoreBase.register``.
    staleness : int, optional
        For ``dist_ssp``: how many steps a worker may be ahead of the slowest live one when it
        reads; default 0.
    backup_workers : int, optional
        For ``dist_sync`` and its aliases: how many workers a round may close without; default 0.
        A gradient that comes too late is dropped and counted (``kv.stats()``), and its worker
        goes on at the newest step: ``kv.step`` jumps, so a loop that shall end with the others
        asks it: ``while kv.step < steps``. Needs the optimizer on the servers. Every worker must
        give the same.

    Raises
    ------
    UnknownName
        There is no such type; lists the known ones.
    NotLaunched
        A distributed store outside a job; says how to launch one.
    ConfigError
        A staleness or number of backup workers that is no whole number from 0, is for another
        type, or is not below the number of workers; or a job that restarts lost workers.
    """
    if not isinstance(name, str):
        raise TypeError("name must be a string")
    if name in KVStoreBase.kv_registry and name not in (*_LOCAL, *_DISTRIBUTED):
        return KVStoreBase.kv_registry.get(name)()
    if backup_workers is not None and _DISTRIBUTED.get(name) != "sync":
        raise ConfigError(
            f"kv.create({name!r}): backup_workers={backup_workers!r} is for dist_sync only"
        )
    if name in _LOCAL:
        if staleness is not None:
            raise ConfigError(f"kv.create({name!r}): staleness={staleness!r} is for dist_ssp only")
        return LocalKVStore(name)
    if name not in _DISTRIBUTED:
        known = [*_LOCAL, *_DISTRIBUTED, *KVStoreBase.kv_registry]
        raise UnknownName("kvstore type", name, tuple(sorted(known)))
    consistency = mode(_DISTRIBUTED[name], staleness)
    if backup_workers is not None:
        consistency = backup_mode(backup_workers)
    config = Config.from_environ()
    if config.role != "worker" or config.scheduler is None:
        raise NotLaunched(name)
    config = prepare(config)
    return DistKVStore(name, consistency, worker_node(config), config)


__all__ = ["KVStore", "KVStoreBase", "create"]

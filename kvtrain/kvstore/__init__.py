# SPDX-License-Identifier: Apache-2.0
"""``mx.kv``: stores that sum arrays over contexts and workers.

=====================================================  ===========================================
type                                                   what it is
=====================================================  ===========================================
local, device, local_update_cpu, local_allreduce_cpu,  one process; sums over contexts
local_allreduce_device
dist_sync, dist_device_sync, dist_sync_device, dist    a job; a round closes when every worker has
                                                       contributed
dist_async, dist_device_async, dist_async_device       a job; every push is applied at once
=====================================================  ===========================================
"""

from __future__ import annotations

from kvtrain.config import Config
from kvtrain.errors import NotLaunched, UnknownName
from kvtrain.kvstore.base import KVStore
from kvtrain.kvstore.dist import DistKVStore
from kvtrain.kvstore.local import LocalKVStore
from kvtrain.ps.net.client import worker_node

_LOCAL = (
    "local",
    "device",
    "local_update_cpu",
    "local_allreduce_cpu",
    "local_allreduce_device",
)
#: distributed types -> whether rounds are synchronous
_DISTRIBUTED = {
    "dist": True,
    "dist_sync": True,
    "dist_device_sync": True,
    "dist_sync_device": True,
    "dist_async": False,
    "dist_device_async": False,
    "dist_async_device": False,
}


def create(name: str = "local") -> KVStore:
    """A new store.

    Parameters
    ----------
    name : str
        Exactly one of the types in the table above.

    Raises
    ------
    UnknownName
        There is no such type; lists the known ones.
    NotLaunched
        A distributed store outside a job; says how to launch one.
    """
    if not isinstance(name, str):
        raise TypeError("name must be a string")
    if name in _LOCAL:
        return LocalKVStore(name)
    if name not in _DISTRIBUTED:
        raise UnknownName("kvstore type", name, tuple(sorted([*_LOCAL, *_DISTRIBUTED])))
    config = Config.from_environ()
    if config.role != "worker" or config.scheduler is None:
        raise NotLaunched(name)
    return DistKVStore(name, _DISTRIBUTED[name], worker_node(config), config)


__all__ = ["KVStore", "create"]

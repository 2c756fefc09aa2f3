# SPDX-License-Identifier: Apache-2.0
"""Decides where a Trainer's optimizer runs; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvtrain.errors import ConfigError
from kvtrain.kvstore import KVStore


@dataclass(frozen=True, slots=True)
class UpdatePolicy:
    """What a Trainer does in a step."""

    #: whether there is a store at all
    store: bool
    #: the optimizer runs in the store (on the servers), else in this process
    on_store: bool


def choose(
    store_type: str | None,
    contexts: int,
    wanted: bool | None,
    sparse_weights: bool = False,
    sparse_grads: bool = False,
) -> UpdatePolicy:
    """Where the optimizer runs.

    Parameters
    ----------
    store_type : str or None
        Type of the store; None: no store was asked for.
    contexts : int
        Contexts that each parameter lives on.
    wanted : bool or None
        The user's ``update_on_kvstore``.
    sparse_weights : bool
        Some weights are row-sparse: they live in the store, and so does the optimizer.
    sparse_grads : bool
        Some gradients are sparse, all weights dense.

    Raises
    ------
    ConfigError
        The user's wish cannot be met; says why.
    """
    distributed = store_type is not None and "dist" in store_type
    if sparse_weights:
        if store_type is None:
            raise ConfigError(
                "row_sparse parameters live in a store: give kvstore='local', 'device' or a "
                "distributed type, not None"
            )
        if wanted is False:
            raise ConfigError("Cannot set update_on_kvstore=False when sparse weights are present.")
        return UpdatePolicy(store=True, on_store=True)
    if store_type is None or (contexts == 1 and not distributed):
        if wanted and store_type is None:
            raise ConfigError("update_on_kvstore=True needs a kvstore")
        return UpdatePolicy(store=False, on_store=False)
    if distributed and ("async" in store_type or "ssp" in store_type) and wanted is False:
        raise ConfigError(
            "Please set update_on_kvstore=True when training in async or ssp mode: with "
            "update_on_kvstore=False every worker would apply the others' gradients out of step"
        )
    if sparse_grads and distributed and wanted is False:
        raise ConfigError(
            "Cannot set update_on_kvstore=False on dist kvstore when sparse gradients are present."
        )
    if sparse_grads and wanted is None:
        wanted = distributed  # in one process the rows are better updated in place
    return UpdatePolicy(store=True, on_store=wanted is not False)


def custom(policy: UpdatePolicy, store: Any, wanted: bool | None) -> UpdatePolicy:
    """The policy for an opened store: one of a class of somebody else says what it can.

    Raises
    ------
    ConfigError
        The optimizer is wanted in a store that cannot run one.
    """
    if isinstance(store, KVStore):
        return policy
    capable = bool(store.is_capable("optimizer"))
    if wanted and not capable:
        raise ConfigError(
            f"update_on_kvstore=True: the store {type(store).__name__} cannot run an optimizer"
        )
    return UpdatePolicy(store=True, on_store=capable and wanted is not False)

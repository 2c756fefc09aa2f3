# SPDX-License-Identifier: Apache-2.0
"""The Trainer: applies an optimizer to parameters, through a store where there is one."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable
from typing import Any

from kvtrain import ndarray as nd
from kvtrain import optimizer as opt
from kvtrain.config import Config, resumed
from kvtrain.errors import ConfigError
from kvtrain.gluon.overlap import Overlap
from kvtrain.gluon.parameter import Parameter, ParameterDict
from kvtrain.gluon.update_policy import UpdatePolicy, choose, custom
from kvtrain.kvstore import KVStoreBase
from kvtrain.kvstore import create as create_store
from kvtrain.kvstore.dist import DistKVStore


class Trainer:
    """Applies an optimizer to a set of parameters.

    Parameters
    ----------
    params : ParameterDict, dict or list of Parameter
    optimizer : str or Optimizer
    optimizer_params : dict
        Arguments for the optimizer, if it is given by name.
    kvstore : str, KVStore or None
        Where gradients are summed over contexts and workers.
    compression_params : dict, optional
        Passed to the store.
    update_on_kvstore : bool, optional
        Whether the optimizer runs in the store (on the servers); chosen by default.
    overlap : bool
        Send each gradient as soon as backward is done with its weight, while backward goes on;
        weights are awaited at their first use in the next forward. Only with a distributed
        store and one context per worker; one backward per step, on a loss with one element per
        sample (or on one of constant size, with a constant batch size).
    """

    def __init__(
        self,
        params: Any,
        optimizer: Any,
        optimizer_params: dict[str, Any] | None = None,
        kvstore: Any = "device",
        compression_params: dict[str, Any] | None = None,
        update_on_kvstore: bool | None = None,
        overlap: bool = False,
    ) -> None:
        self._params = _parameters(params)
        self._index = {p.name: i for i, p in enumerate(self._params)}
        self._optimizer = self._make_optimizer(optimizer, optimizer_params or {})
        self._scale = self._optimizer.rescale_grad
        self._compression = compression_params
        self._wanted = update_on_kvstore
        if update_on_kvstore is None:
            self._wanted = Config.from_environ().update_on_kvstore
        self._store_given = kvstore
        self._store: Any = None
        self._policy: UpdatePolicy | None = None
        self._contexts = self._check_contexts()
        self._updaters = [opt.get_updater(self._optimizer) for _ in self._contexts]
        #: parameters whose values the store does not have yet
        self._to_init: list[Parameter] = []
        self._overlap = Overlap(self._post) if overlap else None
        for parameter in self._params:
            if parameter._stype != "default" and parameter._trainer not in (None, self):
                raise ConfigError(
                    f"Failed to set the trainer for Parameter '{parameter.name}' because it was "
                    "already set. More than one trainers for a row_sparse Parameter is not "
                    "supported."
                )
            parameter._trainer = self
        if self._overlap is not None:
            self._overlap.watch(self._trained())
        self._resumed = resumed() and _is_distributed(kvstore)
        if self._resumed:
            # the servers hold what was trained; nothing may be computed with fresh values
            self._open()
            self._init_params()

    def _has_values(self) -> None:
        """A parameter whose shape was not known has got its first values."""
        if self._resumed:
            self._init_params()

    def _make_optimizer(self, optimizer: Any, arguments: dict[str, Any]) -> opt.Optimizer:
        table = dict(enumerate(self._params))
        if isinstance(optimizer, opt.Optimizer):
            if arguments:
                raise ConfigError(
                    "optimizer_params must be None if optimizer is an instance of Optimizer "
                    "instead of str"
                )
            optimizer.param_dict = table
            return optimizer
        return opt.create(optimizer, param_dict=table, **arguments)

    def _check_contexts(self) -> list[Any]:
        contexts: list[Any] | None = None
        for parameter in self._params:
            mine = parameter.list_ctx()
            if contexts is not None and contexts != mine:
                raise ConfigError(
                    "All Parameters must be initialized on the same set of contexts, but "
                    f"Parameter {parameter.name} is initialized on {mine} while previous "
                    f"Parameters are initialized on {contexts}."
                )
            contexts = mine
        return contexts or []

    # ---- the store ------------------------------------------------------------------------

    def _open(self) -> UpdatePolicy:
        """Choose where the optimizer runs, and open the store."""
        if self._policy is not None:
            return self._policy
        self._contexts = self._check_contexts()
        given = self._store_given
        kind = given if given is None or isinstance(given, str) else given.type
        contexts = (
            max(2, len(self._contexts)) if isinstance(given, KVStoreBase) else len(self._contexts)
        )
        policy = choose(
            kind,
            contexts,
            self._wanted,
            any(p._stype != "default" for p in self._params),
            any(p._grad_stype != "default" for p in self._params),
        )
        if policy.store:
            self._store = given if isinstance(given, KVStoreBase) else create_store(given)
            policy = custom(policy, self._store, self._wanted)
            if self._compression:
                self._store.set_gradient_compression(self._compression)
            if policy.on_store:
                self._store.set_optimizer(self._optimizer)
            self._to_init = list(self._params)
        self._policy = policy
        return policy

    def _init_params(self) -> None:
        """Give the store the values of parameters that have them; all take rank 0's."""
        if self._store is None or not self._to_init:
            return
        ready = [p for p in self._to_init if not p._deferred_init]
        self._to_init = [p for p in self._to_init if p._deferred_init]
        dense = [p for p in ready if p._stype == "default"]
        if dense:
            names = [p.name for p in dense]
            values = [self._first_value(p) for p in dense]
            self._store._broadcast(names, values, [p.list_data() for p in dense])
            if isinstance(self._store, DistKVStore) and len(self._contexts) == 1:
                trained = [p for p in dense if p.grad_req != "null"]
                self._store._adopt([p.list_grad()[0] for p in trained])
                if self._policy is not None and self._policy.on_store:
                    weights = [p.list_data()[0] for p in trained]
                    self._store._adopt_weights([p.name for p in trained], weights)
        for parameter in ready:
            if parameter._stype != "default":  # its rows are pulled when they are asked for
                self._store.init(parameter.name, parameter._arrays()[0])

    def _first_value(self, parameter: Parameter) -> Any:
        """As the store shall hold it: servers update rows lazily where a key is stored by rows."""
        value = parameter.list_data()[0]
        assert self._store is not None
        if parameter._grad_stype != "row_sparse" or "dist" not in self._store.type:
            return value
        raw = value._read()
        ids = nd.arange(0, len(raw), dtype="int64")
        return nd.sparse.row_sparse_array((raw, ids), value.shape, dtype=value.dtype)

    def _row_sparse_pull(self, parameter: Parameter, outs: list[Any], row_id: Any) -> None:
        """Rows `row_id` (None: all) of a row-sparse parameter from the store into `outs`."""
        self._open()
        self._init_params()
        assert self._store is not None
        if row_id is None:
            row_id = nd.arange(0, outs[0].shape[0], dtype="int64")
        priority = -self._index[parameter.name]
        self._store.row_sparse_pull(parameter.name, outs, priority, row_id)

    def _reset_parameter(self, parameter: Parameter) -> None:
        """Called before a parameter is given new values: a store holds its own."""
        if self._policy is not None and self._policy.on_store and self._store is not None:
            if "dist" in self._store.type:
                raise ConfigError(
                    f"parameter {parameter.name!r}: its values are on the servers already; "
                    "set them before the first step"
                )
            self._store._replace(parameter.name, parameter)  # local stores take it over

    @property
    def kvstore(self) -> Any:
        """The store, once the first step has opened it."""
        return self._store

    @property
    def learning_rate(self) -> float:
        """The optimizer's present learning rate."""
        return self._optimizer.learning_rate

    @property
    def optimizer(self) -> opt.Optimizer:
        """The optimizer."""
        return self._optimizer

    def set_learning_rate(self, lr: float) -> None:
        """Set the learning rate, in this process and on the servers."""
        self._optimizer.set_learning_rate(lr)
        if self._policy is not None and self._policy.on_store and self._store is not None:
            self._store.set_hyper("learning_rate", lr)

    # ---- a step ---------------------------------------------------------------------------

    def step(self, batch_size: int, ignore_stale_grad: bool = False) -> None:
        """Sum gradients over contexts and workers, update the parameters, end the step.

        Parameters
        ----------
        batch_size : int
            Gradients are divided by it; with several workers the size of the whole batch.
        ignore_stale_grad : bool
            Pass over parameters whose gradient no backward has written since the last step.
        """
        policy = self._begin(batch_size, ignore_stale_grad)
        posted = self._overlap.settle(batch_size) if self._overlap is not None else set()
        if self._store is not None and policy.on_store:
            self._push_pull(update=True, ignore=ignore_stale_grad, posted=posted)
        else:
            if self._store is not None:
                self._push_pull(update=False, ignore=ignore_stale_grad, posted=posted)
            self._update_here(ignore_stale_grad)
        self._end()
        if self._overlap is not None and isinstance(self._store, DistKVStore):
            self._overlap.watch(self._trained())

    def _post(self, parameter: Parameter, batch_size: float) -> None:
        """Send one gradient during backward."""
        assert self._policy is not None and self._store is not None
        self._store._push_pull(
            [parameter.name],
            [parameter.list_grad()],
            [parameter.list_data() if self._policy.on_store else parameter.list_grad()],
            [-self._index[parameter.name]],
            self._scale / batch_size,
        )

    def allreduce_grads(self) -> None:
        """Only sum gradients over contexts and workers; `update` comes later."""
        policy = self._open()
        self._init_params()
        if policy.on_store:
            raise ConfigError(
                "allreduce_grads() when parameters are updated on kvstore is not supported. Try "
                "setting `update_on_kvstore` to False when creating trainer."
            )
        if self._store is not None:
            posted = self._overlap.drain() if self._overlap is not None else set()
            self._push_pull(update=False, ignore=True, posted=posted)

    def update(self, batch_size: int, ignore_stale_grad: bool = False) -> None:
        """Only update, with gradients that were summed by `allreduce_grads`."""
        policy = self._begin(batch_size, ignore_stale_grad)
        if policy.on_store:
            raise ConfigError(
                "update() when parameters are updated on kvstore is not supported. Try setting "
                "`update_on_kvstore` to False when creating trainer."
            )
        self._update_here(ignore_stale_grad)
        self._end()

    def _begin(self, batch_size: int, ignore_stale_grad: bool) -> UpdatePolicy:
        self._optimizer.rescale_grad = self._scale / batch_size
        policy = self._open()
        self._init_params()
        if not ignore_stale_grad:
            for parameter in self._trained():
                for data in parameter._arrays():
                    if not data._fresh_grad:
                        raise UserWarning(
                            f"Gradient of Parameter `{parameter.name}` on context "
                            f"{data.context} has not been updated by backward since last `step`. "
                            "This could mean a bug in your model that made it only use a subset "
                            "of the Parameters (Blocks) for this iteration. If you are "
                            "intentionally only using a subset, call step with "
                            "ignore_stale_grad=True to suppress this warning and skip updating "
                            "of Parameters with stale gradient"
                        )
        return policy

    def _trained(self) -> list[Parameter]:
        return [p for p in self._params if p.grad_req != "null"]

    def _end(self) -> None:
        for parameter in self._trained():
            for data in parameter._arrays():
                data._fresh_grad = False
        if self._store is not None:
            self._store.tick()

    def _push_pull(self, update: bool, ignore: bool, posted: Container[str] = frozenset()) -> None:
        """Gradients to the store, first layers first; weights (or summed gradients) back."""
        assert self._store is not None
        trained = [p for p in self._trained() if p.name not in posted]
        for parameter in trained:
            if parameter._stype != "default":  # the store updates it; rows are pulled later
                mine = parameter.list_grad() if self._touched(parameter) or not ignore else None
                rank = -self._index[parameter.name]
                scale = self._optimizer.rescale_grad
                self._store._push([parameter.name], [mine], None, [rank], scale)
        trained = [p for p in trained if p._stype == "default"]
        if not trained:
            return
        grads = [
            p.list_grad() if not ignore or not update or self._touched(p) else None for p in trained
        ]
        self._store._push_pull(
            [p.name for p in trained],
            grads,
            [p.list_data() if update else p.list_grad() for p in trained],
            [-self._index[p.name] for p in trained],
            self._optimizer.rescale_grad,
        )

    @staticmethod
    def _touched(parameter: Parameter) -> bool:
        return any(data._fresh_grad for data in parameter._arrays())

    def _update_here(self, ignore_stale_grad: bool) -> None:
        for i, parameter in enumerate(self._params):
            if parameter.grad_req == "null":
                continue
            arrays = zip(self._updaters, parameter.list_data(), parameter.list_grad(), strict=False)
            for updater, data, grad in arrays:
                if not ignore_stale_grad or data._fresh_grad:
                    updater(i, grad, data)

    # ---- states ---------------------------------------------------------------------------

    def save_states(self, fname: str | os.PathLike[str]) -> None:
        """Save the optimizer's states (momentum and the like)."""
        policy = self._open()
        self._init_params()
        if policy.on_store and self._store is not None:
            self._store.save_optimizer_states(fname, dump_optimizer=True)
            return
        with open(fname, "wb") as file:
            file.write(self._updaters[0].get_states(dump_optimizer=True))

    def load_states(self, fname: str | os.PathLike[str]) -> None:
        """Load states saved by `save_states`."""
        policy = self._open()
        self._init_params()
        if policy.on_store and self._store is not None:
            self._store.load_optimizer_states(fname)
            held = getattr(self._store, "_updater", None)
            loaded = held.optimizer if held else getattr(self._store, "_optimizer", None)
        else:
            with open(fname, "rb") as file:
                states = file.read()
            for updater in self._updaters:
                updater.set_states(states)
                updater.rename(self._index)  # a store's file has names
                updater.optimizer = self._updaters[0].optimizer
            loaded = self._updaters[0].optimizer
        if loaded is not None:
            self._optimizer = loaded
            self._optimizer.param_dict = dict(enumerate(self._params))


def _is_distributed(kvstore: Any) -> bool:
    return "dist" in str(kvstore if isinstance(kvstore, str) else getattr(kvstore, "type", ""))


def _parameters(params: Any) -> list[Parameter]:
    if isinstance(params, dict | ParameterDict):
        # saved states number the parameters in this order
        params = [params[name] for name in sorted(params)]
    if not isinstance(params, Iterable):
        raise ConfigError(
            f"First argument must be a list or dict of Parameters, got {type(params).__name__}."
        )
    found = list(params)
    names: set[str] = set()
    for parameter in found:
        if not isinstance(parameter, Parameter):
            raise ConfigError(
                "First argument must be a list or dict of Parameters, got list of "
                f"{type(parameter).__name__}."
            )
        if parameter.name in names:
            raise ConfigError(f"two parameters are named {parameter.name!r}; names are keys")
        names.add(parameter.name)
    return found

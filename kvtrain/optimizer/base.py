# SPDX-License-Identifier: Apache-2.0
"""The record of an optimizer, used by workers and servers alike.

An optimizer is plain data (its name and a config, which is what travels) plus arithmetic on
raw blocks (:meth:`Optimizer.update_block`). MXNet's methods on NDArrays are built on those.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kvtrain import lr_scheduler as schedules
from kvtrain.errors import ConfigError
from kvtrain.lr_scheduler import LRScheduler
from kvtrain.ndarray import NDArray
from kvtrain.registry import Registry

Array = np.ndarray[Any, Any]
optimizers: Registry[type[Optimizer]] = Registry("optimizer")


class Scope(enum.Enum):
    """What an update of one element depends on."""

    #: only that element: any cut of the array gives the same bits
    ELEMENT = "element"
    #: its row
    ROW = "row"
    #: the whole array
    KEY = "key"


@dataclass(frozen=True, slots=True)
class Hyper:
    """Resolved values for one update of one key."""

    lr: float
    wd: float
    #: number of this update of the key, from 1 (and `begin_num_update` on top)
    t: int
    rescale_grad: float
    clip_gradient: float | None


def register(klass: type[Optimizer]) -> type[Optimizer]:
    """``@mx.optimizer.register``: make a class known by its name, in any case."""
    return optimizers.register(klass, klass.__name__)


def create(name: str | Optimizer, **kwargs: Any) -> Optimizer:
    """An optimizer by its registered name.

    Raises
    ------
    UnknownName
        No such optimizer; lists the known ones.
    """
    if isinstance(name, Optimizer):
        return name
    made: Optimizer = optimizers.get(name)(**kwargs)
    return made


class Optimizer:
    """Base of all optimizers.

    Parameters
    ----------
    rescale_grad : float
        Factor for gradients, before everything else.
    param_idx2name : dict of int to str
        Names of the indices that :meth:`update` is called with; with it, weight decay is off
        for names that end neither in ``_weight`` nor in ``_gamma``.
    wd : float
        Weight decay (L2).
    clip_gradient : float, optional
        Gradients are limited to ``[-clip_gradient, clip_gradient]``.
    learning_rate : float, optional
        Default: the scheduler's, else 0.01.
    lr_scheduler : LRScheduler, optional
        Gives the learning rate by the number of updates.
    begin_num_update : int
        Updates that are taken as done already.
    multi_precision : bool
        float32 copies of float16 weights; not supported yet.
    param_dict : dict of int to Parameter
        Where `lr_mult` and `wd_mult` of an index are looked up.
    """

    scope: ClassVar[Scope] = Scope.ELEMENT
    #: hyper-parameters of the class itself, floats that :meth:`set_hyper` may change
    own_hyper: ClassVar[tuple[str, ...]] = ()
    opt_registry: ClassVar[Registry[type[Optimizer]]] = optimizers

    def __init__(
        self,
        rescale_grad: float = 1.0,
        param_idx2name: dict[int, str] | None = None,
        wd: float = 0.0,
        clip_gradient: float | None = None,
        learning_rate: float | None = None,
        lr_scheduler: LRScheduler | None = None,
        sym: Any = None,
        begin_num_update: int = 0,
        multi_precision: bool = False,
        param_dict: dict[int, Any] | None = None,
        aggregate_num: int = 0,
        use_fused_step: bool = True,
    ) -> None:
        if lr_scheduler is not None and learning_rate is not None:
            lr_scheduler.base_lr = learning_rate
        self.lr_scheduler = lr_scheduler
        if learning_rate is None:
            learning_rate = 0.01 if lr_scheduler is None else lr_scheduler.base_lr
        self.lr = learning_rate
        self.rescale_grad = rescale_grad
        self.wd = wd
        self.clip_gradient = clip_gradient
        self.multi_precision = multi_precision
        self.aggregate_num = aggregate_num
        self.begin_num_update = begin_num_update
        self.num_update = begin_num_update
        self._index_update_count: dict[Any, int] = {}
        self._counts: dict[int, dict[Any, int]] = {0: self._index_update_count}
        self.idx2name: dict[Any, str] = dict(param_idx2name or {})
        self.param_dict: dict[Any, Any] = param_dict or {}
        self.lr_mult: dict[Any, float] = {}
        self.wd_mult: dict[Any, float] = {}
        self.set_lr_mult({})
        self.set_wd_mult({})

    @staticmethod
    def register(klass: type[Optimizer]) -> type[Optimizer]:
        """Make a class known by its name."""
        return register(klass)

    @staticmethod
    def create_optimizer(name: str, **kwargs: Any) -> Optimizer:
        """An optimizer by its registered name."""
        return create(name, **kwargs)

    # ---- the record: what workers and servers run -----------------------------------------

    def state_arrays(self, weight: Array) -> tuple[Array, ...]:
        """Fresh state for a weight, or for a contiguous part of one; none by default."""
        return ()

    def update_block(
        self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper
    ) -> None:
        """Update raw arrays in place; `grad` is not changed. Written by a subclass."""
        raise NotImplementedError(
            f"{type(self).__name__} has no update_block(weight, grad, state, hyper): "
            "servers need it to run this optimizer"
        )

    def hyper(self, key: Any, count: int, schedule_at: int) -> Hyper:
        """Values for update number `count` of `key`; the schedule is evaluated at
        `schedule_at`. Changes nothing."""
        lr = self.lr if self.lr_scheduler is None else self.lr_scheduler(schedule_at)
        return Hyper(
            lr=lr * self._multiplier(key, "lr_mult"),
            wd=self.wd * self._multiplier(key, "wd_mult"),
            t=count,
            rescale_grad=self.rescale_grad,
            clip_gradient=self.clip_gradient,
        )

    def _multiplier(self, key: Any, kind: str) -> float:
        if key in self.param_dict:
            return getattr(self.param_dict[key], kind)
        table: dict[Any, float] = getattr(self, kind)
        if key in table:
            return table[key]
        return table.get(self.idx2name.get(key), 1.0)

    def to_config(self) -> tuple[str, dict[str, Any]]:
        """``(registered name, plain data)``: what travels to servers.

        Raises
        ------
        ConfigError
            The class is not registered; says the two lines that help.
        """
        name = type(self).__name__
        if name not in optimizers or optimizers.get(name) is not type(self):
            raise ConfigError(
                f"optimizer {name} is not registered, so servers cannot build it: decorate the "
                f"class with @kvtrain.optimizer.register and start the servers with the module "
                f"that defines it (kvtrain launch --import {type(self).__module__} ...)"
            )
        config: dict[str, Any] = {}
        for field, value in vars(self).items():
            if field in _NOT_SENT:
                continue
            if isinstance(value, dict):
                value = [[k, v] for k, v in value.items()]
            if isinstance(value, bool | int | float | str | list | type(None)):
                config[field] = value
            elif isinstance(value, np.number):
                config[field] = value.item()
            elif isinstance(value, LRScheduler):
                config[field] = [type(value).__name__, value.to_config()]
            elif not field.startswith("_"):
                raise ConfigError(
                    f"optimizer {name}: {field}={value!r} is no plain data and cannot be sent"
                )
        for index, parameter in self.param_dict.items():
            for kind in ("lr_mult", "wd_mult"):
                config[kind] += [[parameter.name, getattr(parameter, kind)]]
                config[kind] += [[index, getattr(parameter, kind)]]
        return name, config

    @classmethod
    def from_config(cls, name: str, config: dict[str, Any]) -> Optimizer:
        """Rebuild what :meth:`to_config` described."""
        klass = optimizers.get(name)
        try:
            made = klass()
        except TypeError:  # its constructor wants arguments: everything is in the config
            made = klass.__new__(klass)
            Optimizer.__init__(made)
        for field, value in config.items():
            if field in ("lr_mult", "wd_mult", "idx2name"):
                value = {k: v for k, v in value}
            elif field == "lr_scheduler" and value is not None:
                value = schedules.from_config(value[0], dict(value[1]))
            setattr(made, field, value)
        return made

    def set_hyper(self, name: str, value: float) -> None:
        """Change one hyper-parameter by its name."""
        if name == "learning_rate":
            self.set_learning_rate(value)
        elif name in ("wd", "rescale_grad", "clip_gradient", *self.own_hyper):
            setattr(self, name, value)
        else:
            known = ("learning_rate", "wd", "rescale_grad", "clip_gradient", *self.own_hyper)
            raise ConfigError(
                f"{type(self).__name__} has no hyper-parameter {name!r}; known: {', '.join(known)}"
            )

    # ---- MXNet's methods ------------------------------------------------------------------

    @property
    def learning_rate(self) -> float:
        """The present learning rate, before multipliers."""
        if self.lr_scheduler is not None:
            return self.lr_scheduler(self.num_update)
        return self.lr

    def set_learning_rate(self, lr: float) -> None:
        """Set the learning rate; refused with a scheduler, which would overwrite it."""
        if self.lr_scheduler is not None:
            raise UserWarning(
                "LRScheduler of the optimizer has already been defined. Note that "
                "set_learning_rate can mutate the value of the learning rate of the "
                "optimizer only when the LRScheduler of the optimizer is undefined."
            )
        self.lr = lr

    def set_lr_mult(self, args_lr_mult: dict[Any, float]) -> None:
        """Factors of the learning rate, by name or index."""
        self.lr_mult = dict(args_lr_mult)

    def set_wd_mult(self, args_wd_mult: dict[Any, float]) -> None:
        """Factors of the weight decay, by name or index."""
        self.wd_mult = {
            name: 0.0 for name in self.idx2name.values() if not name.endswith(("_weight", "_gamma"))
        }
        self.wd_mult.update(args_wd_mult)

    def create_state(self, index: Any, weight: NDArray) -> Any:
        """State of a weight as NDArrays: None, one, or a tuple."""
        arrays = tuple(NDArray(a, weight.context) for a in self.state_arrays(weight._read()))
        return (None, arrays[0] if arrays else None, arrays)[min(len(arrays), 2)]

    def create_state_multi_precision(self, index: Any, weight: NDArray) -> Any:
        """State of a weight; float32 masters of float16 weights are not supported yet."""
        return self.create_state(index, weight)

    def update(self, index: Any, weight: NDArray, grad: NDArray, state: Any) -> None:
        """Update `weight` in place with `grad`."""
        if isinstance(index, list | tuple):
            for one in zip(index, weight, grad, state, strict=True):
                self.update(*one)
            return
        self._update_count(index)
        hyper = self.hyper(index, self._index_update_count[index], self.num_update)
        held = () if state is None else state if isinstance(state, tuple | list) else (state,)
        raw = weight._write()
        self.update_block(raw, grad._read(), tuple(s._write() for s in held), hyper)

    def update_multi_precision(self, index: Any, weight: Any, grad: Any, state: Any) -> None:
        """As :meth:`update`."""
        self.update(index, weight, grad, state)

    def _set_current_context(self, device_id: int) -> None:
        self._index_update_count = self._counts.setdefault(device_id, {})

    def _update_count(self, index: Any) -> None:
        for one in index if isinstance(index, list | tuple) else [index]:
            count = self._index_update_count.get(one, self.begin_num_update) + 1
            self._index_update_count[one] = count
            self.num_update = max(count, self.num_update)

    def _get_lr(self, index: Any) -> float:
        return self.hyper(index, self.num_update, self.num_update).lr

    def _get_wd(self, index: Any) -> float:
        return self.hyper(index, self.num_update, self.num_update).wd

    def _get_lrs(self, indices: list[Any]) -> list[float]:
        return [self._get_lr(index) for index in indices]

    def _get_wds(self, indices: list[Any]) -> list[float]:
        return [self._get_wd(index) for index in indices]

    def __getstate__(self) -> dict[str, Any]:
        held = vars(self).copy()
        held["param_dict"] = {}
        return held


#: counters and references that belong to this process
_NOT_SENT = ("param_dict", "num_update", "_index_update_count", "_counts")

# SPDX-License-Identifier: Apache-2.0
"""The record of an optimizer, used by workers and servers alike.

An optimizer is plain data (its name and a config, which is what travels) plus arithmetic on
raw arrays. A class says its :class:`Scope` and writes ``_state`` and ``_step``; servers and
row tables call :meth:`Record.state_arrays`, :meth:`Record.update_block` and
:meth:`Record.update_rows`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kvtrain import lr_scheduler as schedules
from kvtrain.errors import ConfigError
from kvtrain.kernels import xp
from kvtrain.lr_scheduler import LRScheduler
from kvtrain.optimizer import bridge
from kvtrain.registry import Registry

Array = np.ndarray[Any, Any]
optimizers: Registry[type[Any]] = Registry("optimizer")
#: elements of the rows that are gathered at a time
ROW_BLOCK = 64 * 1024


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
    #: name of the key, or its index where no name is known
    key: Any = None
    #: this learning rate over the one before, by the schedule
    lr_change: float = 1.0
    #: where the schedule was evaluated
    schedule_at: int = 0


class Record:
    """What an optimizer is to a server; :class:`kvtrain.optimizer.Optimizer` is one."""

    scope: ClassVar[Scope] = Scope.ELEMENT
    #: hyper-parameters of the class itself, floats that :meth:`set_hyper` may change
    own_hyper: ClassVar[tuple[str, ...]] = ()
    #: the class has MXNet's update(), create_state() of its own, on NDArrays
    _by_arrays: ClassVar[bool] = False
    _own_create_state: ClassVar[bool] = False
    #: nesting of the arrays that such a create_state() makes
    _nesting: Any = None

    lr: float
    wd: float
    rescale_grad: float
    clip_gradient: float | None
    lr_scheduler: LRScheduler | None
    multi_precision: bool
    begin_num_update: int
    num_update: int
    param_dict: dict[Any, Any]
    idx2name: dict[Any, str]
    lr_mult: dict[Any, float]
    wd_mult: dict[Any, float]

    def _state(self, weight: Array) -> tuple[Array, ...]:
        """Fresh state for raw weights; none by default. A subclass says it."""
        return ()

    def _step(self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper) -> None:
        """Update raw weights in place; `grad`, which may be narrower, is not changed."""
        raise NotImplementedError(
            f"{type(self).__name__} has neither update(index, weight, grad, state) nor "
            "_step(weight, grad, state, hyper)"
        )

    @property
    def blockwise(self) -> bool:
        """Any cut of an array gives the same bits; else :meth:`update_block` wants the whole
        key, in its shape."""
        return self.scope is Scope.ELEMENT

    @property
    def lazy_rows(self) -> bool:
        """Of a row-sparse gradient only the rows that it has are updated; else a row-sparse
        gradient is taken as a dense one."""
        return False

    def _keeps_master(self, weight: Any) -> bool:
        return self.multi_precision and np.dtype(weight.dtype) == np.float16

    def state_arrays(self, weight: Array) -> tuple[Array, ...]:
        """Fresh state for a weight, or for a contiguous part or some rows of one.

        With `multi_precision` the first array of a float16 weight is its float32 copy.
        """
        if self._own_create_state:
            return bridge.state_arrays(self, weight)
        if self._keeps_master(weight):
            master = weight.astype(np.float32)
            return (master, *self._state(master))
        return self._state(weight)

    def update_block(
        self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper
    ) -> None:
        """Update a weight, or a part of one, in place.

        Parameters
        ----------
        weight, grad : numpy.ndarray
            Of equal shape and dtype; scope element takes any part, row some rows (n, ...), key
            the whole array. `grad` is not changed.
        state : tuple of numpy.ndarray
            As :meth:`state_arrays` made it, or the same part of it; changed in place.
        hyper : Hyper
            From :meth:`hyper`.
        """
        if self._by_arrays:
            bridge.update(self, weight, grad, state, hyper)
        else:
            self._run(weight, grad, state, hyper, self._keeps_master(weight))

    def _run(
        self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper, master: bool
    ) -> None:
        if master:
            self._step(state[0], grad, state[1:], hyper)
            np.copyto(weight, state[0], casting="same_kind")
        else:
            self._step(weight, grad, state, hyper)

    def update_rows(
        self, weight: Array, rows: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper
    ) -> None:
        """Update only some rows of a table: MXNet's lazy update.

        Parameters
        ----------
        weight : numpy.ndarray
            (n, ...)
        rows : numpy.ndarray
            Numbers of k distinct rows, ascending, int64, within the table.
        grad : numpy.ndarray
            (k, ...), the gradient of those rows.
        state : tuple of numpy.ndarray
            Each with n rows.
        hyper : Hyper

        Raises
        ------
        ConfigError
            The optimizer works on whole keys only (scope key).
        """
        if self.scope is Scope.KEY:
            raise ConfigError(f"{type(self).__name__} works on whole keys, not on rows")
        if len(rows) == len(weight):
            self.update_block(weight, grad, state, hyper)
            return
        step = max(1, ROW_BLOCK // max(1, weight[:1].size))
        for low in range(0, len(rows), step):
            ids = rows[low : low + step]
            part = xp.take_rows(weight, ids)
            states = tuple(xp.take_rows(array, ids) for array in state)
            self.update_block(part, grad[low : low + step], states, hyper)
            for table, values in zip((weight, *state), (part, *states), strict=True):
                xp.put_rows(table, ids, values)

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
            key=self._name_of(key),
            schedule_at=schedule_at,
        )

    def _name_of(self, key: Any) -> Any:
        """The parameter's name where one is known: what servers call the key."""
        if key in self.param_dict:
            return getattr(self.param_dict[key], "name", key)
        return self.idx2name.get(key, key)

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
    def from_config(cls, name: str, config: dict[str, Any]) -> Any:
        """Rebuild what :meth:`to_config` described."""
        klass: Any = optimizers.get(name)
        try:
            made = klass()
        except TypeError:  # its constructor wants arguments: everything is in the config
            made = klass.__new__(klass)
            made._defaults()
        for field, value in config.items():
            if field in ("lr_mult", "wd_mult", "idx2name"):
                value = {k: v for k, v in value}
            elif field == "lr_scheduler" and value is not None:
                value = schedules.from_config(value[0], dict(value[1]))
            setattr(made, field, value)
        return made

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


#: counters and references that belong to this process
_NOT_SENT = (
    "param_dict",
    "sym_info",
    "num_update",
    "_index_update_count",
    "_all_index_update_counts",
    "_nesting",
    "_rates",
)

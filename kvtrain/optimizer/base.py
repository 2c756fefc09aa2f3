# SPDX-License-Identifier: Apache-2.0
"""MXNet's Optimizer: the record of record.py with methods on NDArrays."""

from __future__ import annotations

from typing import Any, ClassVar

from kvtrain.errors import OperatorError
from kvtrain.lr_scheduler import LRScheduler
from kvtrain.ndarray import NDArray
from kvtrain.ndarray.update import whole
from kvtrain.optimizer import bridge
from kvtrain.optimizer.record import Array, Hyper, Record, Scope, optimizers
from kvtrain.registry import Registry


def register(klass: type[Optimizer]) -> type[Optimizer]:
    """``@mx.optimizer.register``: make a class known by its name, in any case."""
    return optimizers.override(klass, klass.__name__)


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


class Optimizer(Record):
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
    sym : Symbol, optional
        Its attributes ``__lr_mult__`` and ``__wd_mult__`` are multipliers.
    begin_num_update : int
        Updates that are taken as done already.
    multi_precision : bool
        Updates of float16 weights are made in float32 copies, which are kept.
    param_dict : dict of int to Parameter
        Where `lr_mult` and `wd_mult` of an index are looked up.
    """

    opt_registry: ClassVar[Registry[type[Optimizer]]] = optimizers
    #: with `param_idx2name`, weight decay is off for other names
    _decayed_names: ClassVar[tuple[str, ...]] = ("_weight", "_gamma")
    #: order of MXNet's pair of state and float32 copy
    _master_last: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        if "update_block" in own or "_step" in own:
            cls._by_arrays = False
        elif "update" in own or "update_multi_precision" in own:
            # written as for MXNet, on NDArrays: servers run it on whole keys
            cls._by_arrays = True
            if "scope" not in own:
                cls.scope = Scope.KEY
        if "create_state" in own and "state_arrays" not in own and "_state" not in own:
            cls._own_create_state = True
        elif "state_arrays" in own or "_state" in own:
            cls._own_create_state = False

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
            learning_rate = getattr(lr_scheduler, "base_lr", 0.01)
        self.lr = learning_rate
        self.rescale_grad = rescale_grad
        self.wd = wd
        self.clip_gradient = clip_gradient
        self.multi_precision = multi_precision
        self.aggregate_num = aggregate_num
        self.begin_num_update = begin_num_update
        self.num_update = begin_num_update
        self._index_update_count: dict[Any, int] = {}
        self._all_index_update_counts: dict[int, dict[Any, int]] = {0: self._index_update_count}
        self.idx2name: dict[Any, str] = dict(param_idx2name or {})
        self.param_dict: dict[Any, Any] = param_dict or {}
        self.sym_info = () if sym is None else (sym.attr_dict(), sym.list_arguments())
        self.set_lr_mult({})
        self.set_wd_mult({})

    def _defaults(self) -> None:
        Optimizer.__init__(self)

    @staticmethod
    def register(klass: type[Optimizer]) -> type[Optimizer]:
        """Make a class known by its name."""
        return register(klass)

    @staticmethod
    def create_optimizer(name: str, **kwargs: Any) -> Optimizer:
        """An optimizer by its registered name."""
        return create(name, **kwargs)

    # ---- MXNet's methods ------------------------------------------------------------------

    def set_lr_mult(self, args_lr_mult: dict[Any, float]) -> None:
        """Factors of the learning rate, by name or index."""
        self.lr_mult = {**self._attributes("__lr_mult__"), **args_lr_mult}

    def set_wd_mult(self, args_wd_mult: dict[Any, float]) -> None:
        """Factors of the weight decay, by name or index."""
        self.wd_mult = {
            name: 0.0 for name in self.idx2name.values() if not name.endswith(self._decayed_names)
        }
        self.wd_mult.update(self._attributes("__wd_mult__"))
        self.wd_mult.update(args_wd_mult)

    def _attributes(self, name: str) -> dict[Any, float]:
        """An attribute of the symbol's arguments."""
        if not self.sym_info:
            return {}
        attributes, arguments = self.sym_info
        found = {a: attributes.get(a, {}).get(name) for a in arguments}
        return {a: float(value) for a, value in found.items() if value is not None}

    def create_state(self, index: Any, weight: NDArray) -> Any:
        """State of a weight as NDArrays: None, one, or a tuple; row_sparse for a row_sparse
        weight of which only the rows of a gradient are updated."""
        arrays = [NDArray(a, weight.context) for a in self._state(weight._read())]
        if weight.stype == "row_sparse" and self._lazy_here(weight):
            arrays = [array.tostype("row_sparse") for array in arrays]
        return self._pack(arrays)

    def _pack(self, arrays: list[NDArray]) -> Any:
        return (None, arrays[0] if arrays else None, tuple(arrays))[min(len(arrays), 2)]

    def create_state_multi_precision(self, index: Any, weight: NDArray) -> Any:
        """State of a weight; for a float16 one with `multi_precision` a pair of its float32
        copy and the state of that."""
        if not self._keeps_master(weight):
            return self.create_state(index, weight)
        master = weight.astype("float32")
        pair = (master, self.create_state(index, master))
        return pair[::-1] if self._master_last else pair

    def update(self, index: Any, weight: NDArray, grad: NDArray, state: Any) -> None:
        """Update `weight` in place with `grad`; lists of all four are taken too."""
        self._update(index, weight, grad, state, False)

    def update_multi_precision(self, index: Any, weight: Any, grad: Any, state: Any) -> None:
        """As :meth:`update`, by way of the float32 copy if there is one."""
        if isinstance(index, list | tuple):
            for one in zip(index, weight, grad, state, strict=True):
                self.update_multi_precision(*one)
        elif not self._keeps_master(weight):
            self.update(index, weight, grad, state)
        elif self._by_arrays:
            master, rest = state
            self.update(index, master, grad.astype("float32"), rest)
            weight[:] = master.astype(weight.dtype)
        else:
            pair = state[::-1] if self._master_last else state
            self._update(index, weight, grad, list(pair), True)

    def _update(self, index: Any, weight: Any, grad: Any, state: Any, master: bool) -> None:
        if isinstance(index, list | tuple):
            for one in zip(index, weight, grad, state, strict=True):
                self._update(*one, master)
            return
        if grad.shape != weight.shape or (grad.dtype != weight.dtype and not master):
            raise OperatorError(
                f"{type(self).__name__}: key {index!r} has a weight of shape {weight.shape} and "
                f"dtype {weight.dtype.__name__}, and a gradient of shape {grad.shape} and dtype "
                f"{grad.dtype.__name__}; they must be alike"
            )
        self._update_count(index)
        hyper = self.hyper(index, self._index_update_count[index], self.num_update)
        held = tuple(whole(array) for array in bridge.flat(state))
        if getattr(grad, "stype", "default") == "row_sparse":
            if self._lazy_here(weight):
                part = grad._parts().canonical()
                self.update_rows(weight._write_all(), part.ids, part.values, held, hyper)
                return
            grad = grad.tostype("default")
        if self._by_arrays:  # a subclass calls the update that it overrides
            self._run(weight._write_all(), grad._read(), held, hyper, master)
        else:
            self._run_or_block(weight._write_all(), grad._read(), held, hyper, master)

    def _lazy_here(self, weight: Any) -> bool:
        """Whether a row-sparse gradient of this weight leaves the other rows alone."""
        return self.lazy_rows

    def _run_or_block(
        self, weight: Array, grad: Array, state: tuple[Array, ...], hyper: Hyper, master: bool
    ) -> None:
        if type(self).update_block is Optimizer.update_block:
            self._run(weight, grad, state, hyper, master)
        else:
            self.update_block(weight, grad, state, hyper)

    def _set_current_context(self, device_id: int) -> None:
        self._index_update_count = self._all_index_update_counts.setdefault(device_id, {})

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

# SPDX-License-Identifier: Apache-2.0
"""Parameters: values and gradients on one or more contexts, made when the shape is known."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from kvtrain import initializer as init_module
from kvtrain import ndarray as nd
from kvtrain.context import Context, cpu, current_context, usable
from kvtrain.errors import (
    ConfigError,
    DeferredInitializationError,
    KVTrainError,
)
from kvtrain.gluon.parameter.stored_values import StoredValues, stored
from kvtrain.initializer import InitDesc
from kvtrain.kernels.stored import STORAGE, zeros_of
from kvtrain.ndarray import NDArray
from kvtrain.ndarray.allocator import ParameterArena
from kvtrain.ndarray.stored.array import raw_of

_arena = ParameterArena()


def _contexts(ctx: Any) -> list[Context]:
    if ctx is None:
        return [current_context()]
    return [usable(c) for c in (ctx if isinstance(ctx, list | tuple) else [ctx])]


def _known(shape: tuple[int, ...] | None) -> bool:
    return shape is not None and all(n > 0 for n in shape)


def maker_of(init: Any) -> Any:
    """An initializer from itself, a name, or anything to call with (description, array)."""
    return init if callable(init) and not isinstance(init, type) else init_module.create(init)


class Parameter(StoredValues):
    """A named weight of a network.

    Parameters
    ----------
    name : str
        Unique name; the key in stores.
    grad_req : {'write', 'add', 'null'}
        What a backward pass does to the gradient.
    shape : tuple of int, optional
        0 stands for a size that is not known yet.
    dtype : dtype
    lr_mult, wd_mult : float
        Factors of learning rate and weight decay.
    init : Initializer or str, optional
        Goes before the global one.
    allow_deferred_init : bool
        May be initialised before the shape is known.
    differentiable : bool
        False: never has a gradient.
    stype, grad_stype : {'default', 'row_sparse', 'csr'}
        Storage of values and gradients. Row-sparse values live in the store of a Trainer; each
        context holds the rows that :meth:`row_sparse_data` asked for last.
    """

    def __init__(
        self,
        name: str,
        grad_req: str = "write",
        shape: Any = None,
        dtype: Any = np.float32,
        lr_mult: float = 1.0,
        wd_mult: float = 1.0,
        init: Any = None,
        allow_deferred_init: bool = False,
        differentiable: bool = True,
        stype: str = "default",
        grad_stype: str = "default",
    ) -> None:
        for what, kind in (("stype", stype), ("grad_stype", grad_stype)):
            if kind not in STORAGE:
                raise ConfigError(
                    f"{what} for Parameter '{name}' must be one of {', '.join(STORAGE)}, but got "
                    f"'{kind}'"
                )
        self.name = name
        self.lr_mult = lr_mult
        self.wd_mult = wd_mult
        self.init = init
        self._dtype = dtype
        self._shape = (int(shape),) if isinstance(shape, int) else shape and tuple(shape)
        self._allow_deferred_init = allow_deferred_init
        self._differentiable = differentiable
        self._stype, self._grad_stype = stype, grad_stype
        self._data: dict[Context, NDArray] | None = None
        self._grad: dict[Context, NDArray] | None = None
        #: (init, contexts, default init, values) of an initialisation that waits for the shape
        self._deferred_init: tuple[Any, ...] = ()
        self._trainer: Any = None
        self._grad_req = ""
        self.grad_req = grad_req

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.name} (shape={self.shape}, dtype={self.dtype})"

    # ---- shape and gradient -----------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape; 0 (or -1) stands for a size that is not known yet."""
        return self._shape

    @shape.setter
    def shape(self, new: tuple[int, ...]) -> None:
        if self._shape is not None:
            fits = len(self._shape) == len(new) and all(
                a <= 0 or a == b for a, b in zip(self._shape, new, strict=True)
            )
            if not fits:
                raise ConfigError(
                    f"parameter {self.name!r}: shape {new} does not fit {self._shape}"
                )
        self._shape = tuple(new)

    @property
    def dtype(self) -> Any:
        """As it was given, or ``cast``; to set it is to cast."""
        return self._dtype

    @dtype.setter
    def dtype(self, dtype: Any) -> None:
        self.cast(dtype)

    @property
    def grad_req(self) -> str:
        """'write', 'add' or 'null'."""
        return self._grad_req

    @grad_req.setter
    def grad_req(self, req: str) -> None:
        if req not in ("write", "add", "null"):
            raise ConfigError(f"parameter {self.name!r}: grad_req={req!r}; known: write, add, null")
        req = req if self._differentiable else "null"
        if req == self._grad_req:
            return
        self._grad_req = req
        if self._data is not None:
            self._init_grad()

    @property
    def stype(self) -> str:
        """Storage of the values: 'default', 'row_sparse' or 'csr'."""
        return self._stype

    # ---- initialisation -------------------------------------------------------------------

    def initialize(
        self,
        init: Any = None,
        ctx: Any = None,
        default_init: Any = None,
        force_reinit: bool = False,
    ) -> None:
        """Make values and gradients on one or more contexts.

        Parameters
        ----------
        init : Initializer or str, optional
            Default: the parameter's own, else `default_init` (Uniform).
        ctx : Context or list of Context, optional
            Default: the current context.
        force_reinit : bool
            Replace values that are there; else they are kept, with a warning.
        """
        if self._data is not None and not force_reinit:
            warnings.warn(
                f"Parameter '{self.name}' is already initialized, ignoring. "
                "Set force_reinit=True to re-initialize.",
                stacklevel=2,
            )
            return
        self._data = self._grad = None
        contexts = _contexts(ctx)
        chosen = init if init is not None else self.init
        fallback = default_init if default_init is not None else init_module.Uniform()
        if not _known(self.shape):
            if not self._allow_deferred_init:
                raise ConfigError(
                    f"parameter {self.name!r} cannot be initialised: its shape {self.shape} is "
                    "not known and allow_deferred_init is False"
                )
            self._deferred_init = (chosen, contexts, fallback, None)
            return
        self._deferred_init = (chosen, contexts, fallback, None)
        self._finish_deferred_init()

    def _finish_deferred_init(self) -> None:
        if not self._deferred_init:
            return
        chosen, contexts, fallback, values = self._deferred_init
        if not _known(self.shape):
            raise DeferredInitializationError(
                f"parameter {self.name!r} has the unknown shape {self.shape}: the layer must be "
                "given its input size (in_units, in_channels) or see data first"
            )
        self._deferred_init = ()
        if values is None:
            values = NDArray(np.zeros(self.shape or (), self.dtype), cpu())
            maker = maker_of(fallback if chosen is None else chosen)
            if type(maker).__call__ is init_module.Initializer.__call__:
                # it decides alone, whatever the name ends in
                maker._init_weight(InitDesc(self.name), values)
            else:  # Mixed, Load and a user's own go by the name
                maker(InitDesc(self.name), values)
        self._init_impl(values, contexts)
        if self._trainer is not None:
            self._trainer._has_values()

    def _init_impl(self, values: NDArray, contexts: list[Context]) -> None:
        self._data = {}
        for ctx in contexts:
            if self._stype != "default":
                self._data[ctx] = stored(values, self._stype, ctx)
                continue
            raw = _arena.take(values.shape, values.dtype)
            np.copyto(raw, values._read())
            self._data[ctx] = NDArray(raw, ctx)
        self._init_grad()

    def _init_grad(self) -> None:
        assert self._data is not None
        if self.grad_req == "null":
            self._grad = None
            for ctx, array in self._data.items():
                self._data[ctx] = array.detach()
            return
        self._grad = {}
        for ctx, array in self._data.items():
            if self._grad_stype != "default":
                grad = nd.zeros(array.shape, ctx, array.dtype, stype=self._grad_stype)
            else:
                grad = NDArray(_arena.take(array.shape, array.dtype), ctx)
            self._grad[ctx] = grad
            array._attach(grad, self.grad_req)

    # ---- access ---------------------------------------------------------------------------

    def _check_and_get(self, arrays: dict[Context, NDArray] | None, ctx: Any) -> Any:
        if arrays is not None:
            if ctx is list:
                return list(arrays.values())
            if ctx is None:
                if len(arrays) == 1:
                    return next(iter(arrays.values()))
                ctx = current_context()
            if ctx in arrays:
                return arrays[ctx]
            raise KVTrainError(
                f"Parameter '{self.name}' was not initialized on context {ctx}. It was only "
                f"initialized on {list(arrays)}."
            )
        if self._deferred_init:
            raise DeferredInitializationError(
                f"Parameter '{self.name}' has not been initialized yet because initialization "
                "was deferred. Actual initialization happens during the first forward pass. "
                "Please pass one batch of data through the network before accessing Parameters."
            )
        raise KVTrainError(
            f"Parameter '{self.name}' has not been initialized. Call initialize() of the network "
            "(or of the parameter) first, and create the Trainer with net.collect_params(): "
            "net.params lacks the parameters of the blocks inside."
        )

    def grad(self, ctx: Context | None = None) -> NDArray:
        """The gradient on `ctx`."""
        if self._data is not None and self._grad is None:
            raise KVTrainError(
                f"Cannot get gradient array for Parameter '{self.name}' because grad_req='null'"
            )
        return self._check_and_get(self._grad, ctx)

    def list_grad(self) -> list[NDArray]:
        """The gradients on every context."""
        if self._data is not None and self._grad is None:
            raise KVTrainError(
                f"Cannot get gradient array for Parameter '{self.name}' because grad_req='null'"
            )
        return self._check_and_get(self._grad, list)

    def list_ctx(self) -> list[Context]:
        """The contexts it is on, or will be."""
        if self._data is None:
            if self._deferred_init:
                return list(self._deferred_init[1])
            raise KVTrainError(f"Parameter '{self.name}' has not been initialized")
        return list(self._data)

    def zero_grad(self) -> None:
        """Gradients to 0; does nothing where there is none."""
        if self._grad is not None:
            for grad in self._grad.values():
                if grad._sparse:
                    grad._receive(zeros_of(grad.stype, grad.shape, grad.dtype))
                else:
                    grad._write()[...] = 0

    def set_data(self, data: Any) -> None:
        """New values on every context."""
        values = data if isinstance(data, NDArray) else NDArray(np.asarray(data), cpu())
        self.shape = values.shape
        if self._data is None:
            if not self._deferred_init:
                raise KVTrainError(f"Parameter '{self.name}' has not been initialized")
            self._deferred_init = (*self._deferred_init[:3], values.astype(self.dtype))
            return
        if self._trainer is not None:
            self._trainer._reset_parameter(self)
        for ctx, array in self._data.items():
            if array._sparse:
                array._receive(raw_of(stored(values, self._stype, ctx)))
            else:
                np.copyto(array._write(), values._read(), casting="unsafe")

    def reset_ctx(self, ctx: Any) -> None:
        """Live on other contexts."""
        contexts = _contexts(ctx)
        if self._data is not None:
            values = self._reduce()
            self._data = self._grad = None
            self._init_impl(values, contexts)
        elif self._deferred_init:
            chosen, _, fallback, values = self._deferred_init
            self._deferred_init = (chosen, contexts, fallback, values)
        else:
            raise KVTrainError(f"Parameter '{self.name}' has not been initialized")

    def cast(self, dtype: Any) -> None:
        """Another dtype for values and gradients."""
        self._dtype = dtype
        if self._data is not None:
            contexts = list(self._data)
            values = self._reduce().astype(dtype)
            self._data = self._grad = None
            self._init_impl(values, contexts)

    def var(self) -> Any:
        """Not available: there are no symbols yet."""
        raise KVTrainError("Parameter.var() needs symbols, which are not supported")

    def _reduce(self) -> NDArray:
        """The mean over all contexts, on the host; all rows of a row-sparse parameter."""
        first, *others = self._arrays()
        if self._stype == "default":
            values = first.asnumpy()
            raws = [a.asnumpy() for a in others]
            # only what each context keeps for itself differs, as running averages
            if not all(np.array_equal(raw, values, equal_nan=True) for raw in raws):
                values = (sum(raws, values) / (1 + len(raws))).astype(values.dtype)
            return NDArray(values, cpu())
        whole = first.copyto(cpu())
        if self._trainer is not None and self._stype == "row_sparse":
            self._trainer._row_sparse_pull(self, [whole], None)
        return whole

    def _load_init(
        self, data: NDArray, ctx: Any, cast_dtype: bool = False, dtype_source: str = "current"
    ) -> None:
        """Values from a file."""
        if self.shape is not None:
            fits = len(self.shape) == len(data.shape) and all(
                n in (0, -1, m) for n, m in zip(self.shape, data.shape, strict=True)
            )
            if not fits:
                raise ConfigError(
                    f"Failed loading Parameter '{self.name}' from saved params: shape "
                    f"incompatible, expected {self.shape}, saved {data.shape}"
                )
        if cast_dtype and dtype_source not in ("current", "saved"):
            raise ConfigError(f"dtype_source={dtype_source!r}; known: current, saved")
        kind = np.dtype(self.dtype or data.dtype)
        if cast_dtype and dtype_source == "saved":
            self._dtype = kind = np.dtype(data.dtype)
        elif cast_dtype:
            data = data.astype(kind)
        elif kind != np.dtype(data.dtype):
            raise ConfigError(
                f"Failed loading Parameter '{self.name}' from saved params: dtype incompatible, "
                f"expected {kind}, saved {np.dtype(data.dtype)}; set cast_dtype=True to convert"
            )
        self._shape = data.shape
        if self._data is not None and ctx is None:
            self.set_data(data)
            return
        if self._data is not None:
            contexts = _contexts(ctx)
            if set(contexts) == set(self._data):
                self.set_data(data)
                return
        elif ctx is None and self._deferred_init:
            contexts = self._deferred_init[1]
        else:
            contexts = _contexts(ctx) if ctx is not None else [cpu()]
        self._deferred_init = ()
        self._data = self._grad = None
        self._init_impl(data, contexts)

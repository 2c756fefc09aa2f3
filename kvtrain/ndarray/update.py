# SPDX-License-Identifier: Apache-2.0
"""The functions of ``nd`` that update a weight; the arithmetic is the optimizers' kernels.

As in MXNet states change in place, the weight only if it is given as ``out=``; without
``out=`` the new weight is returned. A negative bound means none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kvtrain.errors import OperatorError
from kvtrain.kernels import xp
from kvtrain.kernels.stored import Rows
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.stored.array import RowSparseNDArray, raw_of
from kvtrain.ops.attribute import read_like

Array = np.ndarray[Any, Any]
FUNCTIONS: dict[str, Callable[..., Any]] = {}
CONTRIB: dict[str, Callable[..., Any]] = {}
_REQUIRED = object()
_COMMON: dict[str, Any] = {"wd": 0.0, "rescale_grad": 1.0, "clip_gradient": -1.0}
_BOUNDS = ("clip_gradient", "clip_grad", "clip_weights", "lower_bound", "upper_bound")


def _sorted_out(
    name: str, inputs: Sequence[str], attrs: dict[str, Any], args: Any, kwargs: dict[str, Any]
) -> tuple[list[NDArray], dict[str, Any], Any]:
    """Arrays, attributes with their defaults, and `out`, from the arguments of a call."""
    out = kwargs.pop("out", None)
    kwargs.pop("name", None)
    named = iter([*inputs, *attrs])
    given = {next(named, f"argument {i}"): value for i, value in enumerate(args)}
    given.update(kwargs)
    arrays = [given.pop(i, None) for i in inputs]
    for wanted, array in zip(inputs, arrays, strict=True):
        if not isinstance(array, NDArray):
            found = type(array).__name__
            raise OperatorError(f"{name}: {wanted!r} must be an NDArray, not {found}")
    unknown = given.keys() - attrs.keys()
    if unknown:
        known = ", ".join([*inputs, *attrs])
        raise OperatorError(f"{name}: unknown argument {sorted(unknown)[0]!r}; known: {known}")
    full = {**attrs, **{n: read_like(name, n, v, attrs[n]) for n, v in given.items()}}
    for key, value in full.items():
        if value is _REQUIRED:
            raise OperatorError(f"{name}: argument {key!r} is missing")
    for bound in _BOUNDS:
        if bound in full and full[bound] is not None and full[bound] < 0:
            full[bound] = None
    first = arrays[0]
    for wanted, array in zip(inputs, arrays, strict=True):
        if array.shape != first.shape and wanted not in ("r1", "r2", "history"):
            raise OperatorError(
                f"{name}: {wanted} has shape {array.shape}, {inputs[0]} {first.shape}"
            )
    return arrays, full, out


def _result(weight: NDArray, out: Any) -> tuple[NDArray, Array]:
    """The array that gets the new weight, and its buffer holding the old one."""
    if out is None:
        out = weight.copyto(weight._ctx)
    elif isinstance(out, list | tuple):
        out = out[0]
    if out is not weight:
        out._assign(raw_of(weight))
    return out, out._write_all()


def whole(state: NDArray) -> Array:
    """The buffer of a state; of a sparse one after all its rows were made."""
    if isinstance(state, RowSparseNDArray) and state._parts().ids.size != state.shape[0]:
        state._assign(Rows(np.arange(state.shape[0]), state._read(), state.shape))
    return state._write_all()


def _step(kernel: Any, weight: Array, grad: NDArray, states: list[Array], attrs: Any) -> None:
    """One update; a row_sparse gradient touches only its rows if the update is lazy."""
    lazy = attrs.pop("lazy_update", None)
    if grad.stype == "row_sparse" and lazy is not False:
        held = raw_of(grad).canonical()
        rows = held.ids
        parts = [xp.take_rows(a, rows) for a in (weight, *states)]
        kernel(parts[0], held.values, *parts[1:], **attrs)
        for table, part in zip((weight, *states), parts, strict=True):
            xp.put_rows(table, rows, part)
        return
    kernel(weight, grad._read(), *states, **attrs)


def _define(name: str, states: Sequence[str] = (), contrib: bool = False, **attrs: Any) -> None:
    """The function `name`, and with ``mp_`` the one for weights of half precision."""
    kernel = getattr(xp, name)

    def plain(*args: Any, **kwargs: Any) -> Any:
        inputs = ("weight", "grad", *states)
        arrays, full, out = _sorted_out(name, inputs, attrs, args, kwargs)
        made, buffer = _result(arrays[0], out)
        _step(kernel, buffer, arrays[1], [whole(a) for a in arrays[2:]], full)
        return made

    def mixed(*args: Any, **kwargs: Any) -> Any:
        inputs = ("weight", "grad", *states, "weight32")
        arrays, full, out = _sorted_out(f"mp_{name}", inputs, attrs, args, kwargs)
        master = arrays[-1]._write()
        grad = arrays[1]
        wide = NDArray(grad._read().astype(master.dtype), grad._ctx)
        _step(kernel, master, wide, [a._write() for a in arrays[2:-1]], full)
        made, buffer = _result(arrays[0], out)
        np.copyto(buffer, master, casting="unsafe")
        return made

    place = CONTRIB if contrib else FUNCTIONS
    for known, function in ((name, plain), (f"mp_{name}", mixed)):
        function.__name__ = function.__qualname__ = known
        function.__doc__ = f"{kernel.__doc__}\n\nReturns the new weight; states change in place."
        place[known] = function


_LAZY: dict[str, Any] = {**_COMMON, "lazy_update": True}
_define("sgd_update", lr=_REQUIRED, **_LAZY)
_define("sgd_mom_update", ["mom"], lr=_REQUIRED, momentum=0.0, **_LAZY)
_define("nag_mom_update", ["mom"], lr=_REQUIRED, momentum=0.0, **_COMMON)
_define("signsgd_update", lr=_REQUIRED, **_COMMON)
_define("signum_update", ["mom"], lr=_REQUIRED, momentum=0.0, **_COMMON, wd_lh=0.0)
_define(
    "adam_update",
    ["mean", "var"],
    lr=_REQUIRED,
    beta1=0.9,
    beta2=0.999,
    epsilon=1e-8,
    **_LAZY,
)
_define(
    "rmsprop_update", ["n"], lr=_REQUIRED, gamma1=0.95, epsilon=1e-8, **_COMMON, clip_weights=-1.0
)
_define(
    "rmspropalex_update",
    ["n", "g", "delta"],
    lr=_REQUIRED,
    gamma1=0.95,
    gamma2=0.9,
    epsilon=1e-8,
    **_COMMON,
    clip_weights=-1.0,
)
_define("ftrl_update", ["z", "n"], lr=_REQUIRED, lamda1=0.01, beta=1.0, **_COMMON)
_define(
    "ftml_update",
    ["d", "v", "z"],
    lr=_REQUIRED,
    beta1=0.6,
    beta2=0.999,
    epsilon=1e-8,
    t=_REQUIRED,
    wd=0.0,
    rescale_grad=1.0,
    clip_grad=-1.0,
)
_define(
    "group_adagrad_update",
    ["history"],
    contrib=True,
    lr=_REQUIRED,
    rescale_grad=1.0,
    clip_gradient=-1.0,
    epsilon=1e-5,
)
_define("adagrad_update", ["history"], lr=_REQUIRED, epsilon=1e-7, **_COMMON)
#: functions of ``nd.sparse`` alone
SPARSE = {"adagrad_update": FUNCTIONS.pop("adagrad_update")}
del FUNCTIONS["mp_adagrad_update"]
for _name in ("signsgd", "signum", "adam", "rmsprop", "rmspropalex", "ftrl", "ftml"):
    del FUNCTIONS[f"mp_{_name}_update"]
del CONTRIB["mp_group_adagrad_update"]


# ---- LAMB, in two phases -------------------------------------------------------------------

_PHASE1 = {
    "beta1": 0.9,
    "beta2": 0.999,
    "epsilon": 1e-6,
    "t": _REQUIRED,
    "bias_correction": True,
    "wd": _REQUIRED,
    "rescale_grad": 1.0,
    "clip_gradient": -1.0,
}
_PHASE2 = {"lr": _REQUIRED, "lower_bound": -1.0, "upper_bound": -1.0}


def _phase1(name: str, mixed: bool) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        inputs = ["weight", "grad", "mean", "var", *(["weight32"] if mixed else [])]
        arrays, full, out = _sorted_out(name, inputs, dict(_PHASE1), args, kwargs)
        weight = arrays[-1] if mixed else arrays[0]
        raw = weight._read()
        direction = np.empty_like(raw)
        grad = arrays[1]._read().astype(raw.dtype, copy=False)
        xp.lamb_update_phase1(raw, grad, arrays[2]._write(), arrays[3]._write(), direction, **full)
        made = NDArray(direction, weight._ctx)
        return made if out is None else made.copyto(out)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = "Direction of LAMB (You et al., 2019); mean and var change in place."
    return run


def _phase2(name: str, mixed: bool) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        inputs = ["weight", "g", "r1", "r2", *(["weight32"] if mixed else [])]
        arrays, full, out = _sorted_out(name, inputs, dict(_PHASE2), args, kwargs)
        norms = [float(a._read().reshape(-1)[0]) for a in arrays[2:4]]
        direction = arrays[1]._read()
        if not mixed:
            made, buffer = _result(arrays[0], out)
            xp.lamb_update_phase2(buffer, direction, *norms, **full)
            return made
        master = arrays[4]._write()
        xp.lamb_update_phase2(master, direction, *norms, **full)
        made, buffer = _result(arrays[0], out)
        np.copyto(buffer, master, casting="unsafe")
        return made

    run.__name__ = run.__qualname__ = name
    run.__doc__ = "Weight moved along LAMB's direction `g`, r1 and r2 being the norms."
    return run


for _mixed in (False, True):
    _prefix = "mp_" if _mixed else ""
    FUNCTIONS[f"{_prefix}lamb_update_phase1"] = _phase1(f"{_prefix}lamb_update_phase1", _mixed)
    FUNCTIONS[f"{_prefix}lamb_update_phase2"] = _phase2(f"{_prefix}lamb_update_phase2", _mixed)
